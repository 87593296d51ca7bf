"""A job without ``spec.dataset``: nothing is trained, and what an earlier job or somebody else made is evaluated.

What says how to train is refused then, since it would be passed over. The rules stand at spec.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pydantic.alias_generators import to_camel

from finetune_api.base import FieldError
from finetune_api.rules import rule
from finetune_api.training import TrainingSpec

if TYPE_CHECKING:
    from finetune_api.spec import FineTuneJobSpec

# What of spec.training an evaluation reads, too: which responses of a conversation are scored.
READ_OF_TRAINING = ("loss_on",)

_NEEDED = (
    "name the rows to train on. Without them nothing is trained: such a job needs evaluation and, but for method Full, "
    "model.adapter, the adapter that it evaluates"
)
_NO_BASE = (
    "without dataset, method Full evaluates model.source itself, and there is no base to compare it with: set "
    "compareWithBase to false, or, to train, name the rows in dataset"
)
_NOTHING_TRAINED = "without dataset nothing is trained: leave {} out, or, to train, name the rows in dataset"
_LORA, _FORMATS, _TRACKING = (_NOTHING_TRAINED.format(name) for name in ("lora", "formats", "tracking"))
_TRAINING = _NOTHING_TRAINED.format("all of training but lossOn")


def alone_rules() -> Iterator[dict[str, str]]:
    """:func:`check_alone` as CEL rules at spec."""
    fits = "has(self.evaluation) && (self.method == 'Full' || has(self.model.adapter))"
    yield rule(f"has(self.dataset) || ({fits})", _NEEDED, ".dataset", "FieldValueRequired")
    compared = "self.method == 'Full' && has(self.evaluation) && self.evaluation.compareWithBase"
    yield rule(f"has(self.dataset) || !({compared})", _NO_BASE, ".evaluation.compareWithBase")
    for field, message in ((".lora", _LORA), (".output.formats", _FORMATS), (".tracking", _TRACKING)):
        yield rule(f"has(self.dataset) || !has(self{field})", message, field, "FieldValueForbidden")
    as_default = " && ".join(
        _default_in_cel(name) for name in TrainingSpec.model_fields if name not in READ_OF_TRAINING
    )
    yield rule(f"has(self.dataset) || ({as_default})", _TRAINING, ".training", "FieldValueForbidden")


def check_alone(spec: FineTuneJobSpec) -> None:
    """Raises FieldError for a spec without a dataset that lacks what is to be evaluated, or says how to train.

    A value of training that equals its default can't be told from one that is left out: the API server fills it in.
    """
    full, evaluation = spec.method == "Full", spec.evaluation
    if evaluation is None or not (full or spec.model.adapter):
        raise FieldError("dataset", _NEEDED)
    if full and evaluation.compare_with_base:
        raise FieldError("evaluation.compareWithBase", _NO_BASE)
    if spec.lora:
        raise FieldError("lora", _LORA)
    if spec.output.formats:
        raise FieldError("output.formats", _FORMATS)
    if spec.tracking:
        raise FieldError("tracking", _TRACKING)
    if spec.training != TrainingSpec(**spec.training.model_dump(include=set(READ_OF_TRAINING))):
        raise FieldError("training", _TRAINING)


def _default_in_cel(name: str) -> str:
    field, default = f"self.training.{to_camel(name)}", TrainingSpec.model_fields[name].default
    return f"!has({field})" if default is None else f"{field} == {default!r}"
