"""Rows as files on a claim and on the hub, and what is said of those that can't be read."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import datasets.exceptions
import pyarrow
import pyarrow.parquet
import pytest

from finetune_api.reasons import Reason
from finetune_api.uris import HubSource
from finetune_trainer.sources.hub import dataset_rows
from finetune_trainer.stage.failure import failure_of
from trainer_inputs import ROWS, make_config, read, refusal


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
