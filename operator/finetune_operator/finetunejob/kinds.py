"""What the runtime needs to know of FineTuneJobs: how they and their children are read, and what change is news."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from finetune_api.names import FOLDER_ANNOTATION, GROUP, JOB_LABEL, PLURAL, VERSION
from finetune_operator.finetunejob.job_object import JobObject, read_job
from finetune_operator.runtime.resources import CONFIG_MAPS, JOBS, PODS, Object, Resource
from finetune_operator.runtime.store import ChildKind, OwnerKind
from finetune_operator.workload.objects import Job, Pod
from finetune_operator.workload.profile import LoadedProfile, ProfileProblem, config_map_name, parse_profile

# The index in which FineTuneJobs, Jobs and pods stand that write to a run's folder, under (namespace, folder).
FOLDER = "folder"
_PROFILE_PREFIX = config_map_name("")


@dataclass(frozen=True)
class ConfigMap:
    """A ConfigMap of the operator's namespace; a profile's with what it says."""

    data: dict[str, str]
    profile: LoadedProfile | ProfileProblem | None


def _owner(raw: Object) -> str:
    return str((raw["metadata"].get("labels") or {}).get(JOB_LABEL, ""))


def _news(before: JobObject, after: JobObject) -> bool:
    """Whether a change needs a pass. Progress comes every few seconds and is for people."""
    return (
        before.metadata.generation != after.metadata.generation
        or before.metadata.deletion_timestamp != after.metadata.deletion_timestamp
        or before.status.model_copy(update={"progress": None}) != after.status.model_copy(update={"progress": None})
    )


def _settled(job: JobObject) -> bool:
    return job.finished and job.status.observed_generation == job.metadata.generation


def _job_folder(job: JobObject) -> Hashable | None:
    return (job.metadata.namespace, job.spec.folder) if job.spec and not job.finished else None


def _child_folder(child: Job) -> Hashable | None:
    folder = child.metadata.annotations.get(FOLDER_ANNOTATION)
    return (child.metadata.namespace, folder) if folder and not child.finished else None


def _pod_folder(pod: Pod) -> Hashable | None:
    folder = pod.metadata.annotations.get(FOLDER_ANNOTATION)
    return (pod.metadata.namespace, folder) if folder and pod.live else None


FINETUNEJOB = OwnerKind[JobObject](
    Resource(GROUP, VERSION, PLURAL), read_job, news=_news, settled=_settled, indices={FOLDER: _job_folder}
)
JOB = ChildKind[Job](
    JOBS,
    JOB_LABEL,
    Job.model_validate,
    owner=_owner,
    ended=lambda job: job.finished,
    indices={FOLDER: _child_folder},
)
POD = ChildKind[Pod](
    PODS,
    JOB_LABEL,
    Pod.model_validate,
    owner=_owner,
    ended=lambda pod: not pod.live,
    keeps_deleted=True,
    indices={FOLDER: _pod_folder},
)


def _read_config_map(raw: Object, before: ConfigMap | None) -> ConfigMap:
    name, namespace, data = raw["metadata"]["name"], raw["metadata"]["namespace"], raw.get("data") or {}
    if not name.startswith(_PROFILE_PREFIX):
        return ConfigMap(data, None)
    return ConfigMap(data, parse_profile(name.removeprefix(_PROFILE_PREFIX), namespace, data))


# The administrator's profiles and the gateway's CA. Nothing is reconciled: passes over jobs read them.
CONFIG_MAP = OwnerKind[ConfigMap](
    CONFIG_MAPS, _read_config_map, news=lambda before, after: False, settled=lambda config_map: False
)
