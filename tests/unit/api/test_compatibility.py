"""The CRD still accepts what the last release accepted; and the comparison finds each kind of breaking change."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from crd_compat import breaking_changes
from finetune_api.crd import build_crd

CURRENT = build_crd()
RELEASED = Path(__file__).parents[2] / "data/released-crd.yaml"
Schema = dict[str, Any]


def test_the_crd_breaks_nothing_that_the_last_release_accepted() -> None:
    assert breaking_changes(yaml.safe_load(RELEASED.read_text()), CURRENT) == [], "see docs/api-changes.md"


def version(crd: Schema) -> Schema:
    return crd["spec"]["versions"][0]  # type: ignore[no-any-return]


def field(crd: Schema, path: str) -> Schema:
    schema = version(crd)["schema"]["openAPIV3Schema"]
    for name in path.split("."):
        schema = schema["properties"][name.removesuffix("[]")]
        if name.endswith("[]"):
            schema = schema["items"]
    return schema  # type: ignore[no-any-return]


def put(path: str, keyword: str, value: Any) -> Callable[[Schema], Any]:
    return lambda crd: field(crd, path).__setitem__(keyword, value)


def drop(path: str, keyword: str) -> Callable[[Schema], Any]:
    return lambda crd: field(crd, path).pop(keyword)


def add_rule(crd: Schema) -> None:
    field(crd, "spec.model").setdefault("x-kubernetes-validations", []).append({"rule": "true", "message": "m"})


def stricter_rule(crd: Schema) -> None:
    field(crd, "spec.training")["x-kubernetes-validations"][0]["rule"] = "!has(self.maxSteps)"


def rename(crd: Schema) -> None:
    properties = field(crd, "spec.training")["properties"]
    properties["steps"] = properties.pop("maxSteps")


BREAKING: dict[str, tuple[Callable[[Schema], Any], str]] = {
    "a removed field": (lambda crd: field(crd, "spec.lora")["properties"].pop("rank"), ".spec.lora.rank is gone"),
    "a renamed field": (rename, ".spec.training.maxSteps is gone"),
    "a removed field of the status": (
        lambda crd: field(crd, "status.stages[]")["properties"].pop("crashes"),
        ".status.stages[].crashes is gone",
    ),
    "another type": (put("spec.lora.rank", "type", "string"), ".spec.lora.rank: type integer became string"),
    "a type instead of either": (
        drop("spec.training.microBatchSize", "x-kubernetes-int-or-string"),
        "x-kubernetes-int-or-string is gone",
    ),
    "a removed value": (put("spec.model.dtype", "enum", ["Auto", "BFloat16"]), "value 'Float16' is gone"),
    "an enum of an open word": (put("status.stage", "enum", ["Pending"]), ".status.stage: enum became"),
    "a new pattern": (put("spec.dataset.columns.answer", "pattern", "^a$"), "pattern None became ^a$"),
    "another pattern": (put("spec.dataset.split", "pattern", "^a$"), ".spec.dataset.split: pattern"),
    "a new format": (put("spec.dataset.split", "format", "uri"), "format None became uri"),
    "a lower maximum": (put("spec.lora.rank", "maximum", 64), "maximum 512 became 64"),
    "a higher minimum": (put("spec.lora.rank", "minimum", 2), "minimum 1 became 2"),
    "a shorter text": (put("spec.model.chatTemplate", "maxLength", 9), "maxLength 32768 became 9"),
    "a new lower bound": (put("spec.model.chatTemplate", "minLength", 1), "minLength None became 1"),
    "a shorter list": (put("status.attempts", "maxItems", 5), "maxItems 10 became 5"),
    "fewer keys": (put("spec.runtime.nodeSelector", "maxProperties", 1), "maxProperties 32 became 1"),
    "a newly required field": (
        lambda crd: field(crd, "spec")["required"].append("lora"),
        ".spec.lora became required",
    ),
    "a new field that is required": (
        lambda crd: (
            field(crd, "spec.model")["properties"].update(teacher={"type": "string"}),
            field(crd, "spec.model")["required"].append("teacher"),
        ),
        ".spec.model.teacher became required",
    ),
    "another default": (put("spec.lora.rank", "default", 8), "default 16 became 8"),
    "a removed default": (drop("spec.lora.rank", "default"), "default 16 became None"),
    "a default where none was": (put("spec.training.maxSteps", "default", 8), "default None became 8"),
    "a new field with a default, which comes into every job": (
        lambda crd: field(crd, "spec.training")["properties"].update(packing={"type": "string", "default": "Auto"}),
        ".spec.training.packing is new and has default 'Auto'",
    ),
    "a longer text of the status": (put("status.failure.log", "maxLength", 9999), "maxLength 2048 became 9999"),
    "a longer list of the status": (put("status.attempts", "maxItems", 20), "maxItems 10 became 20"),
    "a list of the status without a limit": (drop("status.stages", "maxItems"), "maxItems 8 became None"),
    "a lower minimum in the status": (put("status.attempts[].number", "minimum", 0), "minimum 1 became 0"),
    "another digest in the status": (drop("status.adapter.sha256", "pattern"), "became None"),
    "a further value in the status": (
        lambda crd: field(crd, "status.conditions[].status")["enum"].append("Perhaps"),
        "value 'Perhaps' is new",
    ),
    "a field of the status that may be missing": (
        lambda crd: field(crd, "status.attempts[]")["required"].remove("jobUID"),
        ".status.attempts[].jobUID is no longer required",
    ),
    "a new rule": (add_rule, ".spec.model: rule 'true' is new"),
    "another rule": (stricter_rule, ".spec.training: rule '!has(self.maxSteps)' is new"),
    "a list that merges otherwise": (
        put("status.stages", "x-kubernetes-list-type", "atomic"),
        "x-kubernetes-list-type map became atomic",
    ),
    "other merge keys": (put("status.stages", "x-kubernetes-list-map-keys", ["jobUID"]), "x-kubernetes-list-map-keys"),
    "a removed column": (
        lambda crd: version(crd)["additionalPrinterColumns"].pop(0),
        "column Stage is gone",
    ),
    "a column of another path": (
        lambda crd: version(crd)["additionalPrinterColumns"][0].update(jsonPath=".x"),
        "column Stage: jsonPath .status.stage became .x",
    ),
    "a column that only the wide list shows": (
        lambda crd: version(crd)["additionalPrinterColumns"][0].update(priority=1),
        "column Stage shows in the wide list only",
    ),
    "a removed short name": (lambda crd: crd["spec"]["names"].update(shortNames=[]), "names.shortNames: ftj is gone"),
    "a removed category": (lambda crd: crd["spec"]["names"].update(categories=["x"]), "names.categories: ai is gone"),
    "another plural": (lambda crd: crd["spec"]["names"].update(plural="x"), "names.plural: finetunejobs became x"),
    "another scope": (lambda crd: crd["spec"].update(scope="Cluster"), "scope: Namespaced became Cluster"),
    "a version that is not served": (lambda crd: version(crd).update(served=False), "v1alpha1 is no longer served"),
    "a removed subresource": (lambda crd: version(crd)["subresources"].pop("status"), "subresource status is gone"),
}


@pytest.mark.parametrize(("change", "told"), BREAKING.values(), ids=BREAKING.keys())
def test_a_breaking_change_is_found_and_named(change: Callable[[Schema], Any], told: str) -> None:
    new = copy.deepcopy(CURRENT)
    change(new)
    found = breaking_changes(CURRENT, new)
    assert len(found) == 1, found
    assert told in found[0]


def add_optional(crd: Schema) -> None:
    strict = {"type": "string", "maxLength": 5, "pattern": "^a$"}
    strict["x-kubernetes-validations"] = [{"rule": "self == 'a'", "message": "m"}]
    field(crd, "spec.model")["properties"]["teacher"] = strict
    inner = {"steps": {"type": "integer", "default": 9}}  # reaches no job that does not name the field around it
    field(crd, "spec")["properties"]["checkpoints"] = {"type": "object", "properties": inner}


def add_version(crd: Schema) -> None:
    later = copy.deepcopy(version(crd)) | {"name": "v1beta1"}
    later["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"].pop("lora")
    crd["spec"]["versions"].append(later)


def reword(crd: Schema) -> None:
    field(crd, "spec.lora.rank")["description"] = "another"
    field(crd, "spec.training")["x-kubernetes-validations"][0]["message"] = "another"


COMPATIBLE: dict[str, Callable[[Schema], Any]] = {
    "nothing": lambda crd: None,
    "a new optional field, strict in itself": add_optional,
    "a new field of the status": lambda crd: field(crd, "status.stages[]")["properties"].update(x={"type": "string"}),
    "a further value": lambda crd: field(crd, "spec.method")["enum"].append("Full"),
    "a higher maximum": put("spec.lora.rank", "maximum", 1024),
    "a lower minimum": put("spec.lora.rank", "minimum", 0),
    "a longer list": put("spec.evaluation.metrics", "maxItems", 99),
    "no pattern any more": drop("spec.dataset.split", "pattern"),
    "no rule any more": drop("spec.training", "x-kubernetes-validations"),
    "no enum any more": drop("spec.model.dtype", "enum"),
    "a field that may now be left out": lambda crd: field(crd, "spec")["required"].remove("output"),
    "other words": reword,
    "a further column": lambda crd: version(crd)["additionalPrinterColumns"].insert(
        0, {"name": "X", "type": "string", "jsonPath": ".x"}
    ),
    "a further short name": lambda crd: crd["spec"]["names"]["shortNames"].append("ft"),
    "a further version": add_version,
}


@pytest.mark.parametrize("change", COMPATIBLE.values(), ids=COMPATIBLE.keys())
def test_compatible_growth_is_not_taken_for_a_break(change: Callable[[Schema], Any]) -> None:
    new = copy.deepcopy(CURRENT)
    change(new)
    assert breaking_changes(CURRENT, new) == []
