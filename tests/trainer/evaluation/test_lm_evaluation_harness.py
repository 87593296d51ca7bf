"""Our accuracies by the rules of lm-evaluation-harness are its own, row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.model import ModelSpec
from finetune_api.row_formats import MultipleChoiceRows
from finetune_trainer.data.chat_format import read_chat_format
from finetune_trainer.data.formats.multiple_choice import parse
from finetune_trainer.evaluation.metrics import METRICS
from finetune_trainer.evaluation.metrics.choice import ChoiceMetric
from finetune_trainer.evaluation.metrics.harness_accuracy import response_sums
from finetune_trainer.evaluation.questions import Group, Question, make_questions
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.device import Device

ROWS = Path(__file__).parents[2] / "data" / "medqa_synthetic" / "test.jsonl"
NAMES = {"acc": "SumAccuracy", "acc_norm": "CharacterAccuracy", "acc_bytes": "ByteAccuracy"}
# A prompt that ends in no white space: what stands there, the harness counts as part of each choice.
PLAIN_END = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '|' + message['content'] + '<|im_end|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant|' }}{% endif %}"
)


def both(
    model_folder: Path, template: str, folder: Path, rows: int = 48
) -> tuple[list[Question], list[list[list[float]]], list[Any]]:
    """Questions with our likelihoods, and what the harness found of the same rows with the same model."""
    from finetune_trainer.evaluation.scoring import Scorer
    from finetune_trainer.models.loading import load_base, load_tokenizer
    from lm_eval_harness import harness_rows

    examples = [parse(json.loads(line), MultipleChoiceRows()) for line in ROWS.read_text().splitlines()[:rows]]
    source = ModelSource(str(model_folder), None, False)
    model, tokenizer = load_base(source, Device("cpu", "CPU", 0, "float32")), load_tokenizer(source)
    tokenizer.chat_template = template or tokenizer.chat_template
    chat = read_chat_format(tokenizer, ModelSpec(source="pvc://a/model"), None)
    questions = make_questions(examples, chat, {Group.RESPONSES})
    metrics = [METRICS[name] for name in NAMES.values()]
    scorer = Scorer(0, 8192, lambda question, row: [metric.margin(question, row) for metric in metrics])  # type: ignore[attr-defined]
    return questions, scorer.score(model, questions).table, harness_rows(model, tokenizer, examples, folder)


def test_every_row_counts_as_it_does_in_lm_evaluation_harness(tiny_model: Path, tmp_path: Path) -> None:
    questions, table, theirs = both(tiny_model, PLAIN_END, tmp_path)
    for question, row, found in zip(questions, table, theirs, strict=True):
        assert response_sums(question, row) == pytest.approx(found.sums, abs=1e-3)
        for harness, name in NAMES.items():
            metric = METRICS[name]
            assert isinstance(metric, ChoiceMetric)
            assert metric.row(question, row).right == found.right[harness], (name, question.turn.question)
    assert 0 < sum(found.right["acc"] for found in theirs) < len(theirs)


def test_white_space_at_the_end_of_a_prompt_is_all_that_sets_the_harness_apart(
    tiny_model: Path, tmp_path: Path
) -> None:
    """ChatML ends in a line break. Its likelihood is one number for all options of a row, so that acc is the same."""
    questions, table, theirs = both(tiny_model, "", tmp_path, rows=12)
    for question, row, found in zip(questions, table, theirs, strict=True):
        apart = [one - other for one, other in zip(response_sums(question, row), found.sums, strict=True)]
        assert max(apart) - min(apart) < 1e-3
        assert METRICS["SumAccuracy"].row(question, row).right == found.right["acc"]  # type: ignore[attr-defined]
