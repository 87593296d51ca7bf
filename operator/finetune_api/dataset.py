"""``spec.dataset``: the rows to train on, and the held-out rows of the evaluation.

Shapes of rows stand in row_formats.py. What follows from a format is no schema default: finetune_api.defaults fills it
in, and the classes at the end are what it gives.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal, Self

from pydantic import Field, TypeAdapter, model_validator
from pydantic.alias_generators import to_camel

from finetune_api.base import ApiModel, FieldError
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
from finetune_api.rules import Decimal, TextRule, Within, rule, validations
from finetune_api.uris import Revision, SourceURI

Split = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._-]+$")]
Config = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9._+-]+$")]
Provenance = Annotated[str, Field(min_length=1, max_length=32, pattern=r"^[A-Z][A-Za-z0-9]*$")]
Weight = Annotated[Decimal, Within(0, 1000, above=True)]
Share = Annotated[Decimal, Within(0, 1)]

# What the rows of spec.dataset itself are called beside those of its mixture.
MAIN = "dataset"
MAX_MIXTURE = 8
REPLAY = "replay"


@dataclass(frozen=True)
class _NotMain(TextRule):
    """A name other than that of the rows of spec.dataset itself."""

    def check(self, text: str) -> str:
        if text == MAIN:
            raise ValueError(_MAIN_TAKEN)
        return text

    def cel(self) -> dict[str, str]:
        return rule(f"self != '{MAIN}'", _MAIN_TAKEN)


_MAIN_TAKEN = f"'{MAIN}' is what the rows of spec.dataset itself are called: choose another name"
MixtureName = Annotated[str, Field(min_length=1, max_length=63, pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"), _NotMain()]


_SOURCE = (
    "Where the rows lie: hf://<owner>/<repository>, s3://<bucket>/<key> or pvc://<claim>/<path>. A key or path is a "
    ".jsonl, .json, .csv or .parquet file (the first three also with .gz behind it), or a folder with the split's "
    "files: <split>.<extension>, <split>-<anything>.<extension> for each shard, or a folder <split>/ of them."
)
_CONFIG = "Configuration of a hub dataset; needed where it has several, such as main. Ignored for other sources."
_FORMAT = (
    "Shape of a row. MultipleChoice: a question, its options, one right. Chat: a list of turns. Instruction: an "
    "instruction, perhaps an input, and the response. Text: plain documents."
)
_OPTIONAL_FORMAT = f"{_FORMAT} Left out: format, columns and templates are those of spec.dataset."
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
    revision: Revision = Field(
        default="main",
        description="Branch, tag or commit of a hub dataset. The commit it stood for is recorded in status.lineage. "
        "Ignored for other sources.",
    )
    split: Split = Field(
        default="train", description="Split to train on: of a hub dataset, or among the files of a folder."
    )
    secret_ref: SecretReference | None = Field(
        default=None,
        description="A Secret of the job's namespace with the source's credentials, which only the job's pods read. "
        "For hf:// its key HF_TOKEN; for s3:// AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, where needed also "
        "AWS_SESSION_TOKEN, AWS_REGION, AWS_ENDPOINT_URL and AWS_CA_BUNDLE (PEM text). Left out: the profile's "
        "environment.",
    )
    columns: ColumnsSpec | None = Field(
        default=None,
        description="Names of the dataset's columns, where they aren't the usual ones of its format, such as "
        "{instruction: prompt, output: completion}.",
    )
    prompt_template: Template | None = Field(default=None, description=_PROMPT)
    option_template: Template | None = Field(
        default=None,
        description="MultipleChoice: a line of {options}, with {option} and perhaps {letter}. Default: "
        "'{letter}. {option}'.",
    )
    input_template: Template | None = Field(
        default=None,
        description="Instruction: what stands for {input} in promptTemplate where the row has an input. Default: "
        "'\\n\\n{input}'.",
    )
    response_template: Template | None = Field(default=None, description=_RESPONSE)
    end_of_text: EndOfText | None = Field(
        default=None,
        description="Text: whether the tokenizer's end-of-text token follows each document. Omit: rows are pieces of "
        "a longer text. Default: Append.",
    )

    max_examples: int | None = Field(
        default=None,
        ge=1,
        le=10_000_000,
        description="Only the first so many well-formed rows are read; of rows to train on, repeats and those that are "
        "too long are then left out of these. Left out: all rows.",
    )

    def format_fields(self) -> dict[str, Any]:
        """The fields that only some formats have, None where unset."""
        return {field: getattr(self, field) for field in FORMAT_FIELDS}


class _ReadRowsSpec(_RowsSpec):
    """Rows to train on, in whatever number."""

    provenance: Provenance | None = Field(
        default=None,
        description="Where the rows come from, one CamelCase word such as Human, Synthetic or Feedback. Kept with each "
        "row and counted in status.dataset.provenance; columns.provenance says it row by row.",
    )


class _TrainingRowsSpec(_ReadRowsSpec):
    """Rows to train on, and their share of a mixture."""

    weight: Weight | None = Field(
        default=None,
        description='Share of the mixture, relative to the other weights, a decimal in quotes: with "3" and '
        '"1", three rows in four are of the first. As many rows are taken as that allows without repeating any. Either '
        "spec.dataset and each dataset of its mixture have a weight, or none has, and then all rows are taken.",
    )


class MixtureSpec(_TrainingRowsSpec):
    """Further rows to train on, from a source of their own."""

    model_config = {"json_schema_extra": validations(*format_rules(optional=True))}

    name: MixtureName = Field(description="What the rows are called in status and messages.")
    format: FormatName | None = Field(default=None, description=_OPTIONAL_FORMAT)

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        check_format_fields(self.format, self.format_fields(), self.columns)
        return self


class ReplaySpec(_ReadRowsSpec):
    """Rows of a general dataset that are mixed in against forgetting."""

    model_config = {"json_schema_extra": validations(*format_rules(optional=True))}

    format: FormatName | None = Field(default=None, description=_OPTIONAL_FORMAT)
    fraction: Annotated[Decimal, Within(0, 0.9)] = Field(
        default="0.1",
        description="Share of these rows among all examples that are trained on; as many as there are, if these are "
        'fewer. "0": none is trained on, but elasticWeightConsolidation reads them.',
    )

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        check_format_fields(self.format, self.format_fields(), self.columns)
        return self


_VALIDATION_UNION = "validation needs either fraction or source"
_OF_SOURCE = "fraction takes rows of spec.dataset: beside it, nothing is said of a source"
_SOURCE_FIELDS = ("format", *(name for name, field in _RowsSpec.model_fields.items() if field.default is None))


class ValidationSpec(_RowsSpec):
    """Rows that are not trained on: their loss says when training has gone far enough."""

    model_config = {
        "json_schema_extra": validations(
            rule("has(self.fraction) != has(self.source)", _VALIDATION_UNION),
            rule(
                f"!has(self.fraction) || !({' || '.join(f'has(self.{to_camel(one)})' for one in _SOURCE_FIELDS)})",
                _OF_SOURCE,
            ),
            *format_rules(optional=True),
        )
    }

    source: SourceURI | None = Field(default=None, description=f"{_SOURCE} Either this or fraction.")  # type: ignore[assignment]
    fraction: Annotated[Decimal, Within(0, 0.5, above=True)] | None = Field(
        default=None,
        description='Share of the training rows that is set aside, a decimal in quotes such as "0.05": rows of '
        "spec.dataset and its mixture, chosen by training.seed. Either this or source.",
    )
    split: Split = Field(default="validation", description="Split of source.")
    format: FormatName | None = Field(default=None, description=_OPTIONAL_FORMAT)

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.fraction is None) == (self.source is None):
            raise ValueError(_VALIDATION_UNION)
        if self.fraction is not None and any(getattr(self, name) is not None for name in _SOURCE_FIELDS):
            raise ValueError(_OF_SOURCE)
        check_format_fields(self.format, self.format_fields(), self.columns)
        return self


class FiltersSpec(ApiModel):
    """What is left out of the training rows, and when the job ends for it."""

    deduplication: Literal["None", "Exact", "Near"] = Field(
        default="Near",
        description="Rows that repeat an earlier one, of any dataset of the mixture, are left out. Exact: the same but "
        "for case and white space. Near: also those that share at least 80% of their word sequences with an earlier "
        "row and answer alike (MinHash, checked). Default: Near.",
    )
    max_malformed: Share = Field(
        default="0.01",
        description="Largest share of a dataset's rows that may be malformed: without a column, with a text of "
        "another type, with turns out of order. They are left out and named; more of them end the job with "
        'DatasetInvalid. Default: "0.01".',
    )
    max_too_long: Share = Field(
        default="0.5",
        description="Largest share of a dataset's rows that may be longer than model.maxSequenceLength, or without a "
        "response for the loss. They are left out, never cut; more of them end the job with DatasetInvalid. Default: "
        '"0.5".',
    )
    max_overlap: Share = Field(
        default="0.1",
        description="Largest share of the held-out rows of the evaluation that training rows may ask, too, exactly or "
        "nearly. They stay where they are and are named; more of them end the job with DatasetInvalid. Default: "
        '"0.1".',
    )


_REPLAY_TAKEN = "'replay' is what the rows of replay are called: choose another name"
_TWICE = "two datasets of the mixture have one name"
_OWN_WEIGHT = "a dataset of the mixture has a weight, and then spec.dataset needs one, too"
_ALL_WEIGHTS = "spec.dataset has a weight, and then each dataset of the mixture needs one, too"


class DatasetSpec(_TrainingRowsSpec):
    """The training rows."""

    model_config = {
        "json_schema_extra": validations(
            *format_rules(optional=False),
            rule(
                "has(self.weight) || !has(self.mixture) || self.mixture.all(one, !has(one.weight))",
                _OWN_WEIGHT,
                ".weight",
                "FieldValueRequired",
            ),
            rule(
                "!has(self.weight) || !has(self.mixture) || self.mixture.all(one, has(one.weight))",
                _ALL_WEIGHTS,
                ".mixture",
            ),
            rule(
                "!has(self.replay) || !has(self.mixture) || self.mixture.all(one, one.name != 'replay')",
                _REPLAY_TAKEN,
                ".mixture",
            ),
        )
    }

    format: FormatName = Field(default="MultipleChoice", description=_FORMAT)
    mixture: list[MixtureSpec] | None = Field(
        default=None,
        max_length=MAX_MIXTURE,
        description="Further datasets that are trained on together with these rows: all of their rows, or shares by "
        "weight. Each has a source, and perhaps a format, columns, templates and a provenance of its own. The order of "
        "all rows is decided by training.seed alone. Filters look at all datasets together.",
        # No map by name: those are equal in any order, so that another order could be applied to a job that runs.
        json_schema_extra={
            "x-kubernetes-list-type": "atomic",
            **validations(rule("self.all(one, self.exists_one(other, other.name == one.name))", _TWICE)),
        },
    )
    filters: FiltersSpec | None = Field(
        default=None,
        description="Which training rows are left out, and how many may be before the job ends instead. Left out: the "
        "default of each field.",
    )
    validation: ValidationSpec | None = Field(
        default=None,
        description="Rows whose loss is measured while training goes on, for training.earlyStopping: a share of the "
        "training rows, or a source of their own. Never the held-out rows of the evaluation.",
    )
    replay: ReplaySpec | None = Field(
        default=None,
        description="Rows of a general dataset, a tenth of all examples by default, that keep the model from "
        "forgetting what it knew.",
    )
    packing: Literal["Auto", "Enabled", "Disabled"] | None = Field(
        default=None,
        description="Whether examples of one step share sequences (first-fit decreasing), each with positions and "
        "attention of its own: the same losses with less padding. Auto: where the model keeps examples apart and it "
        "saves at least a tenth. Enabled: InvalidSpec where it doesn't keep them apart. Default: Auto.",
    )
    workers: int = Field(default=2, ge=1, le=64, description="Threads that tokenise rows. Default: 2.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        check_format_fields(self.format, self.format_fields(), self.columns)
        names = [one.name for one in self.mixture or ()]
        if len(set(names)) < len(names):
            raise FieldError("mixture", _TWICE)
        if self.replay and REPLAY in names:
            raise FieldError("mixture", _REPLAY_TAKEN)
        weighted = [one.weight is not None for one in self.mixture or ()]
        if self.weight is None and any(weighted):
            raise FieldError("weight", _OWN_WEIGHT)
        if self.weight is not None and not all(weighted):
            raise FieldError("mixture", _ALL_WEIGHTS)
        return self


class EvaluationDatasetSpec(_RowsSpec):
    """Held-out rows, in the format, columns and templates of spec.dataset unless it names a format."""

    model_config = {"json_schema_extra": validations(*format_rules(optional=True))}

    split: Split = Field(default="test", description="Split to evaluate on.")
    format: FormatName | None = Field(default=None, description=_OPTIONAL_FORMAT)

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


class MultipleChoiceReplay(MultipleChoiceRows, ReplaySpec):
    """spec.dataset.replay with MultipleChoice rows."""


class ChatReplay(ChatRows, ReplaySpec):
    """spec.dataset.replay with Chat rows."""


class InstructionReplay(InstructionRows, ReplaySpec):
    """spec.dataset.replay with Instruction rows."""


class TextReplay(TextRows, ReplaySpec):
    """spec.dataset.replay with Text rows."""


Replay = Annotated[MultipleChoiceReplay | ChatReplay | InstructionReplay | TextReplay, Field(discriminator="format")]


class _ResolvedDataset(DatasetSpec):
    replay: Replay | None = None
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


def datasets_of(dataset: Dataset) -> dict[str, Dataset | Mixture | Replay]:
    """All datasets that are trained on, by name, in order: spec.dataset's own rows, its mixture's, and its replay's."""
    found: dict[str, Dataset | Mixture | Replay] = {MAIN: dataset, **{one.name: one for one in dataset.mixture}}
    return {**found, REPLAY: dataset.replay} if dataset.replay else found


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

_HELD_OUT: TypeAdapter[HeldOut] = TypeAdapter(HeldOut)


def held_out_of(validation: ValidationSpec) -> HeldOut | None:
    """The rows of a validation that has a source of its own, in the resolved shape; None for a share of the rows."""
    if validation.source is None:
        return None
    return _HELD_OUT.validate_python(validation.to_api())
