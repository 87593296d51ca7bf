"""What the readers of files give: raw rows with their numbers, and what stands for one that can't be read."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.stage.failure import StageError

# Bytes of a line, characters of a cell. A broken file may have no line end at all.
LONGEST_ROW = 64 * 1024**2
TOO_LONG = f"is longer than {LONGEST_ROW // 1024**2} MiB"
SAVE_AS_UTF8 = "save the file as UTF-8"


@dataclass(frozen=True)
class UnreadableRow:
    """Stands in the place of a row that can't be read, though those after it can."""

    problem: str


RawRows = Iterator[tuple[int, object]]  # (row number from 1, raw row); of a .jsonl file the number is the line's


def check_columns(columns: list[str], name: str) -> None:
    """Raises StageError (DatasetInvalid) for a column that stands twice: of its two cells a row would keep one."""
    if len(set(columns)) < len(columns):
        twice = Counter(columns).most_common(1)[0][0]
        text = f"{name}: column {cut(repr(twice), 80)} stands twice in the header"
        raise StageError(Reason.DATASET_INVALID, text, "rename one of them")
