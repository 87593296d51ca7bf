"""``spec.output``: where the artefacts go, and which there are."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from finetune_api.base import ApiModel
from finetune_api.uris import DestinationURI

OutputFormat = Literal["Adapter", "Merged16Bit"]
ADAPTER: OutputFormat = "Adapter"
MERGED: OutputFormat = "Merged16Bit"


class OutputSpec(ApiModel):
    """Where the artefacts go."""

    destination: DestinationURI = Field(
        description="pvc://<claim>/<path>. A run writes below <destination>/<first 12 digits of trainingSha256>/: "
        "its artefacts, and its evaluations."
    )
    formats: list[OutputFormat] | None = Field(
        default=None,
        min_length=1,
        max_length=2,
        description="What is saved. Adapter: the LoRA adapter with its tokenizer; QLoRA and LoRA always save it. "
        "Merged16Bit: the whole model in 16 bit, the adapter merged into it. Default: [Adapter], for Full "
        "[Merged16Bit].",
        json_schema_extra={"x-kubernetes-list-type": "set"},
    )

    @field_validator("formats")
    @classmethod
    def _check_formats(cls, formats: list[str] | None) -> list[str] | None:
        if formats and len(set(formats)) < len(formats):
            raise ValueError("a format is named twice")
        return formats
