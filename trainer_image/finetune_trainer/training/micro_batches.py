"""A step's padded batch in the passes that are computed: as it came, in fewer rows at a time, or packed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from finetune_trainer.data.tokenize import IGNORED
from finetune_trainer.training.packing import Layout, passes_of

# By name. Padded: input_ids, attention_mask and labels, each [rows, length], padding on the right. Packed: input_ids,
# labels and position_ids, and no mask: a model tells examples apart by positions that begin anew.
Batch = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Packed:
    """A packed pass, and where each row of the step lies in it: (row, sequence, first column)."""

    batch: Batch
    places: list[tuple[int, int, int]]


def parts_of(batch: Batch, at_a_time: int, layout: Layout | None) -> list[Batch]:
    """The passes of a step, each of at most ``at_a_time`` rows or, packed, of no more tokens than these would have."""
    if layout and (packed := pack(batch, at_a_time, layout)):
        return [one.batch for one in packed]
    return list(split(batch, at_a_time)) if at_a_time < len(batch["input_ids"]) else [batch]


def split(batch: Batch, rows: int) -> Iterator[Batch]:
    """Parts of a right-padded batch of at most so many rows, without the columns that are padding in all of them."""
    mask = batch["attention_mask"]
    for start in range(0, len(mask), rows):
        longest = int(mask[start : start + rows].sum(dim=1).max())
        yield {name: values[start : start + rows, :longest] for name, values in batch.items()}


def pack(batch: Batch, at_a_time: int, layout: Layout) -> list[Packed]:
    """The packed passes of a right-padded batch; none where packing saves nothing."""
    lengths: list[int] = batch["attention_mask"].sum(dim=1).tolist()
    return [lay_out(batch, sequences, lengths) for sequences in passes_of(lengths, at_a_time, layout)]


def lay_out(batch: Batch, sequences: Sequence[Sequence[int]], lengths: Sequence[int]) -> Packed:
    """A packed pass of these sequences of rows."""
    width = max(sum(lengths[row] for row in sequence) for sequence in sequences)
    ids, labels = batch["input_ids"], batch["labels"]
    packed = {
        "input_ids": ids.new_zeros(len(sequences), width),
        "labels": labels.new_full((len(sequences), width), IGNORED),
        "position_ids": ids.new_zeros(len(sequences), width),
    }
    count = torch.arange(width, device=ids.device)
    places = []
    for number, sequence in enumerate(sequences):
        start = 0
        for row in sequence:
            end = start + lengths[row]
            packed["input_ids"][number, start:end] = ids[row, : lengths[row]]
            # Without its first label, which the end of the row before would have to predict.
            packed["labels"][number, start + 1 : end] = labels[row, 1 : lengths[row]]
            packed["position_ids"][number, start:end] = count[: lengths[row]]
            places.append((row, number, start))
            start = end
        packed["position_ids"][number, start:] = count[: width - start]  # padding, an example of its own
    return Packed(packed, places)


def label_tokens(batch: Batch) -> int:
    """Tokens whose loss counts. The first of a row has nothing before it to be predicted from."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())
