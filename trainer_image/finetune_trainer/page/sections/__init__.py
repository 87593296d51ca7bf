"""The sections of the page, in their order: a function and a template for each, and a line here."""

from __future__ import annotations

from finetune_trainer.page.sections.answers import answer_kinds, samples
from finetune_trainer.page.sections.base import MakeSection, Section
from finetune_trainer.page.sections.origin import lineage, repeat
from finetune_trainer.page.sections.rows import preparation
from finetune_trainer.page.sections.scores import calibration, gates, judge, letters, scores, slices
from finetune_trainer.page.sections.training import latency, retention, training

__all__ = ["SECTIONS", "Section"]

SECTIONS: tuple[MakeSection, ...] = (
    gates,
    scores,
    slices,
    letters,
    samples,
    answer_kinds,
    judge,
    calibration,
    training,
    retention,
    latency,
    preparation,
    lineage,
    repeat,
)
