"""The files of a dataset on a claim, and what is said when they aren't there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_api.reasons import Reason
from finetune_trainer.sources.claim import claim_rows
from finetune_trainer.sources.rows import FileRows
from trainer_inputs import refusal


def make(claim: Path, *names: str) -> None:
    """Files of one row that holds the file's own name."""
    for name in names:
        path = claim / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = f"file\n{name}\n" if path.suffix == ".csv" else json.dumps({"file": name})
        path.write_text(text)


def rows(claim: Path, path: str = "rows", split: str = "train") -> FileRows:
    return claim_rows(claim / path, f"pvc://work/{path}", split, "spec.dataset")


def read(claim: Path, path: str = "rows", split: str = "train") -> list[object]:
    return [raw["file"] for _, raw in rows(claim, path, split).rows() if isinstance(raw, dict)]


def test_a_file_gives_itself_and_a_folder_the_file_of_its_split(tmp_path: Path) -> None:
    make(tmp_path, "rows/train.jsonl", "rows/test.csv", "rows/training.jsonl")
    assert read(tmp_path, "rows", "test") == ["rows/test.csv"]
    assert read(tmp_path) == ["rows/train.jsonl"]
    assert read(tmp_path, "rows/train.jsonl", "test") == ["rows/train.jsonl"]


def test_shards_of_a_split_are_read_in_the_order_of_their_names(tmp_path: Path) -> None:
    make(tmp_path, *(f"rows/train-{name}.jsonl" for name in ("b", "00", "a")), "rows/test-00.jsonl", "rows/about.txt")
    assert read(tmp_path) == [f"rows/train-{name}.jsonl" for name in ("00", "a", "b")]
    assert [place for place, _ in rows(tmp_path).rows()] == [f"train-{one}.jsonl row 1" for one in ("00", "a", "b")]
    assert rows(tmp_path).name == "pvc://work/rows train"


def test_a_folder_of_the_splits_name_holds_its_files(tmp_path: Path) -> None:
    make(tmp_path, "rows/train/2.csv", "rows/train/1.csv", "rows/train/.hidden.csv", "rows/test/1.csv")
    make(tmp_path, "rows/train/deeper/3.csv", "rows/train/README.md")
    assert read(tmp_path) == ["rows/train/1.csv", "rows/train/2.csv"]


@pytest.mark.parametrize(
    ("names", "named"),
    [
        (("train.jsonl", "train.csv"), "train.csv, train.jsonl"),
        (("train.jsonl", "train.jsonl.gz"), "train.jsonl, train.jsonl.gz"),
        (("train.jsonl", "train-00.jsonl", "train-01.jsonl"), "train-00.jsonl, train.jsonl"),
        (("train.csv", "train/a.csv"), "train.csv, train/a.csv"),
        (("train-00.jsonl", "train-01.parquet"), "train-00.jsonl, train-01.parquet"),
    ],
)
def test_a_split_that_is_there_in_more_than_one_way_is_refused_by_name(
    tmp_path: Path, names: tuple[str, ...], named: str
) -> None:
    make(tmp_path, *(f"rows/{name}" for name in names))
    text = refusal(lambda: rows(tmp_path), Reason.DATASET_NOT_FOUND)
    assert text.startswith("pvc://work/rows has split train in more than one way: ")
    assert set(named.split(", ")) <= set(text.rpartition(": ")[2].split(", "))


def test_shards_that_count_more_of_themselves_than_there_are_are_refused(tmp_path: Path) -> None:
    make(tmp_path, "rows/train-00000-of-00003.jsonl", "rows/train-00002-of-00003.jsonl")
    text = refusal(lambda: rows(tmp_path), Reason.DATASET_INVALID)
    assert text.startswith("pvc://work/rows holds 2 of shards that count 3: train-00000-of-00003.jsonl")
    make(tmp_path, "rows/train-00001-of-00003.jsonl")
    assert len(read(tmp_path)) == 3
    make(tmp_path, "rows/train-00000-of-00002.jsonl")
    refusal(lambda: rows(tmp_path), Reason.DATASET_INVALID)


def test_a_folder_without_the_split_is_told_with_what_it_holds(tmp_path: Path) -> None:
    make(tmp_path, "rows/trains.jsonl", "rows/test.csv")
    text = refusal(lambda: rows(tmp_path), Reason.DATASET_NOT_FOUND)
    assert "none of train.jsonl, train.json, train.csv, train.parquet" in text
    assert text.endswith("there is test.csv, trains.jsonl")


def test_a_dataset_that_is_not_there_is_told_with_what_lies_in_its_place(tmp_path: Path) -> None:
    make(tmp_path, "other.jsonl")
    text = refusal(lambda: rows(tmp_path, "rows.jsonl"), Reason.DATASET_NOT_FOUND)
    assert text == f"pvc://work/rows.jsonl is not there; {tmp_path} holds other.jsonl"


@pytest.mark.parametrize("name", ["rows.txt", "rows.parquet.gz", "rows", "rows.jsonl.zip"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    text = refusal(lambda: rows(tmp_path, name), Reason.DATASET_INVALID)
    assert "must end in one of .jsonl, .json, .csv, .parquet" in text


def test_the_key_of_the_content_changes_with_bytes_names_and_order_only(tmp_path: Path) -> None:
    make(tmp_path, "rows/train-1.jsonl", "rows/train-2.jsonl", "rows/test.jsonl")
    key = rows(tmp_path).content_key()
    make(tmp_path, "rows/train-1.jsonl", "rows/test-1.jsonl")  # written anew, and another split
    assert rows(tmp_path).content_key() == key
    one, two = tmp_path / "rows" / "train-1.jsonl", tmp_path / "rows" / "train-2.jsonl"
    one.rename(tmp_path / "rows" / "train-3.jsonl")
    assert rows(tmp_path).content_key() != key
    (tmp_path / "rows" / "train-3.jsonl").rename(one)
    assert rows(tmp_path).content_key() == key
    two.write_text(two.read_text().replace("-2", "-9"))
    assert rows(tmp_path).content_key() != key
