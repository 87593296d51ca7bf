"""What a stage finds before it loads a model: configuration, files, model folder, lock."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets.exceptions
import pyarrow
import pyarrow.parquet
import pytest

from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.reasons import Reason
from finetune_api.spec import FineTuneJobSpec
from finetune_api.uris import HubSource
from finetune_trainer.config import load_config
from finetune_trainer.dataset import Rows, load_rows
from finetune_trainer.environment import environment
from finetune_trainer.failure import StageError, failure_of
from finetune_trainer.folder import open_run_folder
from finetune_trainer.hub import dataset_rows, resolve_revision
from finetune_trainer.local import local_config
from finetune_trainer.lock import fix_dataset, obtain_lock
from finetune_trainer.save import link_latest
from finetune_trainer.source import find_model

ROWS = [
    {"question": f"Which {number}?", "options": ["one", "two"], "answer": "two", "answer_idx": "B"}
    for number in range(3)
]


def make_config(claim: Path, **dataset: Any) -> RunConfig:
    spec = FineTuneJobSpec.model_validate(
        {
            "model": {"source": "pvc://work/model"},
            "dataset": {"source": "pvc://work/rows", **dataset},
            "output": {"destination": "pvc://work/out"},
            "runtime": {"gpusPerNode": 0},
        }
    ).resolved()
    return RunConfig(
        job=JobReference(namespace="ml", name="job", uid="uid-1"),
        spec=spec,
        spec_sha256=spec.sha256(),
        mounts=[ClaimMount(claim="work", path=str(claim))],
    )


def read(config: RunConfig) -> Rows:
    return load_rows(config, config.spec.dataset, "", config.spec.dataset.columns)


def refusal(action: Callable[[], object], reason: Reason) -> str:
    with pytest.raises(StageError) as caught:
        action()
    assert caught.value.reason is reason
    return str(caught.value)


def write_jsonl(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_json(path: Path, rows: list[Any]) -> None:
    path.write_text(json.dumps(rows))


def write_csv(path: Path, rows: list[Any]) -> None:
    lines = ["question,options,answer,answer_idx"]
    lines += [f'{row["question"]},"[""one"", ""two""]",{row["answer"]},{row["answer_idx"]}' for row in rows]
    path.write_text("\n".join(lines) + "\n")


def write_parquet(path: Path, rows: list[Any]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


WRITERS = {"jsonl": write_jsonl, "json": write_json, "csv": write_csv, "parquet": write_parquet}


@pytest.mark.parametrize("extension", WRITERS)
def test_every_file_format_gives_the_same_rows_and_digest(tmp_path: Path, extension: str) -> None:
    write_jsonl(tmp_path / "reference.jsonl", ROWS)
    WRITERS[extension](tmp_path / f"rows.{extension}", ROWS)
    reference = read(make_config(tmp_path, source="pvc://work/reference.jsonl"))
    rows = read(make_config(tmp_path, source=f"pvc://work/rows.{extension}"))
    assert rows.rows == reference.rows
    assert rows.sha256 == reference.sha256


def test_a_folder_gives_the_file_of_its_split(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    write_jsonl(tmp_path / "rows" / "train.jsonl", ROWS)
    write_jsonl(tmp_path / "rows" / "test.jsonl", ROWS[:1])
    assert len(read(make_config(tmp_path, split="test")).rows) == 1


def test_a_bad_line_is_named_by_its_number_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n\n{not json\n")
    config = make_config(tmp_path, source="pvc://work/rows.jsonl")
    assert "rows.jsonl row 3 is no JSON" in refusal(lambda: read(config), Reason.DATASET_INVALID)
    path.write_text(json.dumps(ROWS[0]) + "\n\n" + json.dumps({**ROWS[1], "answer_idx": "Z"}) + "\n")
    assert "rows.jsonl row 3: column 'answer_idx'" in refusal(lambda: read(config), Reason.DATASET_INVALID)


def test_a_csv_row_that_lacks_cells_is_named(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('question,options,answer,answer_idx\nWhich?,"[""one"", ""two""]"\n')
    config = make_config(tmp_path, source="pvc://work/rows.csv")
    assert "rows.csv row 1: column 'answer_idx': missing" in refusal(lambda: read(config), Reason.DATASET_INVALID)


def test_a_dataset_that_is_not_there_is_told_with_what_lies_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").touch()
    config = make_config(tmp_path, source="pvc://work/rows.jsonl")
    text = refusal(lambda: read(config), Reason.DATASET_NOT_FOUND)
    assert "pvc://work/rows.jsonl is not there" in text
    assert "other.jsonl" in text


def test_a_folder_without_the_split_and_an_unmounted_claim_are_told(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    text = refusal(lambda: read(make_config(tmp_path)), Reason.DATASET_NOT_FOUND)
    assert "none of train.jsonl, train.json, train.csv, train.parquet" in text
    elsewhere = make_config(tmp_path, source="pvc://elsewhere/rows.jsonl")
    assert "claim 'elsewhere' is not mounted" in refusal(lambda: read(elsewhere), Reason.DATASET_NOT_FOUND)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("rows.jsonl", b"", "has no rows"),
        ("rows.json", b"{}", "must hold a list of rows"),
        ("rows.parquet", b"PAR1 not really", "can't read rows.parquet"),
        ("rows.jsonl", b"\xff\xfe", "can't read rows.jsonl"),
        ("rows.txt", b"x", "must end in one of"),
    ],
)
def test_an_unusable_file_is_refused(tmp_path: Path, name: str, content: bytes, words: str) -> None:
    (tmp_path / name).write_bytes(content)
    config = make_config(tmp_path, source=f"pvc://work/{name}")
    assert words in refusal(lambda: read(config), Reason.DATASET_INVALID)


def test_hub_rows_come_with_their_number_and_a_missing_split_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "acme" / "rows").mkdir(parents=True)
    write_jsonl(tmp_path / "acme" / "rows" / "train.jsonl", ROWS)
    monkeypatch.chdir(tmp_path)  # `datasets` takes a folder of that name before it asks the hub
    source = HubSource("acme/rows")
    assert list(dataset_rows(source, "main", "train")) == list(enumerate(ROWS, start=1))
    refusal(lambda: list(dataset_rows(source, "main", "nosuch")), Reason.DATASET_NOT_FOUND)


def test_a_hub_dataset_that_is_a_script_or_has_broken_files_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    (tmp_path / "acme" / "script").mkdir(parents=True)
    (tmp_path / "acme" / "script" / "script.py").touch()
    script = HubSource("acme/script")
    text = refusal(lambda: list(dataset_rows(script, "main", "train")), Reason.DATASET_NOT_FOUND)
    assert "hf://acme/script split 'train': Dataset scripts are no longer supported" in text
    (tmp_path / "acme" / "broken").mkdir()
    (tmp_path / "acme" / "broken" / "train.parquet").write_bytes(b"PAR1 not really")
    broken = HubSource("acme/broken")
    text = refusal(lambda: list(dataset_rows(broken, "main", "train")), Reason.DATASET_INVALID)
    assert "hf://acme/broken split 'train': Parquet magic bytes not found" in text
    (tmp_path / "acme" / "mixed").mkdir()
    write_jsonl(tmp_path / "acme" / "mixed" / "train-1.jsonl", ROWS)
    write_jsonl(tmp_path / "acme" / "mixed" / "train-2.jsonl", [{**ROWS[0], "extra": 1}])
    mixed = HubSource("acme/mixed")
    text = refusal(lambda: list(dataset_rows(mixed, "main", "train")), Reason.DATASET_INVALID)
    assert "Couldn't cast … because column names don't match" in text


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Reason.STORAGE_FULL),
        (ConnectionError("peer closed connection"), Reason.TRAINER_CRASHED),
    ],
)
def test_a_full_cache_or_a_lost_connection_is_not_the_datasets_fault(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, reason: Reason
) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetGenerationError("An error occurred while generating the dataset") from cause

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)  # neither failure can be had on demand
    with pytest.raises(datasets.exceptions.DatasetGenerationError) as caught:
        list(dataset_rows(HubSource("acme/rows"), "main", "train"))
    assert failure_of(caught.value).reason is reason


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
