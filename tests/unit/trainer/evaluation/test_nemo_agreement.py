"""Our gates against NVIDIA's NeMo Evaluator on the same outcomes, as tests/data/nemo_evaluator has recorded them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_api.gates import GateSpec
from finetune_trainer.evaluation.gates import judge
from finetune_trainer.evaluation.statistics import mcnemar_exact
from stored_reports import URI, chosen, compared, report_of

RECORDED = json.loads((Path(__file__).parents[3] / "data/nemo_evaluator/verdicts.json").read_text())
WORDS = {"GO": "Passed", "NO-GO": "Failed", "INCONCLUSIVE": "Inconclusive"}
IDS = [f"{one['better']}-{one['worse']}-of-{one['rows']}-by-{one['margin']}" for one in RECORDED["outcomes"]]


def ours(outcome: dict[str, Any]) -> tuple[str, float, float]:
    """Our verdict, and the ends of our interval."""
    better, worse, n = outcome["better"], outcome["worse"], outcome["rows"]
    both = (n - better - worse) // 2
    theirs = [True] * both + [False] * better + [True] * worse + [False] * (n - both - better - worse)
    mine = [True] * both + [True] * better + [False] * worse + [False] * (n - both - better - worse)
    gate = {"metric": "Accuracy", "notWorseThan": {"report": URI, "margin": str(outcome["margin"])}}
    reports = compared(report_of(None, [*map(chosen, theirs)]))
    (found,) = judge([GateSpec.model_validate(gate)], report_of(None, [*map(chosen, mine)]), reports, seed=7)
    ends = found.document["criteria"][0]["interval"]
    return found.verdict, float(ends["low"]), float(ends["high"])


def between(margin: float, one: float, other: float) -> bool:
    return min(one, other) <= -margin <= max(one, other)


def test_what_was_recorded_has_each_verdict_many_times() -> None:
    counts = {word: sum(one["verdict"] == word for one in RECORDED["outcomes"]) for word in WORDS}
    assert min(counts.values()) >= 4, counts
    assert RECORDED["nemo-evaluator"] == "0.3.0"


@pytest.mark.parametrize("outcome", RECORDED["outcomes"], ids=IDS)
def test_not_worse_than_and_nel_gate_say_the_same(outcome: dict[str, Any]) -> None:
    """Both judge by a 95% interval of the paired difference. Theirs is Student's t, ours Tango's.

    Where the margin lies between an end of theirs and that of ours, and only there, the verdicts may differ.
    """
    verdict, low, high = ours(outcome)
    margin = outcome["margin"]
    if not between(margin, low, outcome["low"]) and not between(margin, high, outcome["high"]):
        assert verdict == WORDS[outcome["verdict"]]
    # With 50 rows and more the intervals are close, however few of them are discordant.
    assert low == pytest.approx(outcome["low"], abs=0.02 if outcome["rows"] < 400 else 0.004)
    assert high == pytest.approx(outcome["high"], abs=0.02 if outcome["rows"] < 400 else 0.004)


def test_the_verdicts_differ_on_no_more_than_a_few_outcomes() -> None:
    differ = [one for one in RECORDED["outcomes"] if ours(one)[0] != WORDS[one["verdict"]]]
    assert len(differ) <= 2, differ


@pytest.mark.parametrize("outcome", RECORDED["outcomes"], ids=IDS)
def test_mcnemars_p_value_is_twice_that_of_nel_compare(outcome: dict[str, Any]) -> None:
    """Theirs is one-sided, of a loss: so is half of ours where the candidate is the worse one."""
    if outcome["worse"] > outcome["better"] + 1:
        half = mcnemar_exact(outcome["better"], outcome["worse"]) / 2
        assert half == pytest.approx(outcome["oneSidedP"], abs=1e-6)
