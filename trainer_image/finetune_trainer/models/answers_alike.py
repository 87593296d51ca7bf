"""Whether a saved model answers as the one that was trained: their logits on a few rows, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from finetune_api.reasons import Reason
from finetune_trainer.data.tokenize import TokenRow
from finetune_trainer.models.modes import without_dropout
from finetune_trainer.models.protocols import CausalLM
from finetune_trainer.stage.device import Device
from finetune_trainer.stage.failure import StageError

_ROWS, _TOKENS = 3, 256
# Largest distance of a token's logits, over the spread of all logits, that is rounding. Other shapes and kernels of a
# 4-bit model gave up to 2e-4 in 32 bit and 2e-2 in bfloat16; other weights, or mixed examples, 0.1 to 2.
TOLERANCE = {"float32": 2e-3, "float16": 2e-2, "bfloat16": 6e-2}


@dataclass(frozen=True)
class Answers:
    """Logits of a model on sample rows, each [tokens, vocabulary] in 32 bit on the host."""

    logits: list[torch.Tensor]

    def distance(self, other: Answers) -> float:
        """The largest root mean square over a token's logits, over the standard deviation of all of these."""
        spread = torch.cat(self.logits).std()
        found = max(
            float((ours - theirs).pow(2).mean(dim=-1).sqrt().max() / spread)
            for ours, theirs in zip(self.logits, other.logits, strict=True)
        )
        return found if found == found else float("inf")

    def check(self, reloaded: Answers, device: Device, what: str, rounded: bool = False) -> float:
        """The distance. Raises StageError (ArtifactMismatch) when it is more than rounding.

        ``rounded``: of weights in 16 bit, whatever the device computes in.
        """
        found = self.distance(reloaded)
        most = max(TOLERANCE[device.dtype], TOLERANCE["bfloat16"] if rounded else 0.0)
        if found > most:
            raise StageError(
                Reason.ARTIFACT_MISMATCH,
                f"the saved {what}, loaded back, does not answer as the trained one: logits differ by {found:.1%} of "
                f"their spread, where rounding gives {most:.1%} at most",
            )
        return found


def answers_of(model: CausalLM, rows: Sequence[TokenRow], device: Device) -> Answers:
    """What a model says to the first rows, each passed alone and cut to 256 tokens. Nothing is changed by it."""
    found = []
    dtype = getattr(torch, device.dtype)
    with (
        without_dropout(model),
        torch.no_grad(),
        torch.autocast(device.kind, dtype, enabled=device.dtype != "float32"),
    ):
        for place in range(min(_ROWS, len(rows))):
            ids = torch.tensor([rows[place].input_ids[:_TOKENS]], device=device.index)
            logits = model(input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False).logits
            found.append(logits[0].float().cpu())
    return Answers(found)
