"""Rows of a dataset: from a claim and from the hub the same, told apart by digests."""

from __future__ import annotations

import errno
import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets.exceptions
import pyarrow
import pyarrow.parquet
import pytest

from finetune_api.config import RunConfig
from finetune_api.defaults import ResolvedSpec
from finetune_api.filters import FiltersSpec
from finetune_api.reasons import Reason
from finetune_trainer.data.duplicates import Compared, Overlap
from finetune_trainer.data.example import Example
from finetune_trainer.data.load import Rows, check_overlap, load_examples, overlap_facts
from finetune_trainer.data.row_facts import OverlapFacts
from finetune_trainer.sources.claim import claim_rows
from finetune_trainer.sources.hub import HubRows
from finetune_trainer.sources.rows import RowSource
from finetune_trainer.stage.failure import StageError, failure_of
from trainer_inputs import ROWS, make_config, refusal


def source(claim: Path, path: str = "rows", split: str = "train") -> RowSource:
    return claim_rows(claim / path, f"pvc://work/{path}", split, "spec.dataset")


def hub_source(repository: str = "acme/rows", split: str = "train", config: str | None = None) -> RowSource:
    return HubRows(f"hf://{repository}", split, "spec.dataset", repository, "main", config)


def read(where: RowSource, config: RunConfig | None = None) -> Rows:
    return load_examples(where, (config or make_config(Path())).spec.dataset)


def contents(rows: Rows) -> list[Example]:
    """The rows without their places, which name the file."""
    return [replace(example, where="") for example in rows.examples]


def write_jsonl(path: Path, rows: list[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
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


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose sub-folders `datasets` takes for repositories before it asks the hub."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("extension", WRITERS)
def test_every_file_format_gives_the_same_rows_and_digest_from_a_claim_and_from_the_hub(
    hub: Path, extension: str
) -> None:
    write_jsonl(hub / "reference.jsonl", ROWS)
    (hub / "acme" / "rows").mkdir(parents=True)
    WRITERS[extension](hub / "acme" / "rows" / f"train.{extension}", ROWS)
    reference = read(source(hub, "reference.jsonl"))
    for where in (source(hub, f"acme/rows/train.{extension}"), source(hub, "acme/rows"), hub_source()):
        rows = read(where)
        assert contents(rows) == contents(reference)
        assert rows.sha256 == reference.sha256


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_held_out_rows_are_the_first_so_many_of_their_split(hub: Path, most: int) -> None:
    write_jsonl(hub / "rows.jsonl", ROWS)
    spec = make_config(Path()).spec.to_api()
    spec["evaluation"] = {"dataset": {**spec["dataset"], "maxExamples": most}}
    evaluation = ResolvedSpec.model_validate(spec).evaluation
    assert evaluation
    where = source(hub, "rows.jsonl")
    rows = load_examples(where, evaluation.dataset)
    assert contents(rows) == contents(read(where))[:most]
    assert (rows.sha256 == read(where).sha256) is (most >= len(ROWS))


# What the library would take for gaps, numbers, dates and truth values.
ODD = ["None", "NA", "null", "nan", "007", "1.50", "2020-01-01", "true", "1e5"]


@pytest.mark.parametrize("extension", ["csv", "jsonl"])
def test_text_stays_text_from_a_claim_and_from_the_hub(hub: Path, extension: str) -> None:
    rows = [
        {"question": word, "options": json.dumps([word, "other"]), "answer": word, "answer_idx": "A"} for word in ODD
    ]
    path = hub / "acme" / "rows" / f"train.{extension}"
    path.parent.mkdir(parents=True)
    if extension == "csv":
        lines = [f'{row["question"]},"[""{row["question"]}"", ""other""]",{row["answer"]},A' for row in rows]
        path.write_text("\n".join(["question,options,answer,answer_idx", *lines]) + "\n")
    else:
        write_jsonl(path, rows)
    from_claim, from_hub = read(source(hub, "acme/rows")), read(hub_source())
    assert [example.question for example in from_hub.examples] == ODD
    assert contents(from_hub) == contents(from_claim)
    assert from_hub.sha256 == from_claim.sha256


def test_a_hub_dataset_with_several_configurations_wants_one_named(hub: Path) -> None:
    folder = hub / "acme" / "exam"
    for name in ("anatomy", "virology"):
        rows = [{"question": f"{name}?", "subject": name, "choices": ["w", "x", "y", "z"], "answer": 2}]
        (folder / name).mkdir(parents=True)
        write_parquet(folder / name / "test-00000-of-00001.parquet", rows)
    configs = [
        {"config_name": name, "data_files": [{"split": "test", "path": f"{name}/test-*"}]}
        for name in ("anatomy", "virology")
    ]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    config = make_config(hub, columns={"options": "choices", "answerKey": "answer"})

    with pytest.raises(StageError) as caught:
        read(hub_source("acme/exam", "test"), config)
    assert caught.value.reason is Reason.DATASET_NOT_FOUND
    assert str(caught.value) == "hf://acme/exam split 'test': it has several configurations: anatomy, virology"
    assert caught.value.advice == "set spec.dataset.config to one of them"
    with pytest.raises(StageError, match="there is no configuration 'botany'; there are anatomy, virology"):
        read(hub_source("acme/exam", "test", "botany"), config)
    (example,) = read(hub_source("acme/exam", "test", "virology"), config).examples
    assert (example.question, example.response) == ("virology?", "The correct answer is y.")


def test_a_hub_dataset_of_several_files_names_the_file_of_a_bad_row(hub: Path) -> None:
    write_jsonl(hub / "acme" / "rows" / "train-1.jsonl", ROWS)
    write_jsonl(hub / "acme" / "rows" / "train-2.jsonl", [ROWS[0], {**ROWS[1], "answer_idx": "Z"}])
    text = refusal(lambda: read(hub_source()), Reason.DATASET_INVALID)
    assert text.startswith("hf://acme/rows train-2.jsonl row 2: column 'answer_idx'")


def test_a_compressed_file_of_the_hub_is_read_like_any_other(hub: Path) -> None:
    write_jsonl(hub / "plain.jsonl", ROWS)
    path = hub / "acme" / "rows" / "train.jsonl.gz"
    path.parent.mkdir(parents=True)
    path.write_bytes(gzip.compress((hub / "plain.jsonl").read_bytes()))
    assert contents(read(hub_source())) == contents(read(source(hub, "plain.jsonl")))


def test_a_file_that_the_hub_lost_is_the_datasets_fault(hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def download(*_: object) -> None:
        raise FileNotFoundError("no such file in the repository")

    write_jsonl(hub / "acme" / "rows" / "train.jsonl", ROWS)
    monkeypatch.setattr(datasets.DownloadManager, "download_and_extract", download)
    text = refusal(lambda: read(hub_source()), Reason.DATASET_NOT_FOUND)
    assert text == "hf://acme/rows split 'train': no such file in the repository"


def test_a_csv_of_the_hub_that_says_how_to_read_it_is_read_that_way(hub: Path) -> None:
    folder = hub / "acme" / "rows"
    folder.mkdir(parents=True)
    (folder / "rows.csv").write_text('question;options;answer_idx\nWhich?;"[""one"", ""two""]";B\n')
    configs = [{"config_name": "default", "data_files": "rows.csv", "sep": ";"}]
    (folder / "README.md").write_text(f"---\nconfigs: {json.dumps(configs)}\n---\n")
    assert read(hub_source()).examples[0].response == "The correct answer is two."


def test_a_missing_split_of_the_hub_is_told_with_those_that_are_there(hub: Path) -> None:
    write_jsonl(hub / "acme" / "rows" / "train.jsonl", ROWS)
    text = refusal(lambda: read(hub_source(split="nosuch")), Reason.DATASET_NOT_FOUND)
    assert text == "hf://acme/rows split 'nosuch': Unknown split \"nosuch\". Should be one of ['train']."


def test_a_hub_dataset_that_is_a_script_or_has_broken_files_is_told(hub: Path) -> None:
    (hub / "acme" / "script").mkdir(parents=True)
    (hub / "acme" / "script" / "script.py").touch()
    text = refusal(lambda: read(hub_source("acme/script")), Reason.DATASET_NOT_FOUND)
    assert "hf://acme/script split 'train': Dataset scripts are no longer supported" in text
    (hub / "acme" / "broken").mkdir()
    (hub / "acme" / "broken" / "train.parquet").write_bytes(b"PAR1 not really")
    text = refusal(lambda: read(hub_source("acme/broken")), Reason.DATASET_INVALID)
    assert "hf://acme/broken split 'train': Parquet magic bytes not found" in text
    (hub / "acme" / "mixed").mkdir()
    write_parquet(hub / "acme" / "mixed" / "train-1.parquet", ROWS)
    write_parquet(hub / "acme" / "mixed" / "train-2.parquet", [{**ROWS[0], "extra": 1}])
    text = refusal(lambda: read(hub_source("acme/mixed")), Reason.DATASET_INVALID)
    assert "column names don't match" in text


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), Reason.STORAGE_FULL),
        (ConnectionError("peer closed connection"), Reason.TRAINER_CRASHED),
    ],
)
def test_a_full_cache_or_a_lost_connection_is_not_the_datasets_fault(
    hub: Path, monkeypatch: pytest.MonkeyPatch, cause: Exception, reason: Reason
) -> None:
    def load_dataset(*_: object, **__: object) -> None:
        raise datasets.exceptions.DatasetGenerationError("An error occurred while generating the dataset") from cause

    (hub / "acme" / "rows").mkdir(parents=True)
    write_parquet(hub / "acme" / "rows" / "train.parquet", ROWS)
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)  # neither failure can be had on demand
    with pytest.raises(datasets.exceptions.DatasetGenerationError) as caught:
        read(hub_source())
    assert failure_of(caught.value).reason == reason


def test_a_source_without_rows_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").touch()
    assert "rows.jsonl has no rows" in refusal(lambda: read(source(tmp_path, "rows.jsonl")), Reason.DATASET_INVALID)


def test_the_order_of_options_and_of_rows_is_part_of_the_digest(tmp_path: Path) -> None:
    def digest(rows: list[Any]) -> str:
        write_jsonl(tmp_path / "rows.jsonl", rows)
        return read(source(tmp_path, "rows.jsonl")).sha256

    first = digest([{**ROWS[0], "options": {"A": "one", "B": "two"}}, ROWS[1]])
    assert first == digest([ROWS[0], ROWS[1]])
    assert first != digest([{**ROWS[0], "options": {"B": "two", "A": "one"}}, ROWS[1]])
    assert first != digest([ROWS[1], ROWS[0]])


def overlap(training: Rows, held_out: Rows) -> OverlapFacts:
    found = Overlap(held_out.examples)
    for example in training.examples:
        found.see(Compared(example))
    return overlap_facts(found)


def test_training_rows_are_refused_as_held_out_rows_in_whatever_order(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    write_jsonl(tmp_path / "other.jsonl", ROWS[::-1])
    training = read(source(tmp_path, "rows.jsonl"))
    for name in ("rows.jsonl", "other.jsonl"):
        held_out = read(source(tmp_path, name, "test"))
        with pytest.raises(StageError, match=r"spec\.dataset holds the very rows that are trained on") as caught:
            check_overlap(overlap(training, held_out), held_out, FiltersSpec(max_overlap="1"))
        assert caught.value.reason is Reason.DATASET_INVALID
        assert "name another file or split" in caught.value.advice


def test_shared_questions_are_counted_whatever_their_case_white_space_and_options(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "rows.jsonl", ROWS)
    write_jsonl(
        tmp_path / "test.jsonl",
        [
            {**ROWS[0], "question": " which\n0? ", "options": ["two", "three"], "answer_idx": 0},
            {**ROWS[1], "question": "Who?"},
        ],
    )
    training, held_out = read(source(tmp_path, "rows.jsonl")), read(source(tmp_path, "test.jsonl"))
    found = overlap(training, held_out)
    assert (found.held_out, found.exact, found.near) == (2, 1, 1)
    assert found.pairs == ["test.jsonl row 1 and rows.jsonl row 1"]
    check_overlap(found, held_out, FiltersSpec(max_overlap="0.5"))
    text = refusal(lambda: check_overlap(found, held_out, FiltersSpec(max_overlap="0.49")), Reason.DATASET_INVALID)
    assert text == (
        "1 of 2 held-out rows of test.jsonl (50.0%) ask what a training row asks, at most 49.0% may; such as "
        "test.jsonl row 1 and rows.jsonl row 1"
    )


def test_each_malformed_held_out_row_counts(tmp_path: Path) -> None:
    rows = [{**ROWS[0], "question": f"Which {number}?"} for number in range(300)]
    write_jsonl(tmp_path / "rows.jsonl", [*rows, {**ROWS[0], "answer_idx": "Q"}])
    text = refusal(lambda: read(source(tmp_path, "rows.jsonl")), Reason.DATASET_INVALID)
    assert text.startswith("rows.jsonl row 301: column 'answer_idx': 'Q'")
    assert text.endswith("; 1 of 301 rows of rows.jsonl can't be used (0.3%)")
