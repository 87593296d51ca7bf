"""Marks the words in which two answers differ. Pure."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass

_WORD = re.compile(r"\s+|[^\W_]+|.", re.DOTALL)


@dataclass(frozen=True)
class Run:
    """A stretch of text, either shared by both answers or in one of them only."""

    text: str
    differs: bool


def differences(base: str, tuned: str) -> tuple[list[Run], list[Run]]:
    """Both texts in runs, whose texts together are the whole of each.

    Words are compared as difflib does; quadratic in their number, so that texts are cut before.
    """
    first, second = _WORD.findall(base), _WORD.findall(tuned)
    left: list[Run] = []
    right: list[Run] = []
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    for kind, start, end, begin, finish in matcher.get_opcodes():
        _add(left, "".join(first[start:end]), kind != "equal")
        _add(right, "".join(second[begin:finish]), kind != "equal")
    return _joined(left), _joined(right)


def _joined(runs: list[Run]) -> list[Run]:
    """Words that differ one after another are one stretch, with the space between them."""
    joined: list[Run] = []
    for run in runs:
        if len(joined) > 1 and run.differs and joined[-2].differs and joined[-1].text == " ":
            joined[-2:] = [Run(f"{joined[-2].text} {run.text}", True)]
        else:
            joined.append(run)
    return joined


def _add(runs: list[Run], text: str, differs: bool) -> None:
    """Appends a stretch; white space at its ends is no difference that anybody sees."""
    inner = text.strip() if differs else ""
    before, _, after = text.partition(inner) if inner else (text, "", "")
    for part, marked in ((before, False), (inner, True), (after, False)):
        if part and runs and runs[-1].differs == marked:
            runs[-1] = Run(runs[-1].text + part, marked)
        elif part:
            runs.append(Run(part, marked))
