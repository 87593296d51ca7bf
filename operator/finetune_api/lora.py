"""``spec.lora``: the adapter."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from finetune_api.base import ApiModel, Seed
from finetune_api.rules import Decimal, Within, rule, validations

ALL_LINEAR = "AllLinear"
_ALONE = "AllLinear stands alone: it names every linear layer"
Initialization = Literal["Default", "LoftQ", "PiSSA"]


class LoraSpec(ApiModel):
    """The adapter, in PEFT's terms."""

    rank: int = Field(
        default=16,
        ge=1,
        le=512,
        description="Rank r of the two matrices that LoRA adds beside each target module: W x + (alpha / rank) B A x. "
        "A higher rank learns more and costs memory; 8 to 64 is usual. Default: 16.",
    )
    alpha: int = Field(
        default=16,
        ge=1,
        le=1024,
        description="Scale of the update: it is multiplied by alpha / rank. Usually equal to the rank or twice it. "
        "Default: 16.",
    )
    dropout: Annotated[Decimal, Within(0, 0.9)] = Field(
        default="0", description="Dropout on the adapter's input. Unsloth's fast path wants 0. Default: 0."
    )
    bias: Literal["None", "All", "LoraOnly"] = Field(
        default="None", description="Which bias vectors are trained. Default: None."
    )
    target_modules: list[Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.]+$")]] = Field(
        default=[ALL_LINEAR],
        min_length=1,
        max_length=32,
        description="Linear modules that get an adapter, by the last part of their name. [AllLinear]: every linear "
        "layer but the output head; for a Llama q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj. "
        "Default: [AllLinear].",
        json_schema_extra={
            "x-kubernetes-list-type": "set",
            **validations(rule(f"!('{ALL_LINEAR}' in self) || self.size() == 1", _ALONE)),
        },
    )
    rank_stabilized: bool | None = Field(
        default=None,
        description="Scale the update by alpha / sqrt(rank), so that high ranks learn as fast as low ones (rsLoRA, "
        "Kalajdzievski 2023). Default: false.",
    )
    initialization: Initialization | None = Field(
        default=None,
        description="What the adapter begins with, if not with no change to the model (Default). LoftQ (method QLoRA): "
        "what NF4 rounded away, as far as the rank holds it (Li et al. 2023). PiSSA (method LoRA): the principal part "
        "of each weight, which is then trained (Meng et al. 2024); the saved adapter has twice the rank and fits the "
        "base model as it is. Default: Default.",
    )
    seed: Seed = Field(default=42, description="Seed of the adapter's initial weights. Default: 42.")

    @field_validator("target_modules")
    @classmethod
    def _check_targets(cls, targets: list[str]) -> list[str]:
        if ALL_LINEAR in targets and len(targets) > 1:
            raise ValueError(_ALONE)
        if len(set(targets)) < len(targets):
            raise ValueError("a module is named twice")
        return targets
