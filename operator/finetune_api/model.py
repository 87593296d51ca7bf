"""``spec.model``: the base model and how it writes a conversation."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from finetune_api.base import ApiModel
from finetune_api.credentials import SecretReference
from finetune_api.rules import rule, validations
from finetune_api.uris import Revision, SourceURI

# What the trainer itself passes to apply_chat_template.
RESERVED_KWARGS = (
    "add_generation_prompt",
    "chat_template",
    "continue_final_message",
    "conversation",
    "date_string",
    "documents",
    "messages",
    "padding",
    "return_dict",
    "return_tensors",
    "strftime_now",
    "tokenize",
    "tools",
    "truncation",
)
_KEY = "^[a-z_][a-zA-Z0-9_]{0,62}$"
_BAD_KEY = "a key of chatTemplateKwargs is no variable of a template, or one that the trainer sets itself"


def _template_variables(kwargs: dict[str, str]) -> dict[str, str]:
    for key in kwargs:
        if not re.fullmatch(_KEY, key) or key in RESERVED_KWARGS:
            raise ValueError(f"{_BAD_KEY}: {key!r}")
    return kwargs


class AdapterSource(ApiModel):
    """An adapter that training continues from, or that is evaluated alone."""

    source: SourceURI = Field(
        description="Where the adapter lies: pvc://<claim>/<path>, hf://<owner>/<repository> or s3://<bucket>/<key> of "
        "a folder with adapter_config.json, such as another job's status.adapter.uri."
    )
    revision: Revision = Field(
        default="main",
        description="Branch, tag or commit of a hub repository. The commit it stood for is recorded in status.lineage. "
        "Ignored for other sources.",
    )
    secret_ref: SecretReference | None = Field(
        default=None, description="A Secret with the source's credentials, as dataset.secretRef."
    )


class ModelSpec(ApiModel):
    """The base model."""

    source: SourceURI = Field(
        description="Where the base model lies: hf://<owner>/<repository>, or pvc://<claim>/<path> or "
        "s3://<bucket>/<key> for a folder that save_pretrained wrote."
    )
    revision: Revision = Field(
        default="main",
        description="Branch, tag or commit of a hub model. The commit it stood for is recorded in status.lineage. "
        "Ignored for pvc:// sources.",
    )
    secret_ref: SecretReference | None = Field(
        default=None, description="A Secret with the source's credentials, as dataset.secretRef."
    )
    adapter: AdapterSource | None = Field(
        default=None,
        description="An adapter of this base model that training continues from, instead of a new one: a refresh with "
        "new rows. Its rank, alpha and target modules must be those of spec.lora. Without spec.dataset nothing is "
        "trained: it is the adapter that is evaluated, whoever made it.",
    )
    max_sequence_length: int = Field(
        default=2048, ge=32, le=131072, description="Longest row in tokens; longer rows are dropped and counted."
    )
    dtype: Literal["Auto", "BFloat16", "Float16"] = Field(
        default="Auto",
        description="Compute type. Auto takes BFloat16 where the device has it and Float16 otherwise (a T4). A CPU "
        "computes in 32 bit.",
    )
    chat_template: str = Field(
        default="",
        max_length=32768,
        description="A Jinja chat template, or the name of one: of the tokenizer's, or ChatML, Llama3, Gemma, Mistral, "
        "Phi, Qwen or Alpaca, for a base model that brings none. Empty: the tokenizer's default.",
    )
    chat_template_kwargs: Annotated[
        dict[str, Annotated[str, Field(max_length=256)]], Field(max_length=16), AfterValidator(_template_variables)
    ] = Field(
        default={},
        description='Variables of the chat template, in training and scoring alike, such as enable_thinking: "false". '
        "Values are text; true, false and whole numbers become what they say.",
        json_schema_extra=validations(
            rule(f"self.all(key, key.matches('{_KEY}') && !(key in {list(RESERVED_KWARGS)}))", _BAD_KEY)
        ),
    )
