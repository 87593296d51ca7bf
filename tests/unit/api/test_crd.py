"""The CRD that is generated from the models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field

from finetune_api.base import ApiModel
from finetune_api.crd import UnsupportedSchemaError, build_crd, render, structural
from finetune_api.job import FineTuneJob
from finetune_api.results import EvaluationStatus
from finetune_api.rules import DECIMAL_PATTERN
from finetune_api.status import FineTuneJobStatus

REPOSITORY = Path(__file__).parents[3]


def _leaves(schema: dict[str, Any], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _leaves(child, f"{path}.{name}")
    if "items" in schema:
        yield from _leaves(schema["items"], f"{path}[]")
    if "additionalProperties" in schema:
        yield from _leaves(schema["additionalProperties"], f"{path}[]")


def leaves(section: str) -> list[tuple[str, dict[str, Any]]]:
    schema = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"][section]
    return list(_leaves(schema, section))


def test_the_committed_crd_is_what_the_models_say() -> None:
    assert (REPOSITORY / "crds/finetune.dev_finetunejobs.yaml").read_text() == render(), "run: make generate"


def test_generation_refuses_what_a_structural_schema_would_lose() -> None:
    class Odd(ApiModel):
        either: int | bool = Field(default=1)
        keyed: dict[str, int] = Field(default={}, json_schema_extra={"propertyNames": {"maxLength": 3}})

    schema = Odd.model_json_schema(by_alias=True)
    for name in ("either", "keyed"):
        with pytest.raises(UnsupportedSchemaError, match=f".{name}"):
            structural(schema["properties"][name], {}, f".{name}")


@pytest.mark.parametrize("section", ["spec", "status"])
def test_every_string_number_and_list_is_bounded_and_every_field_is_described(section: str) -> None:
    for path, leaf in leaves(section):
        kind = leaf.get("type")
        bounds = {"string": "maxLength", "integer": "maximum", "array": "maxItems"}
        if kind in bounds and "enum" not in leaf and leaf.get("format") != "date-time":
            assert bounds[kind] in leaf, path
        if "additionalProperties" in leaf:
            assert "maxProperties" in leaf, path
        assert kind != "number", path
        assert "description" in leaf or path.endswith("[]"), path


def test_every_decimal_of_the_spec_has_its_pattern() -> None:
    decimals = {path for path, leaf in leaves("spec") if leaf.get("pattern") == DECIMAL_PATTERN}
    assert decimals == {
        "spec.dataset.filters.maxMalformed",
        "spec.dataset.filters.maxOverlap",
        "spec.dataset.filters.maxTooLong",
        "spec.dataset.mixture[].weight",
        "spec.dataset.replay.fraction",
        "spec.dataset.validation.fraction",
        "spec.dataset.weight",
        "spec.evaluation.gates[].maximum",
        "spec.evaluation.gates[].maximumRetentionLoss",
        "spec.evaluation.gates[].minimum",
        "spec.evaluation.gates[].minimumGain",
        "spec.evaluation.gates[].notWorseThan.margin",
        "spec.evaluation.gates[].significance",
        "spec.lora.dropout",
        "spec.training.earlyStopping.minimumChange",
        "spec.training.elasticWeightConsolidation.strength",
        "spec.training.learningRate",
        "spec.training.weightDecay",
    }


def test_no_word_of_a_status_is_an_enum_but_the_three_of_a_condition() -> None:
    assert {path for path, leaf in leaves("status") if "enum" in leaf} == {"status.conditions[].status"}


def test_nothing_of_a_status_is_filled_in_by_the_api_server_and_nothing_empty_is_written() -> None:
    assert "required" not in dict(leaves("status"))["status"]
    assert [path for path, leaf in leaves("status") if "default" in leaf] == []
    assert FineTuneJobStatus().to_api() == {}
    assert EvaluationStatus(summary="x", examples=1).to_api().keys().isdisjoint({"metrics", "samples", "reportURI"})


def test_every_list_of_a_status_merges_by_key_or_as_a_whole() -> None:
    for path, leaf in leaves("status"):
        if leaf.get("type") == "array":
            assert leaf.get("x-kubernetes-list-type") in ("map", "atomic"), path


def test_an_older_operator_writes_back_what_a_newer_one_wrote() -> None:
    status = {
        "stage": "Distilling",
        "later": {"a": 1},
        "stages": [{"name": "Distill", "attempts": 1, "crashes": 0, "activeSeconds": 0, "later": 2}],
        "conditions": [
            {
                "type": "Distilled",
                "status": "True",
                "reason": "R",
                "message": "",
                "lastTransitionTime": "2026-01-02T03:04:05Z",
            }
        ],
        "attempts": [{"stage": "Distill", "number": 1, "jobUID": "u", "reason": "SomethingNew", "later": "x"}],
        "failure": {"reason": "SomethingNew", "message": "m", "later": [1]},
        "evaluation": {
            "summary": "x",
            "examples": 1,
            "droppedExamples": 0,
            "sharedExamples": 0,
            "runtimeSeconds": 0,
            "metrics": [{"name": "Bleu", "tuned": {"value": "0.3", "later": "y"}}],
        },
    }
    manifest = yaml.safe_load((REPOSITORY / "manifests/samples/medqa-tiny.yaml").read_text())
    job = FineTuneJob.model_validate({**manifest, "status": status})
    assert job.status.to_api() == status
