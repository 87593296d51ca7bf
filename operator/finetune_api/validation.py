"""``spec.dataset.validation``: rows whose loss says when training has gone far enough."""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import Field, TypeAdapter, model_validator
from pydantic.alias_generators import to_camel

from finetune_api.held_out import HeldOut
from finetune_api.row_formats import check_format_fields, format_rules
from finetune_api.rows import SOURCE, RowsSpec, Split
from finetune_api.rules import Decimal, Within, rule, validations
from finetune_api.uris import SourceURI

_VALIDATION_UNION = "validation needs either fraction or source"
_OF_SOURCE = "fraction takes rows of spec.dataset: beside it, nothing is said of a source"
_SOURCE_FIELDS = tuple(name for name, field in RowsSpec.model_fields.items() if field.default is None)


class ValidationSpec(RowsSpec):
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

    source: SourceURI | None = Field(default=None, description=f"{SOURCE} Either this or fraction.")  # type: ignore[assignment]
    fraction: Annotated[Decimal, Within(0, 0.5, above=True)] | None = Field(
        default=None,
        description='Share of the training rows that is set aside, a decimal in quotes such as "0.05": rows of '
        "spec.dataset and its mixture, chosen by training.seed. Either this or source.",
    )
    split: Split = Field(default="validation", description="Split of source.")

    @model_validator(mode="after")
    def _check_format(self) -> Self:
        if (self.fraction is None) == (self.source is None):
            raise ValueError(_VALIDATION_UNION)
        if self.fraction is not None and any(getattr(self, name) is not None for name in _SOURCE_FIELDS):
            raise ValueError(_OF_SOURCE)
        check_format_fields(self.format, self.format_fields(), self.columns)
        return self


_HELD_OUT: TypeAdapter[HeldOut] = TypeAdapter(HeldOut)


def held_out_of(validation: ValidationSpec) -> HeldOut | None:
    """The rows of a validation that has a source of its own, in the resolved shape; None for a share of the rows."""
    if validation.source is None:
        return None
    return _HELD_OUT.validate_python(validation.to_api())
