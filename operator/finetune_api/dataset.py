"""``spec.dataset``: the rows to train on, and the held-out rows of the evaluation.

Shapes of rows stand in row_formats.py. What follows from a format is no schema default: finetune_api.defaults fills it
in, and the classes at the end are what it gives.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from finetune_api.base import ApiModel
from finetune_api.credentials import SecretReference
from finetune_api.row_formats import (
    FORMAT_FIELDS,
    ChatRows,
    ColumnsSpec,
    EndOfText,
    FormatName,
    InstructionRows,
    MultipleChoiceRows,
    Template,
    TextRows,
    check_format_fields,
    format_rules,
)
from finetune_api.rules import Decimal, Within, rule, validations
from finetune_api.uris import Revision, SourceURI

Split = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]
Config = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._+-]+$")]
Provenance = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[A-Z][A-Za-z0-9]*$")]
MixtureName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$")]
Weight = Annotated[Decimal, Within(0, 1000, above=True)]
Share = Annotated[Decimal, Within(0, 1)]

# What the rows of spec.dataset itself are called beside those of its mixture.
MAIN = "dataset"
MAX_MIXTURE = 8

_SOURCE = (
    "hf://<owner>/<repository>, s3://<bucket>/<key>, or pvc://<claim>/<path>. A path is a .jsonl, .json, .csv or "
    ".parquet file, text files perhaps with .gz behind it, or a folder with the split's files: <split>.<extension>, "
    "<split>-<anything>.<extension> for each shard, or a folder <split>/ of them."
)
_CONFIG = "Configuration of a hub dataset; needed where it has several, such as main. Ignored for other sources."
_FORMAT = (
    "Shape of a row. MultipleChoice: a question, its options, one right. Chat: a list of turns. Instruction: an "
    "instruction, perhaps an input, and the response. Text: plain documents."
)
_PROMPT = (
    "The user's message. MultipleChoice: {question} and {options}, one per line by optionTemplate; default "
    "'{question}\\n\\nOptions:\\n{options}\\n\\nPlease choose the correct answer.'. Instruction: {instruction} and "
    "{input}, which is inputTemplate where the row has an input, else nothing; default '{instruction}{input}'."
)
_RESPONSE = (
    "The assistant's message, which is what the loss sees. MultipleChoice: {answer}, the right option's text, and "
    "{letter}, one of them at least; default 'The correct answer is {answer}.'. Instruction: {output}, its default."
)


class _RowsSpec(ApiModel):
    """Rows of one source and one shape, as a user names them."""

    source: SourceURI = Field(description=_SOURCE)
    config: Config | None = Field(default=None, description=_CONFIG)
    revision: Revision = Field(default="main", description="Branch, tag or commit of a hub dataset.")
    split: Split = Field(
        default="train", description="Split to train on: of a hub dataset, or among the files of a folder."
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description="A Secret of the job's namespace with the source's credentials: HF_TOKEN for hf://; "
        "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, where needed, AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL "
        "and AWS_CA_BUNDLE (PEM) for s3://.",
    )
    columns: ColumnsSpec | None = Field(default=None, description="Names of the dataset's columns.")
    prompt_template: Template | None = Field(default=None, description=_PROMPT)
    option_template: Template | None = Field(
        default=None,
        description="MultipleChoice: a line of {options}, with {letter} and {option}. Default: '{letter}. {option}'.",
    )
    input_template: Template | None = Field(
        default=None, description="Instruction: what {input} becomes where the row has one. Default: '\\n\\n{input}'."
    )
    response_template: Template | None = Field(default=None, description=_RESPONSE)
    end_of_text: EndOfText | None = Field(
        default=None,
        description="Text: whether the tokenizer's end-of-text token follows a document. Default: Append.",
    )

    def format_fields(self) -> dict[str, Any]:
        """The fields that only some formats have, None where unset."""
        return {field: getattr(self, field) for field in FORMAT_FIELDS}


class _TrainingRowsSpec(_RowsSpec):
    """Rows to train on."""

    provenance: Provenance | None = Field(
        default=None,
        description="Where the rows come from, one CamelCase word such as Human, Synthetic or Feedback. Kept with each "
        "row and counted in the result.",
    )
    weight: Weight | None = Field(
        default=None,
        description='Share of the mixture, relative to the other weights, a decimal in quotes, such as "0.5". As many '
        "rows are taken as the weights allow without repeating any. Either every dataset of the mixture has a weight "
        "or none has, and then all rows are taken.",
    )
    max_examples: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="The first so many usable rows are taken, and the rest is not read. Left out: all of them.",
    )


class MixtureSpec(_TrainingRowsSpec):
    """Further rows to train on, with a shape of their own."""

    model_config = {"json_schema_extra": validations(*format_rules(optional=True))}

    name: MixtureName = Field(description="Names the rows in status and messages.")
    format: FormatName | None = Field(
        default=None,
        description=f"{_FORMAT} Left out: format, columns and templates are those of spec.dataset.",
    )

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        check_format_fields(self.format, self.format_fields(), self.columns)
        return self


class FiltersSpec(ApiModel):
    """What is left out of the training rows, and when a run is refused for it."""

    deduplication: Literal["None", "Exact", "Near"] = Field(
        default="Near",
        description="Rows that repeat an earlier one are left out. Exact: the same but for case and white space. Near: "
        "also those that share at least 80% of their word sequences with an earlier row and answer alike (MinHash, "
        "checked). Default: Near.",
    )
    max_malformed: Share = Field(
        default="0.01",
        description="Largest share of rows that can't be used as they stand, each named in the log; more refuse the "
        'run. Default: "0.01".',
    )
    max_too_long: Share = Field(
        default="0.5",
        description="Largest share of rows that are longer than the model takes and would lose their response; more "
        'refuse the run. Default: "0.5".',
    )
    max_overlap: Share = Field(
        default="0.1",
        description="Largest share of held-out rows that a training row asks, too, exactly or nearly; more refuse the "
        'run. Default: "0.1".',
    )


_WEIGHTS = "either every dataset of the mixture has a weight or none has, dataset itself too"
_MAIN_TAKEN = f"a dataset of the mixture can't be named {MAIN}: so are the rows of dataset itself called"


class DatasetSpec(_TrainingRowsSpec):
    """The training rows."""

    model_config = {
        "json_schema_extra": validations(
            *format_rules(optional=False),
            rule("!has(self.mixture) || self.mixture.all(one, has(one.weight) == has(self.weight))", _WEIGHTS),
            rule(f"!has(self.mixture) || self.mixture.all(one, one.name != '{MAIN}')", _MAIN_TAKEN),
        )
    }

    format: FormatName = Field(default="MultipleChoice", description=_FORMAT)
    mixture: list[MixtureSpec] | None = Field(
        default=None,
        min_length=1,
        max_length=MAX_MIXTURE,
        description="Further rows that are mixed with these. The order of all rows is decided by training.seed.",
        json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
    )
    filters: FiltersSpec | None = Field(
        default=None,
        description="What is left out, and when a run is refused for it. Left out: the default of each field.",
    )
    packing: Literal["Auto", "Enabled", "Disabled"] | None = Field(
        default=None,
        description="Examples of a step share sequences, first-fit decreasing, each with positions and attention of "
        "its own: same losses, less padding. Auto: where the model's attention supports it and it saves something. "
        "Default: Auto.",
    )
    workers: int = Field(default=2, ge=1, le=64, description="Threads that tokenise rows.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_format_fields(self.format, self.format_fields(), self.columns)
        names = [one.name for one in self.mixture or ()]
        if len(set(names)) < len(names):
            raise ValueError("two datasets of the mixture have one name")
        if MAIN in names:
            raise ValueError(_MAIN_TAKEN)
        if any((one.weight is None) != (self.weight is None) for one in self.mixture or ()):
            raise ValueError(_WEIGHTS)
        return self


class EvaluationDatasetSpec(_RowsSpec):
    """Held-out rows, in the format, columns and templates of spec.dataset unless it names a format."""

    model_config = {"json_schema_extra": validations(*format_rules(optional=True))}

    split: Split = Field(default="test", description="Split to evaluate on.")
    format: FormatName | None = Field(
        default=None,
        description=f"{_FORMAT} Left out: format, columns and templates are those of spec.dataset.",
    )

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        check_format_fields(self.format, self.format_fields(), self.columns)
        return self


# Resolved: what a user may leave out is there, by format. Each stands for one place in a spec.


class MultipleChoiceMixture(MultipleChoiceRows, MixtureSpec):
    """A dataset of the mixture with MultipleChoice rows."""


class ChatMixture(ChatRows, MixtureSpec):
    """A dataset of the mixture with Chat rows."""


class InstructionMixture(InstructionRows, MixtureSpec):
    """A dataset of the mixture with Instruction rows."""


class TextMixture(TextRows, MixtureSpec):
    """A dataset of the mixture with Text rows."""


Mixture = Annotated[
    MultipleChoiceMixture | ChatMixture | InstructionMixture | TextMixture, Field(discriminator="format")
]


class _ResolvedDataset(DatasetSpec):
    mixture: list[Mixture] = []  # type: ignore[assignment]
    filters: FiltersSpec = FiltersSpec()
    packing: Literal["Auto", "Enabled", "Disabled"] = "Auto"


class MultipleChoiceDataset(MultipleChoiceRows, _ResolvedDataset):
    """spec.dataset of format MultipleChoice."""


class ChatDataset(ChatRows, _ResolvedDataset):
    """spec.dataset of format Chat."""


class InstructionDataset(InstructionRows, _ResolvedDataset):
    """spec.dataset of format Instruction."""


class TextDataset(TextRows, _ResolvedDataset):
    """spec.dataset of format Text."""


Dataset = Annotated[
    MultipleChoiceDataset | ChatDataset | InstructionDataset | TextDataset, Field(discriminator="format")
]


class MultipleChoiceHeldOut(MultipleChoiceRows, EvaluationDatasetSpec):
    """spec.evaluation.dataset of format MultipleChoice."""


class ChatHeldOut(ChatRows, EvaluationDatasetSpec):
    """spec.evaluation.dataset of format Chat."""


class InstructionHeldOut(InstructionRows, EvaluationDatasetSpec):
    """spec.evaluation.dataset of format Instruction."""


class TextHeldOut(TextRows, EvaluationDatasetSpec):
    """spec.evaluation.dataset of format Text."""


HeldOut = Annotated[
    MultipleChoiceHeldOut | ChatHeldOut | InstructionHeldOut | TextHeldOut, Field(discriminator="format")
]
