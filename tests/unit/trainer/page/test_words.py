"""Words and figures of the page: what differs between answers, what is invisible, and how metrics are told."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_api.results import Interval, MetricStatus, MetricValue, PairedTest
from finetune_trainer.page.figures_of_metrics import Change, Metric, signed
from finetune_trainer.page.text import clean, duration, excerpt
from finetune_trainer.page.word_differences import differences


def marked(base: str, tuned: str) -> tuple[list[str], list[str]]:
    left, right = differences(base, tuned)
    return [one.text for one in left if one.differs], [one.text for one in right if one.differs]


@given(st.text(max_size=60), st.text(max_size=60))
def test_the_runs_of_two_answers_are_the_answers_themselves(base: str, tuned: str) -> None:
    left, right = differences(base, tuned)
    assert "".join(one.text for one in left) == base
    assert "".join(one.text for one in right) == tuned


def test_words_are_marked_without_the_space_around_them() -> None:
    assert marked("The answer is salted milk.", "The correct answer is tea.") == (["salted milk"], ["correct", "tea"])
    assert marked("Take A.", "You might take B.") == (["Take A"], ["You might take B"])
    assert marked("same words", "same  words\n") == ([], [])


@given(st.text(max_size=60))
def test_cleaned_text_holds_nothing_invisible_and_is_left_as_it_is_the_second_time(text: str) -> None:
    cleaned = clean(text)
    assert clean(cleaned) == cleaned
    cleaned.encode()
    assert all(one.isprintable() or one.isspace() or one in "\u200c\u200d" for one in cleaned)


def test_an_excerpt_tells_how_much_is_left_out() -> None:
    assert (excerpt("abcdef", 4).text, excerpt("abcdef", 4).left_out) == ("abcd", 2)
    assert excerpt("abc", 4).left_out == 0


def metric(name: str, base: float, tuned: float, p: str | None = None) -> Metric:
    def value(number: float) -> MetricValue:
        within = Interval(low="0.1", high="0.2") if name.endswith("Accuracy") else None
        return MetricValue(value=str(number), interval95=within)

    test = PairedTest(name="McNemar exact", base_only=1, tuned_only=2) if p else None
    return Metric(MetricStatus(name=name, base=value(base), tuned=value(tuned), p_value=p, paired_test=test))


@pytest.mark.parametrize(
    ("found", "change"),
    [
        (metric("Accuracy", 0.2, 0.6, "0.01"), Change.BETTER),
        (metric("Accuracy", 0.6, 0.2, "0.01"), Change.WORSE),
        (metric("Accuracy", 0.2, 0.6, "0.06"), Change.OPEN),
        (metric("InvalidAnswerRate", 0.6, 0.2, "0.01"), Change.BETTER),
        (metric("Perplexity", 9, 3), Change.OPEN),  # without a test nothing tells chance from gain
        (metric("NeverHeardOf", 1, 2, "0.001"), Change.OPEN),
        (Metric(MetricStatus(name="Accuracy", tuned=MetricValue(value="0.5"))), Change.NONE),
    ],
)
def test_a_metric_is_better_or_worse_only_where_that_is_more_than_chance(found: Metric, change: Change) -> None:
    assert found.change is change


def test_shares_are_told_in_percent_and_other_metrics_as_they_stand() -> None:
    share, other = metric("Accuracy", 0.25, 0.5), metric("Perplexity", 75131.6, 14.1746)
    assert (share.base, share.tuned, share.difference, share.tuned_interval) == (
        "25.0%", "50.0%", "+25.0 points", "10.0 – 20.0%"
    )  # fmt: skip
    assert (other.base, other.tuned, other.difference) == ("75,132", "14.17", "−75,117")
    assert metric("BLEU", 0.9, 0.8).base == "0.9"
    assert metric("Perplexity", 3, float("inf")).tuned == "∞"


def test_no_difference_has_no_sign() -> None:
    assert (signed(0.0), signed(-0.0001, 1), signed(-2.5)) == ("±0", "±0", "−2.5")


def test_durations_are_short() -> None:
    assert [duration(one) for one in (41, 200, 3720)] == ["41 s", "3 min 20 s", "1 h 02 min"]
