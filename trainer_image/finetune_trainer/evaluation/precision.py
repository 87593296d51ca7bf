"""How exactly a model is read: its output head in 32 bit, and near-ties decided by a plain pass.

In bfloat16 a logit of 10 is a multiple of 1/16, and hidden states change with the shape of a batch: of the rows whose
two best options lie closer than that, some change sides. The head in 32 bit takes away the first, the second pass over
near-ties (see scoring.py) what is left of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from finetune_trainer.models.protocols import CausalLM

_VOCABULARY_PIECE = 8192  # rows of the head that are held in 32 bit at a time: 64 MiB for 2,048 dimensions
_HALF = (torch.bfloat16, torch.float16)


@dataclass(frozen=True)
class Precision:
    """What is done against rounding. Switched off only to measure what it is worth: tests/gpu/agreement.py."""

    wide_head: bool = True
    settle_near_ties: bool = True


PRECISION = Precision()


@contextmanager
def wide_head(model: CausalLM, precision: Precision = PRECISION) -> Iterator[None]:
    """Inside, the model's logits are computed and returned in 32 bit.

    What the model does to its logits afterwards (scaling, soft caps) then happens in 32 bit as well. A head that is
    quantised, or has 32 bit already, stays as it is.
    """
    head = model.get_output_embeddings()
    if not (precision.wide_head and isinstance(head, torch.nn.Linear) and head.weight.dtype in _HALF):
        yield
        return

    def forward(hidden: torch.Tensor) -> torch.Tensor:
        return _wide_linear(hidden, head.weight, head.bias)

    own = vars(head)  # an attribute of the instance goes before the class's method; another library may have one there
    before = own.get("forward")
    own["forward"] = forward
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before


def _wide_linear(hidden: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    hidden = hidden.float()
    logits = torch.empty((*hidden.shape[:-1], weight.shape[0]), device=hidden.device)
    for start in range(0, weight.shape[0], _VOCABULARY_PIECE):
        end = min(start + _VOCABULARY_PIECE, weight.shape[0])
        logits[..., start:end] = hidden @ weight[start:end].float().T
    return logits if bias is None else logits.add_(bias.float())
