"""The Jobs of several specs, as golden files. UPDATE_GOLDEN=1 rewrites them: review the difference."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.config import ClaimMount, RunConfig
from finetune_api.defaults import resolve
from finetune_api.job import ObjectMeta
from finetune_api.names import CA_ANNOTATION, CONFIG_ANNOTATION, FOLDER_ANNOTATION, TRAINING_ANNOTATION
from finetune_api.reasons import FREE_EXIT_CODES, NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL, Reason, exit_code
from finetune_api.run_folder import run_folder
from finetune_api.spec import FineTuneJobSpec
from finetune_api.stages import EVALUATE, TRAIN, stages_of
from finetune_operator.workload.job import build
from finetune_operator.workload.order import Gateway, Order, claims
from finetune_operator.workload.profile import LoadedProfile, parse_profile

ROOT = Path(__file__).parents[3]
GOLDEN = ROOT / "tests/data/golden"
PLAIN = "image: registry.example/trainer@sha256:0123\n"
FULL = """
image: registry.example/trainer:2
imagePullPolicy: Always
imagePullSecrets: [registry]
gpuResourceName: nvidia.com/mig-1g.10gb
runtimeClassName: nvidia
nodeSelector: {pool: gpu, cloud.google.com/gke-accelerator: any}
tolerations: [{key: spot, operator: Exists}]
affinity: {nodeAffinity: {}}
serviceAccountName: trainer
fsGroup: 2000
runAsUser: 1000
shmSize: 1Gi
cacheClaim: hub-cache
allowedNamespaces: [default, research]
trustRemoteCode: true
terminationGracePeriodSeconds: 600
env: [{name: HF_ENDPOINT, value: "https://mirror.example"}]
"""
SAMPLES = ROOT / "manifests/samples"
LONGEST = ".".join(("a" * 63, "b" * 63, "c" * 63, "d" * 60))


def many_sources() -> dict[str, Any]:
    """As many claims and Secrets as a spec can name, with the longest names."""

    def source(number: int) -> dict[str, Any]:
        name = f"{LONGEST}{number:x}"
        return {"source": f"pvc://{name}/a", "secretRef": {"name": name}}

    mixture = [{"name": f"m{number}", **source(number)} for number in range(8)]
    return {
        "metadata": {"name": "many", "namespace": "ml"},
        "spec": {
            "model": {**source(8), "adapter": source(11)},
            "dataset": {**source(9), "mixture": mixture, "validation": source(12), "replay": source(13)},
            "evaluation": {
                "dataset": source(10),
                "retention": source(14),
                "judge": {
                    "endpoint": "https://judge.example/v1",
                    "model": "judge",
                    "secretRef": {"name": f"{LONGEST}z"},
                },
            },
            "tracking": {
                "mlflow": {"secretRef": {"name": f"{LONGEST}x"}},
                "wandb": {"secretRef": {"name": f"{LONGEST}y"}},
            },
            "training": {"checkpoint": {"claimName": f"{LONGEST}g"}},
            "output": {"destination": f"pvc://{LONGEST}f/a"},
        },
    }


CASES: dict[str, tuple[dict[str, Any], str, Gateway | None]] = {
    "full-profile": (
        yaml.safe_load((SAMPLES / "medqa-finetune.yaml").read_text()),
        FULL,
        Gateway("https://finetune-gateway.finetune-system.svc", "-----BEGIN CERTIFICATE-----\n"),
    ),
    "cpu-without-gateway": (yaml.safe_load((SAMPLES / "medqa-tiny.yaml").read_text()), PLAIN, None),
    "training-only": (
        {
            "metadata": {"name": "only", "namespace": "ml"},
            "spec": {
                "model": {"source": "pvc://weights/llama"},
                "dataset": {"source": "pvc://rows.v2/train.jsonl"},
                "output": {"destination": "pvc://weights/out"},
            },
        },
        PLAIN + "cacheClaim: weights\n",
        None,
    ),
    "mixture": (yaml.safe_load((SAMPLES / "mixture-finetune.yaml").read_text()), PLAIN, None),
    "evaluation-alone": (yaml.safe_load((SAMPLES / "evaluate-adapter.yaml").read_text()), PLAIN, None),
    "many-sources": (many_sources(), PLAIN, None),
}


def order(case: str) -> Order:
    """What a case's children are built from."""
    document, profile, gateway = CASES[case]
    metadata = ObjectMeta.model_validate(document["metadata"] | {"uid": "11111111-2222-3333-4444-555555555555"})
    loaded = parse_profile("default", "finetune-system", {"profile.yaml": profile})
    assert isinstance(loaded, LoadedProfile), loaded
    spec = resolve(FineTuneJobSpec.model_validate(document["spec"]))
    digest = spec.training_sha256()
    folder = str(run_folder(spec.output.destination, digest))
    return Order(metadata, spec, digest, folder, loaded, gateway)


def children(case: str) -> list[dict[str, Any]]:
    """A case's Jobs."""
    made = order(case)
    return [build(made, stage, 0) for stage in stages_of(made.spec)]


def pod(case: str) -> dict[str, Any]:
    """The pod spec of a case's training."""
    spec: dict[str, Any] = build(order(case), TRAIN, 0)["spec"]["template"]["spec"]
    return spec


class Dumper(yaml.SafeDumper):
    """Repeats values instead of anchors, and shows long texts as blocks."""

    def ignore_aliases(self, data: Any) -> bool:
        """No anchors."""
        return True


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


@pytest.mark.parametrize("case", [case for case in CASES if case != "many-sources"])
def test_the_children_of_a_spec_are_what_the_golden_file_says(case: str) -> None:
    path = GOLDEN / f"{case}.yaml"
    text = yaml.dump_all(children(case), Dumper=Dumper, sort_keys=False, width=1000)
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert list(yaml.safe_load_all(path.read_text())) == children(case)


@pytest.mark.parametrize("case", CASES)
def test_the_configuration_reads_back_as_the_trainer_s_model(case: str) -> None:
    made = order(case)
    for job in children(case):
        annotations = job["spec"]["template"]["metadata"]["annotations"]
        config = RunConfig.model_validate_json(annotations[CONFIG_ANNOTATION])
        assert config.spec == made.spec
        assert config.training_sha256 == config.spec.training_sha256()
        assert config.evaluation_sha256 == config.spec.evaluation_sha256()
        assert annotations.get(CA_ANNOTATION) == (made.gateway.ca if made.gateway else None)
        mounted = {mount["mountPath"] for mount in pod(case)["containers"][0]["volumeMounts"]}
        assert {mount.path for mount in config.mounts} <= mounted


def test_the_pod_reads_its_configuration_as_files_that_can_change_no_more_than_its_job() -> None:
    config = next(volume for volume in pod("full-profile")["volumes"] if volume["name"] == "config")
    assert config["downwardAPI"]["items"] == [
        {"path": "config.json", "fieldRef": {"fieldPath": "metadata.annotations['finetune.dev/config']"}},
        {"path": "ca.crt", "fieldRef": {"fieldPath": "metadata.annotations['finetune.dev/gateway-ca']"}},
    ]
    without = next(volume for volume in pod("training-only")["volumes"] if volume["name"] == "config")
    assert [item["path"] for item in without["downwardAPI"]["items"]] == ["config.json"]


def test_job_and_pod_say_what_they_train_and_where() -> None:
    made = order("training-only")
    job = build(made, TRAIN, 0)
    for meta in (job["metadata"], job["spec"]["template"]["metadata"]):
        assert meta["annotations"][TRAINING_ANNOTATION] == made.training_sha256
        assert meta["annotations"][FOLDER_ANNOTATION] == f"pvc://weights/out/{made.training_sha256[:12]}"


def test_crashes_under_earlier_jobs_are_taken_off_the_limit() -> None:
    made = order("training-only")
    limits = [build(made, TRAIN, crashes)["spec"]["backoffLimit"] for crashes in (0, 2, 9)]
    assert limits == [made.spec.scheduling.backoff_limit, made.spec.scheduling.backoff_limit - 2, 0]


def test_a_pod_that_is_told_to_stop_gets_the_time_that_the_profile_gives() -> None:
    grace = [pod(case)["terminationGracePeriodSeconds"] for case in ("training-only", "full-profile")]
    assert grace == [60, 600]


@pytest.mark.parametrize("case", CASES)
def test_no_child_carries_a_null_or_mounts_one_path_twice(case: str) -> None:
    for job in children(case):
        annotations = job["spec"]["template"]["metadata"].pop("annotations")
        assert None not in annotations.values()
        assert "null" not in json.dumps(job)
        paths = [mount["mountPath"] for mount in job["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]]
        assert len(paths) == len(set(paths))


def test_only_the_output_claim_is_mounted_for_writing() -> None:
    made = order("full-profile")
    claim = made.spec.output.destination.removeprefix("pvc://").split("/")[0]
    mounts = pod("training-only")["containers"][0]["volumeMounts"]
    assert claims(made.spec) == [claim]
    by_path = {mount["mountPath"]: mount.get("readOnly", False) for mount in mounts}
    assert by_path["/mnt/claims/weights"] is False
    assert by_path["/mnt/claims/rows.v2"] is True


def test_the_claim_of_checkpoints_is_mounted_for_writing_too() -> None:
    made = order("training-only")
    checkpoint = made.spec.training.checkpoint.model_copy(update={"claim_name": "scratch"})
    training = made.spec.training.model_copy(update={"checkpoint": checkpoint})
    made = replace(made, spec=made.spec.model_copy(update={"training": training}))
    assert claims(made.spec)[-1] == "scratch"
    assert made.config(EVALUATE).mounts[-1] == ClaimMount(claim="scratch", path="/mnt/claims/scratch")
    mounts = build(made, TRAIN, 0)["spec"]["template"]["spec"]["containers"][0]["volumeMounts"]
    by_path = {mount["mountPath"]: mount.get("readOnly", False) for mount in mounts}
    assert by_path["/mnt/claims/weights"] is by_path["/mnt/claims/scratch"] is False
    assert by_path["/mnt/claims/rows.v2"] is True


def test_a_claim_that_is_also_the_cache_is_one_volume() -> None:
    volumes = [volume for volume in pod("training-only")["volumes"] if "persistentVolumeClaim" in volume]
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in volumes] == ["weights", "rows.v2"]


def test_a_secret_that_two_sources_name_is_mounted_once_and_for_reading() -> None:
    spec = pod("mixture")
    assert [one["secret"] for one in spec["volumes"] if "secret" in one] == [{"secretName": "rows-bucket"}]
    mounts = [one for one in spec["containers"][0]["volumeMounts"] if one["name"] == "secret-0"]
    assert mounts == [{"name": "secret-0", "mountPath": "/mnt/secrets/rows-bucket", "readOnly": True}]
    assert [(one.name, one.path) for one in order("mixture").config(EVALUATE).secrets] == [
        ("rows-bucket", "/mnt/secrets/rows-bucket")
    ]


def test_as_many_claims_and_secrets_as_a_spec_can_name_are_mounted_whatever_their_names() -> None:
    volumes = pod("many-sources")["volumes"]
    assert len([one for one in volumes if "secret" in one]) == 17
    assert len([one for one in volumes if "persistentVolumeClaim" in one]) == 17
    assert max(len(one["name"]) for one in volumes) <= 63
    config = order("many-sources").config(EVALUATE)
    assert (len(config.mounts), len(config.secrets), len(config.secrets[0].name)) == (17, 18, 253)


def test_a_judges_secret_is_mounted_by_the_evaluation_alone() -> None:
    made = order("many-sources")
    found = {}
    for stage in stages_of(made.spec):
        job = json.dumps(build(made, stage, 0)["spec"]["template"]["spec"])
        found[stage.name] = (f"{LONGEST}z" in job, f"{LONGEST}z" in [one.name for one in made.config(stage).secrets])
    assert found == {"Train": (False, False), "Evaluate": (True, True)}


def test_gpus_are_asked_for_by_the_profile_s_resource_and_only_when_wanted() -> None:
    wanted = pod("full-profile")["containers"][0]["resources"]
    assert wanted["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert set(pod("cpu-without-gateway")["containers"][0]["resources"]["limits"]) == {"memory"}


def test_the_profile_s_node_selector_wins_over_the_user_s_and_tolerations_add_up() -> None:
    placed, asked = pod("full-profile"), order("full-profile").spec.runtime.node_selector
    assert asked == {"cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    assert placed["nodeSelector"] == {"pool": "gpu", "cloud.google.com/gke-accelerator": "any"}
    assert [one["key"] for one in placed["tolerations"]] == ["nvidia.com/gpu", "spot"]


def test_the_failure_policy_lets_a_disruption_win_over_any_exit_code() -> None:
    rules = build(order("training-only"), TRAIN, 0)["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert [rule["action"] for rule in rules] == ["Ignore", "Ignore", "FailJob"]
    assert rules[1]["onExitCodes"]["values"] == FREE_EXIT_CODES
    assert rules[2]["onExitCodes"]["values"] == [*NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL]
    assert [rule["onExitCodes"]["containerName"] for rule in rules[1:]] == ["trainer", "trainer"]
    assert {exit_code(Reason.INTERRUPTED), exit_code(Reason.FOLDER_BUSY)} <= set(FREE_EXIT_CODES)


def test_a_token_is_for_this_object_alone_and_for_nobody_without_a_gateway() -> None:
    tokens = [volume for volume in pod("full-profile")["volumes"] if volume["name"] == "token"]
    audience = tokens[0]["projected"]["sources"][0]["serviceAccountToken"]["audience"]
    assert audience.endswith("/11111111-2222-3333-4444-555555555555")
    assert all(volume["name"] != "token" for volume in pod("cpu-without-gateway")["volumes"])
