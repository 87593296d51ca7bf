"""The inputs that ``spec`` names: the base model, and the rows to train and to evaluate on."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_api.base import ApiModel
from finetune_api.rules import Placeholders
from finetune_api.uris import SourceURI

Name = Annotated[str, Field(min_length=1, max_length=128)]
Split = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]
Revision = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._/-]+$")]
Template = Annotated[str, Field(max_length=8192)]

PROMPT_FIELDS = ("question", "options")
RESPONSE_FIELDS = ("answer", "letter")


class ModelSpec(ApiModel):
    """The base model."""

    source: SourceURI = Field(
        description="Where the base model lies: hf://<owner>/<repository>, or pvc://<claim>/<path> for a folder that "
        "save_pretrained wrote."
    )
    revision: Revision = Field(
        default="main",
        description="Branch, tag or commit of a hub model. The commit it stood for is recorded in status.lineage. "
        "Ignored for pvc:// sources.",
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
        default="", max_length=32768, description="A Jinja chat template. Empty: the tokenizer's own."
    )


class ColumnsSpec(ApiModel):
    """Names of the dataset's columns."""

    question: Name = Field(default="question", description="Column with the question's text.")
    options: Name = Field(
        default="options", description="Column with the options: a map from letter to text, or a list in letter order."
    )
    answer: Name = Field(default="answer", description="Column with the text of the right option.")
    answer_key: Name = Field(default="answer_idx", description="Column with the letter of the right option.")


class DatasetSpec(ApiModel):
    """The training rows."""

    source: SourceURI = Field(
        description="hf://<owner>/<repository>, or pvc://<claim>/<path> of a .jsonl, .json, .csv or .parquet file, or "
        "of a folder with <split>.<extension>."
    )
    revision: Revision = Field(default="main", description="Branch, tag or commit of a hub dataset.")
    split: Split = Field(default="train", description="Split to train on.")
    format: Literal["MultipleChoice"] = Field(
        default="MultipleChoice", description="Shape of a row. MultipleChoice: a question, its options, one right."
    )
    columns: ColumnsSpec = Field(default=ColumnsSpec(), description="Names of the dataset's columns.")
    prompt_template: Annotated[Template, Placeholders(PROMPT_FIELDS, "question")] = Field(
        default="{question}\n\nOptions:\n{options}\n\nPlease choose the correct answer.",
        description="The user's message. Placeholders: {question}, {options} (one per line, 'A: text').",
    )
    response_template: Annotated[Template, Placeholders(RESPONSE_FIELDS, "answer")] = Field(
        default="The correct answer is {answer}.",
        description="The assistant's message, which is what the loss sees. Placeholders: {answer}, {letter}.",
    )
    workers: int = Field(default=2, ge=1, le=64, description="Threads that tokenise rows.")


class EvaluationDatasetSpec(ApiModel):
    """Held-out rows, in the columns and templates of spec.dataset."""

    source: SourceURI = Field(description="Like spec.dataset.source.")
    revision: Revision = Field(default="main", description="Branch, tag or commit of a hub dataset.")
    split: Split = Field(default="test", description="Split to evaluate on.")
