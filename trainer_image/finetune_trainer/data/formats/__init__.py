"""How a raw row becomes an Example: one file for each ``spec.dataset.format``, and a line here."""

from __future__ import annotations

from typing import Protocol

from finetune_api.dataset import Dataset
from finetune_trainer.data.example import Example
from finetune_trainer.data.formats import multiple_choice


class Format(Protocol):
    """A module that reads rows of one format."""

    def parse(self, raw: object, dataset: Dataset, where: str) -> Example:
        """Turns a raw row into an Example.

        ``where`` names the row in errors. Raises StageError (DatasetInvalid) with row, column and problem.
        """


FORMATS: dict[str, Format] = {"MultipleChoice": multiple_choice}


def format_of(dataset: Dataset) -> Format:
    """The reader of a dataset's rows."""
    return FORMATS[dataset.format]
