"""spec.json in a run's folder: what was asked for, as far as it makes the result."""

from __future__ import annotations

import json
from typing import Any

from finetune_api.defaults import ResolvedSpec, one_spelling, resolve
from finetune_api.evaluation_alone import READ_OF_TRAINING
from finetune_api.spec import FineTuneJobSpec

# Where a run computes and writes makes no difference to what it comes to.
_NOT_OF_THE_RESULT = {"runtime", "scheduling", "output"}
_ANYWHERE = {"output": {"destination": "pvc://any/where"}}


def spec_text(spec: ResolvedSpec) -> str:
    """The text of spec.json."""
    return json.dumps(_of_the_result(spec), ensure_ascii=False, indent=2) + "\n"


def read_spec(text: str) -> dict[str, Any]:
    """What a spec.json says, each value in the one form that digests are made of, so that equal values are equal.

    Fields that its writer did not know yet have their defaults. Raises ValueError for any other text.
    """
    return _of_the_result(one_spelling(resolve(FineTuneJobSpec.model_validate(_document(text) | _ANYWHERE))))


def restore_spec(text: str, destination: str, gpus_per_node: int) -> ResolvedSpec:
    """The spec that a spec.json is of, to run again: the file doesn't say where it computed and wrote.

    Raises ValueError for any other text.
    """
    elsewhere = {"output": {"destination": destination}, "runtime": {"gpusPerNode": gpus_per_node}}
    return resolve(FineTuneJobSpec.model_validate(_document(text) | elsewhere))


def _document(text: str) -> dict[str, Any]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("no JSON object")
    return document


def _of_the_result(spec: ResolvedSpec) -> dict[str, Any]:
    found = {name: value for name, value in spec.to_api().items() if name not in _NOT_OF_THE_RESULT}
    if spec.dataset is None:
        found["training"] = spec.training.model_dump(mode="json", by_alias=True, include=set(READ_OF_TRAINING))
    return found
