"""Sections of what the models answered in words."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_trainer.page.documents import Sample, SampleSide
from finetune_trainer.page.reading import Inputs
from finetune_trainer.page.sections.base import Section
from finetune_trainer.page.text import excerpt, sentence, short, words
from finetune_trainer.page.word_differences import Run, differences

_MAX_SAMPLES = 16
_PROMPT, _ANSWER = 1500, 1200  # characters
_SIDES = ("base", "tuned")


@dataclass(frozen=True)
class Reply:
    """One model's answer as it is shown."""

    who: str
    runs: list[Run]
    left_out: int
    verdict: str
    mark: str  # right, wrong or other


def samples(inputs: Inputs) -> Section | None:
    """The same prompts answered by both, with the words marked that the other answer doesn't have."""
    found = inputs.report.samples
    if not found:
        return None
    shown = [
        {"prompt": excerpt(one.prompt, _PROMPT), "expected": excerpt(one.expected, _PROMPT), "replies": _replies(one)}
        for one in found[:_MAX_SAMPLES]
    ]
    title = "The same prompt, answered by both" if any(one.base for one in found) else "Prompts answered"
    return Section("samples", title, {"samples": shown, "left_out": max(0, len(found) - _MAX_SAMPLES)})


def answer_kinds(inputs: Inputs) -> Section | None:
    """How many answers in words name an option, an invented one or none, say nothing, or were cut."""
    found = inputs.report.answers
    sides = [side for side in _SIDES if side in found]
    kinds = dict.fromkeys(kind for side in sides for kind in found[side])
    if not kinds:
        return None
    rows = [(sentence(words(kind)), [found[side].get(kind, 0) for side in sides]) for kind in kinds]
    return Section("answers", "Answers in words", {"sides": sides, "rows": rows})


def _replies(sample: Sample) -> list[Reply]:
    base, tuned = sample.base, sample.tuned
    texts = [excerpt(side.answer, _ANSWER) if side else None for side in (base, tuned)]
    first, second = (one.text if one else "" for one in texts)
    runs: tuple[list[Run], list[Run]] = ([Run(first, False)], [Run(second, False)])
    if base and tuned:
        runs = differences(first, second)
    replies = []
    for who, side, text, found in zip(_SIDES, (base, tuned), texts, runs, strict=True):
        if side and text:
            said, mark = _verdict(side)
            replies.append(Reply(who, found, text.left_out, said, mark))
    return replies


def _verdict(side: SampleSide) -> tuple[str, str]:
    ending = ", cut at maxNewTokens" if side.cut else ""
    if side.names is None:
        return ending.removeprefix(", "), "other"
    if side.names == "NoSuchOption":
        return f"names an option that isn't there{ending}", "wrong"
    if side.names != "Option":
        return f"names no option{ending}", "other"
    option = f"names {short(side.option, 16)}" if side.option else "names an option"
    if side.right is None:
        return f"{option}{ending}", "other"
    return f"{option}: {'right' if side.right else 'wrong'}{ending}", "right" if side.right else "wrong"
