"""The FineTuneJob controller, put together, and the ConfigMaps that it reads beside its jobs."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from finetune_operator.finetunejob.job_object import JobObject
from finetune_operator.finetunejob.kinds import CONFIG_MAP, FINETUNEJOB, JOB, POD, ConfigMap
from finetune_operator.finetunejob.reconcile import Reconciler
from finetune_operator.runtime.controller import Controller
from finetune_operator.runtime.events import Recorder
from finetune_operator.runtime.informer import Informer
from finetune_operator.runtime.requests import Kube
from finetune_operator.runtime.store import Store
from finetune_operator.settings import Settings


def config_map_informer(settings: Settings) -> Informer:
    """Profiles and the gateway's CA, in the operator's namespace."""
    return Informer(Store[ConfigMap](CONFIG_MAP), CONFIG_MAP, namespaces=(settings.operator_namespace,))


def finetunejob_controller(
    kube: Kube, recorder: Recorder, config_maps: Store[ConfigMap], settings: Settings
) -> Controller[JobObject]:
    """The controller of FineTuneJobs with their Jobs and pods."""
    return Controller(
        FINETUNEJOB,
        (JOB, POD),
        lambda store: Reconciler(kube, store, config_maps, recorder, settings, lambda: datetime.now(UTC)).reconcile,
        namespaces=settings.watch_namespaces,
        clock=time.monotonic,
    )
