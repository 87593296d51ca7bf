"""What a section of the page is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_trainer.page.reading import Inputs


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    name: str  # one word: its id, and its template below templates/
    title: str
    show: Mapping[str, Any] = field(default_factory=dict)  # what the template knows


# A section of these inputs; None where they have nothing for it.
MakeSection = Callable[[Inputs], Section | None]
