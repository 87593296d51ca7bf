"""Rules in Python. The same values meet the same rules as CEL in tests/apiserver/test_schema.py."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from finetune_api.manifest import ManifestError, read_manifest
from finetune_api.rules import Placeholders, fill
from finetune_api.spec import FineTuneJobSpec
from rule_cases import CASES
from rule_cases.sections import SPECS, alone
from specs import MINIMAL, job_with, spec_with


@pytest.mark.parametrize(("path", "value", "good"), CASES, ids=[f"{path}={value!r}"[:60] for path, value, _ in CASES])
def test_models_and_schema_judge_alike(path: str, value: Any, good: bool) -> None:
    text = json.dumps(job_with(path, value))
    if good:
        read_manifest(text, "job.json")
        return
    with pytest.raises(ManifestError):
        read_manifest(text, "job.json")


@pytest.mark.parametrize(("spec", "field"), SPECS, ids=[f"{field}-{number}" for number, (_, field) in enumerate(SPECS)])
def test_models_and_schema_judge_alike_what_goes_with_what_and_name_one_field(
    spec: dict[str, Any], field: str | None
) -> None:
    text = json.dumps({**MINIMAL, "spec": spec})
    if field is None:
        read_manifest(text, "job.json")
        return
    with pytest.raises(ManifestError) as caught:
        read_manifest(text, "job.json")
    assert re.search(rf"job\.json: spec\.{re.escape(field)}(\[\d\])?: ", str(caught.value))


@pytest.mark.parametrize("pattern", ["(", "[a", "*a", "(?P<a>b)(?P<a>c)", "a{99999999999}", "(" * 250 + ")" * 249])
def test_what_is_no_pattern_is_refused_before_anything_runs(pattern: str) -> None:
    checks = [{"name": "Format", "pattern": pattern}]
    with pytest.raises(ValidationError, match="no regular expression"):
        spec_with("evaluation", {"dataset": {"source": "hf://owner/rows"}, "checks": checks})


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{question} {choices}", "unknown placeholder {choices}; there are {question}, {options}"),
        ("{question!r}", "unknown placeholder {question!r}"),
        ("Pick one.", "must contain the placeholder {question}"),
        ("{question", "'{' at character 1 stands alone; write literal braces as {{ and }}"),
        ("{question} }", "'}' at character 12 stands alone"),
        ("{question:{x}}", "'{' at character 1 stands alone"),
    ],
)
def test_a_wrong_template_is_told_in_words_that_help(template: str, complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec_with("dataset.promptTemplate", template)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        ("training.learningRate", "2", "must be above 0 and at most 1, not 2"),
        ("training.learningRate", 0.0002, 'must be of type string, in quotes as "0.0002"'),
        ("training.microBatchSize", "auto", "must be Auto or a number of examples from 1 to 1024"),
        ("training.microBatchSize", 3, "batchSize 8 must be a multiple of microBatchSize 3"),
        ("lora.targetModules", ["AllLinear", "q_proj"], "AllLinear stands alone"),
        ("model.chatTemplateKwargs", {"tools": "x"}, "one that the trainer sets itself: 'tools'"),
        ("model.source", "hf://a/b..c", "must not contain '..'"),
        ("output.destination", "hf://a/b", "is not pvc://<claim>/<path>"),
        ("training", {"maxSteps": 1, "epochs": 1}, "set maxSteps or epochs, not both"),
    ],
)
def test_a_wrong_value_is_told_in_words_that_help(path: str, value: Any, complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        spec_with(path, value)
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"evaluation": None}, "dataset: name the rows to train on. Without them nothing is trained"),
        ({"model": {"source": "hf://owner/model"}}, "model.adapter, the adapter that it evaluates"),
        ({"lora": {}}, "lora: without dataset nothing is trained: leave lora out, or, to train, name the rows"),
        ({"training": {"seed": 1}}, "leave all of training but lossOn out"),
    ],
)
def test_a_job_without_training_rows_is_told_what_it_lacks_or_has_too_much(
    changes: dict[str, Any], complaint: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        FineTuneJobSpec.model_validate(alone(**changes))
    assert complaint in str(caught.value)


def test_braces_in_a_value_are_text_and_doubled_ones_in_a_template_are_single() -> None:
    template = Placeholders(("question", "options"), ("question",)).check("{{{question}}} {{x}} {options}")
    assert fill(template, question="{options} {{", options="}{0}") == "{{options} {{} {x} }{0}"


def test_what_is_unset_is_absent_in_the_api_form() -> None:
    assert "evaluation" not in spec_with().to_api()
    assert "null" not in yaml.safe_dump(spec_with().to_api())


def test_reading_ignores_fields_of_a_later_version() -> None:
    assert FineTuneJobSpec.model_validate(job_with("novelty", 1)["spec"]) == spec_with()
