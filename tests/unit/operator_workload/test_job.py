"""The children of several specs, as golden files. UPDATE_GOLDEN=1 rewrites them: review the difference."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_api.config import RunConfig
from finetune_api.job import ObjectMeta
from finetune_api.reasons import FREE_EXIT_CODES, NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL
from finetune_api.spec import FineTuneJobSpec
from finetune_operator.workload.job import Gateway, Order, claims, config_map, stage_job
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
trustRemoteCode: true
env: [{name: HF_ENDPOINT, value: "https://mirror.example"}]
"""
SAMPLES = ROOT / "manifests/samples"
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
}


def order(case: str) -> Order:
    """What a case's children are built from."""
    document, profile, gateway = CASES[case]
    metadata = ObjectMeta.model_validate(document["metadata"] | {"uid": "11111111-2222-3333-4444-555555555555"})
    loaded = parse_profile("default", "finetune-system", {"profile.yaml": profile})
    assert isinstance(loaded, LoadedProfile), loaded
    return Order(metadata, FineTuneJobSpec.model_validate(document["spec"]).resolved(), loaded, gateway)


def children(case: str) -> list[dict[str, Any]]:
    """A case's ConfigMap and Jobs."""
    made = order(case)
    jobs = [stage_job(made, "Train")] + ([stage_job(made, "Evaluate")] if made.spec.evaluation else [])
    return [config_map(made), *jobs]


def pod(case: str) -> dict[str, Any]:
    """The pod spec of a case's training."""
    spec: dict[str, Any] = stage_job(order(case), "Train")["spec"]["template"]["spec"]
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


@pytest.mark.parametrize("case", CASES)
def test_the_children_of_a_spec_are_what_the_golden_file_says(case: str) -> None:
    path = GOLDEN / f"{case}.yaml"
    text = yaml.dump_all(children(case), Dumper=Dumper, sort_keys=False, width=1000)
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert list(yaml.safe_load_all(path.read_text())) == children(case)


@pytest.mark.parametrize("case", CASES)
def test_the_configuration_reads_back_as_the_trainer_s_model(case: str) -> None:
    config = RunConfig.model_validate_json(children(case)[0]["data"]["config.json"])
    assert config.spec == order(case).spec
    assert config.spec_sha256 == config.spec.sha256()
    mounted = {mount["mountPath"] for mount in pod(case)["containers"][0]["volumeMounts"]}
    assert {mount.path for mount in config.mounts} <= mounted


@pytest.mark.parametrize("case", CASES)
def test_no_child_carries_a_null_or_mounts_one_path_twice(case: str) -> None:
    text = json.dumps(children(case)[1:])
    assert "null" not in text
    for job in children(case)[1:]:
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


def test_a_claim_that_is_also_the_cache_is_one_volume() -> None:
    volumes = [volume for volume in pod("training-only")["volumes"] if "persistentVolumeClaim" in volume]
    assert [volume["persistentVolumeClaim"]["claimName"] for volume in volumes] == ["weights", "rows.v2"]


def test_gpus_are_asked_for_by_the_profile_s_resource_and_only_when_wanted() -> None:
    wanted = pod("full-profile")["containers"][0]["resources"]
    assert wanted["limits"]["nvidia.com/mig-1g.10gb"] == "1"
    assert set(pod("cpu-without-gateway")["containers"][0]["resources"]["limits"]) == {"memory"}


def test_the_user_s_node_selector_wins_over_the_profile_s_and_tolerations_add_up() -> None:
    placed = pod("full-profile")
    assert placed["nodeSelector"] == {"pool": "gpu", "cloud.google.com/gke-accelerator": "nvidia-tesla-t4"}
    assert [one["key"] for one in placed["tolerations"]] == ["nvidia.com/gpu", "spot"]


def test_the_failure_policy_lets_a_disruption_win_over_any_exit_code() -> None:
    rules = stage_job(order("training-only"), "Train")["spec"]["podFailurePolicy"]["rules"]
    assert rules[0]["onPodConditions"][0]["type"] == "DisruptionTarget"
    assert [rule["action"] for rule in rules] == ["Ignore", "Ignore", "FailJob"]
    assert rules[1]["onExitCodes"]["values"] == FREE_EXIT_CODES
    assert rules[2]["onExitCodes"]["values"] == [*NEVER_EXIT_CODES, OUT_OF_MEMORY_KILL]


def test_a_token_is_for_this_object_alone_and_for_nobody_without_a_gateway() -> None:
    tokens = [volume for volume in pod("full-profile")["volumes"] if volume["name"] == "token"]
    audience = tokens[0]["projected"]["sources"][0]["serviceAccountToken"]["audience"]
    assert audience.endswith("/11111111-2222-3333-4444-555555555555")
    assert all(volume["name"] != "token" for volume in pod("cpu-without-gateway")["volumes"])
