"""What a stage finds before it loads a model: configuration, model folder, lock, device, output folder."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from finetune_api.config import JobReference
from finetune_api.reasons import Reason
from finetune_trainer.local_run import local_config
from finetune_trainer.models.adapter_files import link_latest
from finetune_trainer.sources.hub import resolve_revision
from finetune_trainer.sources.model import find_model
from finetune_trainer.sources.pins import fix_dataset, obtain_lock
from finetune_trainer.stage.config import load_config
from finetune_trainer.stage.environment import environment
from finetune_trainer.stage.failure import StageError, failure_of
from finetune_trainer.stage.run_folder import open_run_folder
from trainer_inputs import make_config, refusal


def test_a_claim_has_no_revision_to_resolve() -> None:
    assert resolve_revision("pvc://work/model", "main", "model") == ""


def test_a_model_folder_must_hold_a_configuration(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert "pvc://work/model is not there" in refusal(lambda: find_model(config, ""), Reason.MODEL_NOT_FOUND)
    (tmp_path / "model").mkdir()
    assert "has no config.json" in refusal(lambda: find_model(config, ""), Reason.MODEL_NOT_FOUND)
    (tmp_path / "model" / "config.json").write_text("{}")
    assert find_model(config, "").name == str(tmp_path / "model")


def test_a_retry_obeys_the_lock_and_another_object_does_not(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    folder = open_run_folder(config)
    first = fix_dataset(obtain_lock(config, folder), "a" * 64, folder)
    assert obtain_lock(config, folder) == first
    other = config.model_copy(update={"job": JobReference(namespace="ml", name="job", uid="uid-2")})
    assert obtain_lock(other, folder).dataset_sha256 == ""


def test_rows_that_changed_between_two_attempts_are_refused(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    folder = open_run_folder(config)
    lock = fix_dataset(obtain_lock(config, folder), "a" * 64, folder)
    text = refusal(lambda: fix_dataset(lock, "b" * 64, folder), Reason.DATASET_INVALID)
    assert "changed since the first attempt" in text


def test_a_local_run_refuses_unknown_fields_and_names_them(tmp_path: Path) -> None:
    job = {
        "apiVersion": "finetune.dev/v1alpha1",
        "kind": "FineTuneJob",
        "metadata": {"name": "job"},
        "spec": {
            "model": {"source": "pvc://work/model"},
            "dataset": {"source": "pvc://work/rows"},
            "output": {"destination": "pvc://work/out"},
        },
    }
    file = tmp_path / "job.yaml"
    file.write_text(json.dumps(job))
    config = local_config(file, [f"work={tmp_path}"])
    assert config.spec.training.epochs == 3
    assert config.local_path(config.run_uri) == tmp_path / "out" / config.spec_sha256[:12]
    job["spec"]["training"] = {"learningRte": "2e-4"}  # type: ignore[index]
    file.write_text(json.dumps(job))
    text = refusal(lambda: local_config(file, []), Reason.INVALID_SPEC)
    assert "spec.training.learningRte" in text


@pytest.mark.parametrize("mount", ["work", "work=/no/such/folder", "=/tmp"])
def test_a_mount_must_be_a_claim_and_a_folder(tmp_path: Path, mount: str) -> None:
    file = tmp_path / "job.yaml"
    file.write_text(
        "{apiVersion: finetune.dev/v1alpha1, kind: FineTuneJob, metadata: {name: a}, spec: {model: {source: hf://a/b}, "
        "dataset: {source: hf://a/c}, output: {destination: pvc://work/out}}}"
    )
    assert "must be CLAIM=FOLDER" in refusal(lambda: local_config(file, [mount]), Reason.INVALID_SPEC)


def test_a_run_configuration_that_does_not_parse_names_the_field(tmp_path: Path) -> None:
    file = tmp_path / "config.json"
    document = make_config(tmp_path).model_dump(mode="json", by_alias=True, exclude_none=True)
    document["spec"]["training"]["batchSize"] = 0
    file.write_text(json.dumps(document))
    assert "spec.training.batchSize" in refusal(lambda: load_config(file), Reason.INVALID_SPEC)
    assert "can't read" in refusal(lambda: load_config(tmp_path / "none.json"), Reason.INVALID_SPEC)


def test_the_hub_is_off_only_when_every_source_is_a_claim(tmp_path: Path) -> None:
    assert environment(make_config(tmp_path))["HF_HUB_OFFLINE"] == "1"
    assert "HF_HUB_OFFLINE" not in environment(make_config(tmp_path, source="hf://acme/rows"))


def test_the_cpu_stands_in_for_a_gpu_only_when_none_was_asked_for(tmp_path: Path) -> None:
    config = make_config(tmp_path)
    assert environment(config)["UNSLOTH_FORCE_CPU"] == "1"
    assert environment(config)["OMP_WAIT_POLICY"] == "PASSIVE"
    runtime = config.spec.runtime.model_copy(update={"gpus_per_node": 1})
    asking = config.model_copy(update={"spec": config.spec.model_copy(update={"runtime": runtime})})
    variables = environment(asking)
    assert variables["UNSLOTH_DISABLE_CPU_FALLBACK"] == "1"
    assert "UNSLOTH_FORCE_CPU" not in variables
    assert "CUDA_VISIBLE_DEVICES" not in variables


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS])
def test_a_destination_that_cannot_be_written_is_told_with_the_group_that_opens_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(path: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code), str(path))

    monkeypatch.setattr(Path, "touch", refuse)  # root may write anywhere, and a test can't mount
    with pytest.raises(StageError) as caught:
        open_run_folder(make_config(tmp_path))
    failure = failure_of(caught.value)
    assert failure.reason is Reason.INVALID_SPEC
    assert f"spec.output.destination pvc://work/out can't be written by this pod's user: [Errno {code}]" in (
        failure.message
    )
    assert "set fsGroup in the profile" in failure.message
    assert "correct the field" not in failure.message


def test_latest_is_pointed_at_the_run_over_a_link_that_a_killed_attempt_left(tmp_path: Path) -> None:
    folder = open_run_folder(make_config(tmp_path))
    draft = folder.path.parent / f".latest-{os.getpid()}"
    draft.symlink_to("nowhere")
    link_latest(folder)
    assert (folder.path.parent / "latest").resolve() == folder.path
    assert not draft.is_symlink()
