"""Labels of rows: whatever stands in a column becomes one short name, or none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.config import RunConfig
from finetune_api.reasons import Reason
from finetune_trainer.data.labels import LONGEST_LABEL, label_of
from finetune_trainer.data.load import load_examples
from finetune_trainer.data.prepare import load_held_out, prepare_evaluation, prepare_training
from finetune_trainer.sources.claim import claim_rows
from finetune_trainer.sources.locate import locate
from trainer_inputs import refusal, run_config


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Cardiology", "Cardiology"),
        ("  two\n lines\t", "two lines"),
        ("\x1b[2Jgone", "\\x1b[2Jgone"),
        ("\u202eevil", "\\u202eevil"),
        ("half \ud800", "half \\ud800"),
        (" " * 500 + "far", "far"),
        (7, "7"),
        (True, "true"),
        (0, "0"),
        ([1, "ü"], '[1, "ü"]'),
        ({"a": None}, '{"a": null}'),
        ("x" * 5_000_000, "x" * (LONGEST_LABEL - 1) + "…"),
    ],
)
def test_any_value_has_a_short_name_on_one_line(value: object, name: str) -> None:
    label = label_of(value)
    assert label is not None
    assert label.name == name
    label.name.encode()


@pytest.mark.parametrize("value", [None, "", "  \n", float("nan")])
def test_what_says_nothing_is_no_value(value: object) -> None:
    assert label_of(value) is None


@pytest.mark.parametrize(
    ("one", "other"), [(1, "1"), (True, "true"), ("a", "a "), ("x" * 99, "x" * 100), (1, True), ("\x1b", "\\x1b")]
)
def test_values_that_look_alike_are_told_apart(one: object, other: object) -> None:
    first, second = label_of(one), label_of(other)
    assert first is not None
    assert second is not None
    assert first.sha256 != second.sha256


def test_the_order_of_an_objects_keys_says_nothing() -> None:
    first, second = label_of({"a": 1, "b": 2}), label_of({"b": 2, "a": 1})
    assert first is not None
    assert second is not None
    assert first.sha256 == second.sha256


HELD_OUT: list[dict[str, Any]] = [
    {"question": f"Who {number}?", "options": ["one", "two"], "answer_idx": 0, "topic": topic}
    for number, topic in enumerate(["heart", None, "lung", "heart"])
]
EDGES = [{"question": f"Edge {number}?", "options": ["one", "two"], "answer_idx": 0} for number in range(3)]


def write(path: Path, rows: list[Any]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def claim(tmp_path: Path) -> Path:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "rows").mkdir()
    train = [{"question": f"Which {number}?", "options": ["one", "two"], "answer_idx": 1} for number in range(6)]
    write(tmp_path / "rows" / "train.jsonl", train)
    write(tmp_path / "rows" / "test.jsonl", HELD_OUT)
    write(tmp_path / "edges.jsonl", EDGES)
    return tmp_path


def configured(claim: Path, *slices: dict[str, Any]) -> RunConfig:
    spec: dict[str, Any] = {
        "model": {"source": "pvc://work/model"},
        "dataset": {"source": "pvc://work/rows"},
        "evaluation": {"dataset": {"source": "pvc://work/rows"}, "slices": list(slices)},
        "output": {"destination": "pvc://work/out"},
        "runtime": {"gpusPerNode": 0},
    }
    return run_config(spec, {"work": claim})


TOPIC = {"name": "by-topic", "column": "topic"}
EDGE = {"name": "edges", "dataset": {"source": "pvc://work/edges.jsonl"}}


def test_rows_carry_the_columns_that_they_are_sliced_by_which_their_digest_does_not_cover(claim: Path) -> None:
    config = configured(claim, TOPIC)
    rows = load_held_out(config, locate(config, None))
    assert rows
    assert [(one.labels["topic"] or ("none",))[0] for one in rows.examples] == ["heart", "none", "lung", "heart"]
    assert config.spec.evaluation
    source = claim_rows(claim / "rows", "pvc://work/rows", "test", "spec.evaluation.dataset")
    assert load_examples(source, config.spec.evaluation.dataset).sha256 == rows.sha256


def test_a_column_in_which_no_row_has_a_value_is_refused_by_name(claim: Path) -> None:
    config = configured(claim, {"name": "by-topic", "column": "topik"})
    text = refusal(lambda: prepare_training(config, None), Reason.DATASET_INVALID)
    assert text == (
        "no row of test.jsonl has a value in the column 'topik' that spec.evaluation.slices[by-topic].column names"
    )


def test_the_rows_of_a_slice_are_pinned_and_other_ones_refused(claim: Path) -> None:
    config = configured(claim, TOPIC, EDGE)
    pins = prepare_training(config, None).pins
    assert list(pins.slice_sha256) == ["edges"]
    inputs = prepare_evaluation(config, pins)
    assert (list(inputs.slices), len(inputs.slices["edges"].examples)) == (["edges"], 3)
    assert inputs.pins.slice_sha256 == pins.slice_sha256
    write(claim / "edges.jsonl", EDGES[:2])
    text = refusal(lambda: prepare_evaluation(config, pins), Reason.DATASET_INVALID)
    assert text.startswith("the rows of slice edges changed since the run began")


def test_a_malformed_row_of_a_slice_is_found_before_the_training(claim: Path) -> None:
    write(claim / "edges.jsonl", [*EDGES, {"question": "?"}])
    text = refusal(lambda: prepare_training(configured(claim, EDGE), None), Reason.DATASET_INVALID)
    assert text.startswith("edges.jsonl row 4: column 'options': missing")
