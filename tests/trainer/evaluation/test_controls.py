"""Controls: a task that can be learned is learned, and labels that mean nothing are not found significant."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.evaluation.measure import measure
from finetune_trainer.evaluation.metrics import METRICS
from finetune_trainer.evaluation.outcome import Outcome
from trainer_inputs import with_method

SYNTHETIC = Path(__file__).parents[2] / "data" / "medqa_synthetic"
METRIC_NAMES = ["Accuracy", "SumAccuracy", "LetterAccuracy", "OrderConsistency", "LetterOrderConsistency"]
PERMUTATIONS = 200


@pytest.fixture(scope="module")
def outcome(make_config: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    """The synthetic rows, whose wrong options are right elsewhere, learned by the tiny model and scored."""
    from finetune_trainer.data.prepare import prepare_evaluation
    from finetune_trainer.evaluation.evaluate import find_tuned, score
    from finetune_trainer.models.artefacts import finished_training
    from finetune_trainer.stage.run_folder import find_trained
    from finetune_trainer.training.train import train

    folder = tmp_path_factory.mktemp("control")
    shutil.copytree(SYNTHETIC, folder / "rows")
    training = {"batchSize": 8, "maxSteps": 200, "learningRate": "3e-3", "warmupSteps": 5, "loggingSteps": 40}
    evaluation = {"metrics": METRIC_NAMES, "samplePrompts": 0}
    config = with_method(make_config(folder), "Full", training=training, evaluation=evaluation)
    train(config, None)
    found = find_trained(config, lambda one: finished_training(one, config))
    assert found
    inputs = prepare_evaluation(config, None)
    tuned = find_tuned(config, inputs, found[0])
    scored, dropped = score(config, config.spec.evaluation, inputs, tuned, lambda done, total: None)
    assert dropped == 0
    return scored


def status(outcome: Outcome, name: str) -> Any:
    return measure(METRICS[name], outcome).status


def test_a_task_whose_wrong_options_are_right_elsewhere_is_learned_from_chance(outcome: Outcome) -> None:
    for name in ("Accuracy", "SumAccuracy"):
        found = status(outcome, name)
        assert float(found.base.interval95.low) < 0.25 < float(found.base.interval95.high)
        assert float(found.tuned.value) >= 0.9
        assert float(found.p_value) < 1e-6


def test_who_learned_the_task_says_so_in_another_order_of_the_options_too(outcome: Outcome) -> None:
    found = measure(METRICS["OrderConsistency"], outcome)
    assert found.status.tuned
    assert float(found.status.tuned.value) >= 0.9
    details = found.metric.details(list(found.rows["tuned"].values()))
    assert float(details["otherOrder"]["value"]) >= 0.9


def test_the_other_order_is_scored_as_rows_that_stand_in_that_order_are(outcome: Outcome) -> None:
    assert outcome.reordered
    assert len(outcome.reordered.questions) == len(outcome.questions)
    for own, other in zip(outcome.questions, outcome.reordered.questions, strict=True):
        assert own.choices
        assert other.choices
        assert own.prompt != other.prompt
        moved = [
            own.responses[[one.text for one in own.choices.options].index(two.text)] for two in other.choices.options
        ]
        assert other.responses == moved


def relabelled(outcome: Outcome, source: random.Random) -> Outcome:
    """The same scores with the right letters dealt out anew among the rows."""
    rights = [question.right for question in outcome.questions]
    source.shuffle(rights)
    questions = [
        replace(question, choices=replace(question.choices, right=right))  # type: ignore[type-var]
        for question, right in zip(outcome.questions, rights, strict=True)
    ]
    return replace(outcome, questions=questions)


def test_labels_that_mean_nothing_are_significant_in_at_most_one_of_twenty(outcome: Outcome) -> None:
    source = random.Random(12)
    for name in ("Accuracy", "LetterAccuracy"):
        chance = [float(status(relabelled(outcome, source), name).p_value) for _ in range(PERMUTATIONS)]
        assert len(set(chance)) > 5
        assert sum(value < 0.05 for value in chance) <= PERMUTATIONS // 20
