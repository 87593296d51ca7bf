"""``spec.evaluation.prompts``: a user's own prompts, which base and tuned answer."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_api.base import ApiModel

MAX_PROMPTS = 32
PROMPT_TWICE = "two prompts have one name"
ChatTemplateUse = Literal["Apply", "Omit"]


class PromptSpec(ApiModel):
    """A prompt that is no row: nothing is expected of its answer."""

    text: Annotated[str, Field(min_length=1, max_length=4096)] = Field(description="What the models are asked.")
    name: Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")] | None = Field(
        default=None, description="What it is called beside its answers. Default: its place, such as prompts[0]."
    )
    chat_template: ChatTemplateUse = Field(
        default="Apply",
        description="Apply: the text is what a user says, as a server renders it. Omit: raw text that the model goes "
        "on with, as the tokenizer reads it, special tokens that it spells out included.",
    )
