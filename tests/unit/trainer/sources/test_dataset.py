"""The file of a dataset on a claim, and what is said when it isn't there."""

from __future__ import annotations

from pathlib import Path

from finetune_api.reasons import Reason
from finetune_trainer.sources.dataset import DatasetSource, find_file
from trainer_inputs import refusal


def source(claim: Path, path: str, split: str = "train") -> DatasetSource:
    return DatasetSource(f"pvc://work/{path}", split, "spec.dataset", path=claim / path)


def test_a_folder_gives_the_file_of_its_split_and_a_file_gives_itself(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    for name in ("train.jsonl", "test.csv"):
        (tmp_path / "rows" / name).touch()
    assert find_file(source(tmp_path, "rows", "test")) == tmp_path / "rows" / "test.csv"
    assert find_file(source(tmp_path, "rows/train.jsonl", "test")) == tmp_path / "rows" / "train.jsonl"


def test_a_folder_without_the_split_or_with_two_files_of_it_is_told(tmp_path: Path) -> None:
    (tmp_path / "rows").mkdir()
    text = refusal(lambda: find_file(source(tmp_path, "rows")), Reason.DATASET_NOT_FOUND)
    assert "none of train.jsonl, train.json, train.csv, train.parquet" in text
    (tmp_path / "rows" / "train.jsonl").touch()
    (tmp_path / "rows" / "train.csv").touch()
    text = refusal(lambda: find_file(source(tmp_path, "rows")), Reason.DATASET_NOT_FOUND)
    assert "more than one of" in text


def test_a_dataset_that_is_not_there_is_told_with_what_lies_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "other.jsonl").touch()
    text = refusal(lambda: find_file(source(tmp_path, "rows.jsonl")), Reason.DATASET_NOT_FOUND)
    assert "pvc://work/rows.jsonl is not there" in text
    assert "other.jsonl" in text


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.txt").touch()
    text = refusal(lambda: find_file(source(tmp_path, "rows.txt")), Reason.DATASET_INVALID)
    assert "must end in one of .jsonl, .json, .csv, .parquet" in text
