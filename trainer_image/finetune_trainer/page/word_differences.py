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
    return left, right


def _add(runs: list[Run], text: str, differs: bool) -> None:
    if not text:
        return
    # White space alone is no difference that anybody sees.
    if runs and runs[-1].differs == (differs and not text.isspace()):
        runs[-1] = Run(runs[-1].text + text, runs[-1].differs)
    else:
        runs.append(Run(text, differs and not text.isspace()))
