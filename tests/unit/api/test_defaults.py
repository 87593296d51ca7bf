"""What is left out of a spec: every default as a literal, and the digests that must outlive a version."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest
from pydantic import Field

from finetune_api.base import sha256_of
from finetune_api.crd import build_crd
from finetune_api.defaults import _DECIMALS, LEARNING_RATES, ResolvedLora, ResolvedSpec, ResolvedTraining, resolve
from finetune_api.filters import FiltersSpec
from finetune_api.lora import LoraSpec
from finetune_api.row_formats import ROW_FORMATS
from finetune_api.rules import DECIMAL_PATTERN
from finetune_api.sources import SourceReference, claims_read, claims_written, secrets_read, sources_of
from finetune_api.spec import FineTuneJobSpec
from finetune_api.spec_file import read_spec, restore_spec, spec_text
from finetune_api.stages import EVALUATE, stages_of
from specs import job_with, spec_with

# A default never changes within a version of the API: an object that is stored, or applied again, would change meaning.
SCHEMA_DEFAULTS = {
    "method": "QLoRA",
    "model.adapter.revision": "main",
    "model.chatTemplate": "",
    "model.chatTemplateKwargs": {},
    "model.dtype": "Auto",
    "model.maxSequenceLength": 2048,
    "model.revision": "main",
    "dataset.format": "MultipleChoice",
    "dataset.filters.deduplication": "Near",
    "dataset.filters.maxMalformed": "0.01",
    "dataset.filters.maxOverlap": "0.1",
    "dataset.filters.maxTooLong": "0.5",
    "dataset.replay.fraction": "0.1",
    "dataset.replay.revision": "main",
    "dataset.replay.split": "train",
    "dataset.revision": "main",
    "dataset.split": "train",
    "dataset.validation.revision": "main",
    "dataset.validation.split": "validation",
    "dataset.workers": 2,
    "lora.alpha": 16,
    "lora.bias": "None",
    "lora.dropout": "0",
    "lora.rank": 16,
    "lora.seed": 42,
    "lora.targetModules": ["AllLinear"],
    "training": {},
    "training.batchSize": 8,
    "training.checkpoint.keep": 2,
    "training.earlyStopping.everySteps": 25,
    "training.earlyStopping.minimumChange": "0",
    "training.earlyStopping.patience": 3,
    "training.elasticWeightConsolidation.maxExamples": 128,
    "training.gradientCheckpointing": "Auto",
    "training.loggingSteps": 10,
    "training.lossOn": "Responses",
    "training.microBatchSize": "Auto",
    "training.optimizer": "AdamW8bit",
    "training.scheduler": "Linear",
    "training.seed": 700,
    "training.warmupSteps": 5,
    "training.weightDecay": "0.01",
    "evaluation.compareWithBase": True,
    "evaluation.dataset.revision": "main",
    "evaluation.dataset.split": "test",
    "evaluation.judge.concurrency": 4,
    "evaluation.judge.maxExamples": 100,
    "evaluation.judge.maxReplyTokens": 512,
    "evaluation.judge.maxRequests": 2000,
    "evaluation.judge.maxRetries": 3,
    "evaluation.judge.maxSeconds": 1800,
    "evaluation.judge.pairwise": False,
    "evaluation.judge.repeats": 1,
    "evaluation.judge.rubric": ["Relevance", "Accuracy", "Fluency"],
    "evaluation.judge.timeoutSeconds": 60,
    "evaluation.latency.newTokens": 64,
    "evaluation.latency.prompts": 8,
    "evaluation.maxNewTokens": 128,
    "evaluation.metrics": ["Accuracy", "LetterAccuracy", "Perplexity"],
    "evaluation.retention.revision": "main",
    "evaluation.retention.split": "test",
    "evaluation.samplePrompts": 3,
    "runtime": {},
    "runtime.gpusPerNode": 1,
    "runtime.nodeSelector": {},
    "runtime.profile": "default",
    "runtime.resources": {},
    "runtime.resources.limits": {"memory": "16Gi"},
    "runtime.resources.requests": {"cpu": "4", "memory": "16Gi"},
    "runtime.tolerations": [],
    "scheduling": {},
    "scheduling.backoffLimit": 3,
}

# By method, and by format.
LEARNING_RATE = {"QLoRA": "2e-4", "LoRA": "2e-4", "Full": "3e-5"}
FORMATS = {"QLoRA": ["Adapter"], "LoRA": ["Adapter"], "Full": ["Merged16Bit"]}
DATASET = {
    "MultipleChoice": {
        "columns": {"question": "question", "options": "options", "answer": "answer", "answerKey": "answer_idx"},
        "promptTemplate": "{question}\n\nOptions:\n{options}\n\nPlease choose the correct answer.",
        "optionTemplate": "{letter}. {option}",
        "responseTemplate": "The correct answer is {answer}.",
    },
    "Chat": {"columns": {"tools": "tools", "system": "system"}},
    "Instruction": {
        "columns": {"instruction": "instruction", "input": "input", "output": "output", "system": "system"},
        "promptTemplate": "{instruction}{input}",
        "inputTemplate": "\n\n{input}",
        "responseTemplate": "{output}",
    },
    "Text": {"columns": {"text": "text"}, "endOfText": "Append"},
}

JUDGE = {"endpoint": "https://judge.example/v1", "model": "judge"}

# The reference: no field set that has a default.
TRAINING_SHA256 = "01adcefc68961c31c80fd616517837bfe8dd549f72642f30c1115fefa3818f62"
EVALUATION_SHA256 = "4293148b2b29250145ed007e81ff52839ee4078eba646771bf98d36af672141a"


def reference(**more: Any) -> FineTuneJobSpec:
    spec = job_with("evaluation", {"dataset": {"source": "hf://owner/rows"}})["spec"]
    return FineTuneJobSpec.model_validate(spec | more)


def schema_defaults(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, child in schema.get("properties", {}).items():
        if "default" in child:
            yield f"{path}{name}", child["default"]
        yield from schema_defaults(child, f"{path}{name}.")


def test_every_default_of_the_schema_is_the_one_that_was_promised() -> None:
    schema = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert dict(schema_defaults(schema)) == SCHEMA_DEFAULTS


def practices() -> FineTuneJobSpec:
    """The reference with every field that has none by itself, and no more in each than it must have."""
    rows = {"source": "hf://owner/general"}
    return reference(
        model={**reference().model.to_api(), "adapter": {"source": "pvc://models/june"}},
        dataset={"source": "pvc://data/rows.jsonl", "filters": {}, "validation": rows, "replay": rows},
        lora={},
        training={"checkpoint": {}, "earlyStopping": {}, "elasticWeightConsolidation": {"strength": "100"}},
        evaluation={
            "dataset": {"source": "hf://owner/rows"},
            "retention": rows,
            "latency": {},
            "judge": JUDGE,
            "slices": [{"name": "edges", "dataset": rows}, {"name": "by-topic", "column": "topic"}],
            "prompts": [{"text": "Who?"}],
        },
    )


def test_the_models_fill_in_what_the_schema_does() -> None:
    filled = practices().to_api()
    for path, default in SCHEMA_DEFAULTS.items():
        found: Any = filled
        for part in path.split("."):
            found = found[part]
        assert default in ({}, found), path


def test_every_method_has_its_learning_rate() -> None:
    assert LEARNING_RATES == LEARNING_RATE
    methods = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    assert set(methods["method"]["enum"]) == set(LEARNING_RATE)
    for method, rate in LEARNING_RATE.items():
        assert resolve(spec_with("method", method)).training.learning_rate == rate
        assert resolve(spec_with("method", method)).output.formats == FORMATS[method]


def test_every_format_has_its_columns_and_templates() -> None:
    assert set(ROW_FORMATS) == set(DATASET)
    given = {"source", "revision", "split", "format", "workers", "mixture", "filters", "packing"}
    for name, expected in DATASET.items():
        dataset = resolve(spec_with("dataset.format", name)).dataset.to_api()
        assert {key: value for key, value in dataset.items() if key not in given} == expected


def test_neither_steps_nor_epochs_means_three_epochs() -> None:
    assert resolve(spec_with()).training.epochs == 3
    assert resolve(spec_with("training.maxSteps", 7)).training.epochs is None
    assert resolve(spec_with("training.epochs", 1)).training.epochs == 1


def test_lora_that_is_left_out_has_the_defaults_of_its_fields() -> None:
    assert spec_with().lora is None
    assert resolve(spec_with()).lora == resolve(spec_with("lora", {})).lora


def test_kubectl_explain_tells_the_defaults_of_lora_which_a_stored_job_without_it_does_not_show() -> None:
    for name, field in LoraSpec.model_fields.items():
        default = ResolvedLora.model_fields[name].default
        shown = f"[{default[0]}]" if isinstance(default, list) else json.dumps(default).strip('"')
        assert (field.description or "").endswith(f" Default: {shown}."), name


def test_what_is_given_stays_as_it_was_given() -> None:
    resolved = resolve(spec_with("dataset.columns", {"options": "choices"}))
    assert resolved.dataset.columns.options == "choices"
    assert resolved.dataset.columns.question == "question"
    assert resolve(spec_with("training.learningRate", "1e-5")).training.learning_rate == "1e-5"


@pytest.mark.parametrize("spec", [reference(), practices()], ids=["reference", "practices"])
def test_a_resolved_spec_resolves_to_itself(spec: FineTuneJobSpec) -> None:
    resolved = resolve(spec)
    assert resolve(FineTuneJobSpec.model_validate(resolved.to_api())) == resolved
    assert ResolvedSpec.model_validate(resolved.to_api()) == resolved


def test_the_digests_of_the_reference_stay_the_same_in_later_versions() -> None:
    resolved = resolve(reference())
    assert resolved.training_sha256() == TRAINING_SHA256
    assert resolved.evaluation_sha256() == EVALUATION_SHA256
    assert resolve(spec_with()).evaluation_sha256() is None


@pytest.mark.parametrize("spec", [reference(), practices()], ids=["reference", "practices"])
def test_a_default_that_is_written_out_changes_no_digest(spec: FineTuneJobSpec) -> None:
    resolved = resolve(spec)
    written = resolve(FineTuneJobSpec.model_validate(resolved.to_api()))
    assert written.training_sha256() == resolved.training_sha256()
    assert written.evaluation_sha256() == resolved.evaluation_sha256()


def test_a_new_field_with_a_default_changes_no_digest() -> None:
    class LaterTraining(ResolvedTraining):
        packing: str = Field(default="Disabled")

    class LaterSpec(ResolvedSpec):
        training: LaterTraining
        tracking: str = Field(default="None")

    later = LaterSpec.model_validate(resolve(reference()).to_api())
    assert later.training_sha256() == TRAINING_SHA256
    assert later.evaluation_sha256() == EVALUATION_SHA256


@pytest.mark.parametrize(
    ("path", "one", "other"),
    [
        ("training.learningRate", "2e-4", "0.00020"),
        ("training.learningRate", "1E-5", "0.00001"),
        ("training.weightDecay", "0.01", "1e-2"),
        ("lora.dropout", "0", "0.0"),
        ("lora.targetModules", ["q_proj", "v_proj"], ["v_proj", "q_proj"]),
        ("dataset.source", "pvc://data/rows", "pvc://data/./rows/"),
        ("dataset.replay", {"source": "pvc://data/a", "fraction": "0.1"}, {"source": "pvc://data/a/"}),
        ("dataset.validation", {"fraction": "0.05"}, {"fraction": "5e-2"}),
        ("model.adapter", {"source": "pvc://models/june"}, {"source": "pvc://models/june/"}),
        ("model.chatTemplateKwargs", {"a": "1", "b": "2"}, {"b": "2", "a": "1"}),
    ],
)
def test_the_way_a_value_is_written_changes_no_digest(path: str, one: Any, other: Any) -> None:
    first, second = resolve(spec_with(path, one)), resolve(spec_with(path, other))
    assert first.training_sha256() == second.training_sha256()
    assert first != second or path == "model.chatTemplateKwargs"


def test_every_decimal_of_a_digest_has_one_form() -> None:
    schema = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]

    def named(fields: dict[str, Any]) -> Iterator[str]:
        for name, field in fields.items():
            if field.get("pattern") == DECIMAL_PATTERN:
                yield name
            yield from named(field.get("properties", {}) | field.get("items", {}).get("properties", {}))

    decimals = set(named(schema))
    assert decimals == set(_DECIMALS)
    for path, default in SCHEMA_DEFAULTS.items():
        if path.split(".")[-1] in decimals:
            assert default == f"{Decimal(str(default)).normalize():f}"


def test_a_variable_of_a_template_that_is_named_like_a_field_keeps_its_text() -> None:
    digests = {
        resolve(spec_with("model.chatTemplateKwargs", {"source": text})).training_sha256()
        for text in ("pvc://a/b", "pvc://a/b/", "no uri")
    }
    assert len(digests) == 3


def test_the_format_is_part_of_the_digest_although_each_format_has_it_as_its_own_default() -> None:
    digests = {resolve(spec_with("dataset.format", name)).training_sha256() for name in ROW_FORMATS}
    assert len(digests) == len(ROW_FORMATS)


def test_rows_without_a_format_have_the_shape_of_the_dataset_and_saying_so_changes_no_digest() -> None:
    dataset = {"source": "hf://owner/rows", "format": "Instruction", "columns": {"output": "answer"}}
    silent = spec_with("dataset", {**dataset, "mixture": [{"name": "more", "source": "hf://owner/more"}]})
    (more,) = resolve(silent).dataset.mixture
    assert (more.format, more.columns.output, more.columns.instruction) == ("Instruction", "answer", "instruction")
    spoken = {"name": "more", "source": "hf://owner/more", "format": "Instruction", "columns": {"output": "answer"}}
    same = spec_with("dataset", {**dataset, "mixture": [spoken]})
    assert resolve(same).training_sha256() == resolve(silent).training_sha256()


@pytest.mark.parametrize("place", ["replay", "validation"])
def test_rows_beside_the_dataset_have_its_shape_or_one_of_their_own(place: str) -> None:
    dataset = {"source": "hf://owner/rows", "format": "Instruction", "columns": {"output": "answer"}}

    def beside(**shape: Any) -> ResolvedSpec:
        return resolve(spec_with("dataset", {**dataset, place: {"source": "hf://owner/more", **shape}}))

    silent = beside()
    rows = silent.dataset.replay or silent.dataset.validation
    assert rows is not None
    assert rows.columns is not None
    assert (rows.format, rows.columns.output) == ("Instruction", "answer")
    spoken = beside(format="Instruction", columns={"output": "answer"})
    own = beside(format="Text")
    assert spoken.training_sha256() == silent.training_sha256() != own.training_sha256()
    other = own.dataset.replay or own.dataset.validation
    assert other is not None
    assert other.format == "Text"


def test_retention_rows_have_the_shape_of_the_dataset_or_one_of_their_own() -> None:
    def retaining(**shape: Any) -> ResolvedSpec:
        rows = {"source": "hf://owner/rows"}
        evaluation = {"dataset": rows, "retention": {"source": "hf://owner/general", **shape}}
        return resolve(reference(dataset={**rows, "format": "Instruction"}, evaluation=evaluation))

    silent, spoken, own = retaining(), retaining(format="Instruction"), retaining(format="Text")
    assert [one.evaluation.retention.format for one in (silent, own)] == ["Instruction", "Text"]  # type: ignore[union-attr]
    assert spoken.evaluation_sha256() == silent.evaluation_sha256() != own.evaluation_sha256()


def slicing(**shape: Any) -> ResolvedSpec:
    rows = {"source": "hf://owner/rows"}
    slices = [{"name": "edges", "dataset": {"source": "pvc://data/edges", **shape}}, {"name": "b", "column": "topic"}]
    evaluation = {"dataset": rows, "slices": slices}
    return resolve(reference(dataset={**rows, "format": "Instruction"}, evaluation=evaluation))


def test_the_rows_of_a_slice_have_the_shape_of_the_dataset_or_one_of_their_own() -> None:
    silent, spoken, own = slicing(), slicing(format="Instruction"), slicing(format="Text")
    shapes = [one.evaluation.slices[0].dataset.format for one in (silent, own)]  # type: ignore[union-attr, index]
    assert shapes == ["Instruction", "Text"]
    assert spoken.evaluation_sha256() == silent.evaluation_sha256() != own.evaluation_sha256()


def test_neither_the_order_of_slices_nor_a_secret_nor_a_claims_spelling_names_another_report() -> None:
    written = slicing().to_api()
    turned = {**written, "evaluation": {**written["evaluation"], "slices": written["evaluation"]["slices"][::-1]}}
    digests = {
        slicing().evaluation_sha256(),
        ResolvedSpec.model_validate(turned).evaluation_sha256(),
        slicing(secretRef={"name": "hub"}).evaluation_sha256(),
        slicing(source="pvc://data/./edges/").evaluation_sha256(),
        slicing(revision="main", split="test").evaluation_sha256(),
    }
    assert len(digests) == 1


def test_what_slices_read_is_among_the_sources_of_a_spec() -> None:
    spec = slicing(secretRef={"name": "hub"})
    assert sources_of(spec)[-1] == SourceReference(
        "spec.evaluation.slices[edges].dataset.source", "pvc://data/edges", "hub"
    )
    assert "data" in claims_read(spec)
    assert "hub" in secrets_read(spec, EVALUATE)


def test_a_prompt_that_says_nothing_of_a_template_has_it_applied() -> None:
    evaluation = {"dataset": {"source": "hf://owner/rows"}, "prompts": [{"text": "Who?"}]}
    spoken = {**evaluation, "prompts": [{"text": "Who?", "chatTemplate": "Apply"}]}
    raw = {**evaluation, "prompts": [{"text": "Who?", "chatTemplate": "Omit"}]}
    digests = [resolve(reference(evaluation=one)).evaluation_sha256() for one in (evaluation, spoken, raw)]
    assert digests[0] == digests[1] != digests[2]


def test_a_share_of_the_rows_for_validation_has_no_shape_of_its_own() -> None:
    validation = resolve(spec_with("dataset.validation", {"fraction": "0.05"})).dataset.validation
    assert validation is not None
    assert validation.to_api() == {"fraction": "0.05", "revision": "main", "split": "validation"}


def test_full_has_no_adapter_and_the_others_have_one_with_each_default() -> None:
    assert resolve(spec_with("method", "Full")).lora is None
    lora = resolve(spec_with("method", "LoRA")).lora
    assert lora is not None
    assert (lora.rank_stabilized, lora.initialization) == (False, "Default")


def test_filters_that_are_left_out_have_the_defaults_of_their_fields() -> None:
    assert spec_with().dataset.filters is None
    assert resolve(spec_with()).dataset.filters == FiltersSpec()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("output.destination", "pvc://elsewhere"),
        ("output.formats", ["Adapter", "Merged16Bit"]),
        ("model.secretRef", {"name": "hub"}),
        ("dataset.workers", 7),
        ("dataset.secretRef", {"name": "hub"}),
        ("dataset.filters", {}),
        ("dataset.packing", "Auto"),
        ("training.loggingSteps", 1),
        ("training.checkpoint", {"everySteps": 7, "keep": 1, "claimName": "scratch"}),
        ("lora", {"rankStabilized": False, "initialization": "Default"}),
        ("runtime", {"profile": "t4", "gpusPerNode": 0}),
        ("scheduling.backoffLimit", 0),
    ],
)
def test_what_leaves_the_adapter_as_it_is_changes_no_digest(path: str, value: Any) -> None:
    changed = resolve(spec_with(path, value))
    assert changed.training_sha256() == resolve(spec_with()).training_sha256()


@pytest.mark.parametrize("place", ["model.adapter", "dataset.replay", "dataset.validation"])
def test_a_secret_names_no_adapter_wherever_it_opens_a_source(place: str) -> None:
    source = {"source": "hf://owner/rows"}
    opened = resolve(spec_with(place, {**source, "secretRef": {"name": "hub"}}))
    assert opened.training_sha256() == resolve(spec_with(place, source)).training_sha256()


@pytest.mark.parametrize("place", ["dataset", "retention"])
def test_a_secret_names_no_report_wherever_it_opens_a_source(place: str) -> None:
    rows = {"source": "hf://owner/rows"}
    evaluation = {"dataset": rows, "retention": rows}
    opened = {**evaluation, place: {**rows, "secretRef": {"name": "hub"}}}
    digests = {resolve(reference(evaluation=one)).evaluation_sha256() for one in (evaluation, opened)}
    assert len(digests) == 1


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.source", "hf://owner/other"),
        ("model.revision", "v2"),
        ("model.maxSequenceLength", 512),
        ("model.dtype", "Float16"),
        ("model.chatTemplate", "{{ messages }}"),
        ("model.chatTemplateKwargs", {"enable_thinking": "false"}),
        ("dataset.source", "pvc://data/other.jsonl"),
        ("dataset.config", "all"),
        ("dataset.split", "dev"),
        ("dataset.columns", {"options": "choices"}),
        ("dataset.promptTemplate", "{question}"),
        ("dataset.optionTemplate", "{letter}: {option}"),
        ("dataset.responseTemplate", "{letter}"),
        ("dataset.validation", {"fraction": "0.05"}),
        ("dataset.validation", {"source": "hf://owner/rows"}),
        ("dataset.replay", {"source": "hf://owner/general"}),
        ("method", "LoRA"),
        ("method", "Full"),
        ("model.adapter", {"source": "pvc://models/june"}),
        ("lora.rank", 8),
        ("lora.targetModules", ["q_proj"]),
        ("lora.rankStabilized", True),
        ("lora.initialization", "LoftQ"),
        ("training.maxSteps", 5),
        ("training.learningRate", "1e-4"),
        ("training.seed", 1),
    ],
)
def test_what_makes_another_adapter_changes_both_digests(path: str, value: Any) -> None:
    document = job_with(path, value)["spec"] | {"evaluation": {"dataset": {"source": "hf://owner/rows"}}}
    changed = resolve(FineTuneJobSpec.model_validate(document))
    assert changed.training_sha256() != TRAINING_SHA256
    assert changed.evaluation_sha256() != EVALUATION_SHA256


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("dataset.validation.split", "dev"),
        ("dataset.validation.format", "Text"),
        ("dataset.replay.fraction", "0.2"),
        ("dataset.replay.maxExamples", 100),
        ("model.adapter.source", "pvc://models/july"),
        ("model.adapter.revision", "v2"),
        ("training.earlyStopping", None),
        ("training.earlyStopping.everySteps", 10),
        ("training.earlyStopping.patience", 1),
        ("training.earlyStopping.minimumChange", "0.01"),
        ("training.elasticWeightConsolidation", None),
        ("training.elasticWeightConsolidation.strength", "200"),
        ("training.elasticWeightConsolidation.maxExamples", 64),
    ],
)
def test_each_choice_within_a_practice_makes_another_adapter(path: str, value: Any) -> None:
    document = practices().to_api()
    *parents, leaf = path.split(".")
    target = document
    for parent in parents:
        target = target[parent]
    target[leaf] = value
    changed, before = resolve(FineTuneJobSpec.model_validate(document)), resolve(practices())
    assert changed.training_sha256() != before.training_sha256()
    assert changed.evaluation_sha256() != before.evaluation_sha256()


@pytest.mark.parametrize(
    "evaluation",
    [
        {"maxNewTokens": 64},
        {"samplePrompts": 0},
        {"metrics": ["Perplexity"]},
        {"compareWithBase": False},
        {"slices": [{"name": "by-topic", "column": "topic"}]},
        {"prompts": [{"text": "Who?"}]},
        {"retention": {"source": "hf://owner/general"}},
        {"latency": {}},
        {"gates": [{"metric": "Accuracy", "minimum": "0.4"}]},
        {"checks": [{"name": "IsJSON", "format": "JSON"}]},
        {"judge": JUDGE},
    ],
)
def test_what_is_measured_changes_the_digest_of_the_report_alone(evaluation: dict[str, Any]) -> None:
    changed = resolve(reference(evaluation={"dataset": {"source": "hf://owner/rows"}, **evaluation}))
    assert changed.training_sha256() == TRAINING_SHA256
    assert changed.evaluation_sha256() != EVALUATION_SHA256


def test_the_way_in_which_a_gate_is_written_changes_no_digest_but_what_it_asks_does() -> None:
    def digest(**gate: Any) -> str | None:
        evaluation = {"dataset": {"source": "hf://owner/rows"}, "gates": [{"metric": "Accuracy", **gate}]}
        return resolve(reference(evaluation=evaluation)).evaluation_sha256()

    def compared(report: str, margin: str) -> dict[str, Any]:
        return {"notWorseThan": {"report": report, "margin": margin}}

    assert digest(minimum="0.4") == digest(minimum="4e-1") != digest(minimum="0.41")
    assert digest(significance="0.05") == digest(significance="0.050") != digest(minimumGain="0.05")
    assert digest(**compared("pvc://a/b/", "0.02")) == digest(**compared("pvc://a/b", "2e-2"))
    assert digest(**compared("pvc://a/c", "0.02")) != digest(**compared("pvc://a/b", "0.02"))


def test_the_digest_of_checks_has_one_form_and_their_defaults_are_not_in_it() -> None:
    def digest(**check: Any) -> str | None:
        evaluation = {"dataset": {"source": "hf://owner/rows"}, "checks": [{"name": "NoSlurs", **check}]}
        return resolve(reference(evaluation=evaluation)).evaluation_sha256()

    plain = digest(termsFrom={"source": "pvc://lists/slurs.txt"})
    assert digest(termsFrom={"source": "pvc://lists/slurs.txt/"}, expect="Match") == plain
    assert digest(termsFrom={"source": "pvc://lists/slurs.txt"}, expect="NoMatch") != plain


def test_a_digest_covers_text_and_not_the_order_of_keys() -> None:
    assert sha256_of({"a": 1, "b": "ü"}) == sha256_of({"b": "ü", "a": 1})
    assert sha256_of({"a": 1}) != sha256_of({"a": "1"})


ALONE: dict[str, Any] = {
    "model": {"source": "hf://owner/model", "adapter": {"source": "pvc://models/june"}},
    "evaluation": {"dataset": {"source": "hf://owner/rows"}},
    "output": {"destination": "pvc://models/scores"},
}
ALONE_SHA256 = "791f729b119d4ba257277062dfccfc0fecd4fa82eb92307ab20fa46e0d016bdd"
ALONE_EVALUATION_SHA256 = "8c29853148a180085b044efda491cca1074f13a082fb522da9a4df8268370f03"


def alone(**more: Any) -> ResolvedSpec:
    """A job that trains nothing."""
    return resolve(FineTuneJobSpec.model_validate(ALONE | more))


def test_a_job_that_only_evaluates_trains_and_saves_nothing_and_runs_one_stage() -> None:
    spec = alone()
    assert (spec.dataset, spec.lora, spec.output.formats) == (None, None, [])
    assert [stage.name for stage in stages_of(spec)] == ["Evaluate"]
    assert [one.field for one in sources_of(spec)] == [
        "spec.model.source",
        "spec.model.adapter.source",
        "spec.evaluation.dataset.source",
    ]
    assert (claims_read(spec), claims_written(spec)) == (["models"], ["models"])


def test_held_out_rows_of_a_job_without_training_rows_stand_in_for_their_format() -> None:
    plain, chat = (
        alone(),
        alone(evaluation={"dataset": {"source": "hf://a/b", "format": "Chat"}, "retention": {"source": "hf://a/c"}}),
    )
    assert plain.evaluation
    assert chat.evaluation
    assert plain.evaluation.dataset.format == "MultipleChoice" == resolve(spec_with()).training_rows.format
    assert plain.evaluation.dataset.option_template == "{letter}. {option}"
    assert chat.evaluation.retention
    assert chat.evaluation.retention.format == "Chat"


def test_what_is_evaluated_alone_is_named_by_digests_of_its_own() -> None:
    spec = alone()
    assert (spec.training_sha256(), spec.evaluation_sha256()) == (ALONE_SHA256, ALONE_EVALUATION_SHA256)
    written_out = {"dataset": {**ALONE["evaluation"]["dataset"], "format": "MultipleChoice"}}
    assert alone(evaluation=written_out).evaluation_sha256() == ALONE_EVALUATION_SHA256
    other_rows = alone(evaluation={"dataset": {"source": "hf://owner/others"}})
    assert other_rows.training_sha256() == ALONE_SHA256
    assert other_rows.evaluation_sha256() != ALONE_EVALUATION_SHA256
    july = {"source": "hf://owner/model", "adapter": {"source": "pvc://models/july"}}
    for more in ({"method": "LoRA"}, {"training": {"lossOn": "All"}}, {"model": july}):
        assert alone(**more).training_sha256() != ALONE_SHA256


def test_the_spec_of_an_evaluation_alone_is_read_back_from_its_file() -> None:
    spec = alone(training={"lossOn": "All"})
    text = spec_text(spec)
    assert json.loads(text)["training"] == {"lossOn": "All"}
    again = restore_spec(text, "pvc://models/scores", 1)
    assert (again.training_sha256(), again.evaluation_sha256()) == (spec.training_sha256(), spec.evaluation_sha256())
    assert "dataset" not in read_spec(text)


def judged(**fields: Any) -> str | None:
    evaluation = {"dataset": {"source": "hf://owner/rows"}, "judge": {**JUDGE, **fields}}
    return resolve(reference(evaluation=evaluation)).evaluation_sha256()


@pytest.mark.parametrize(
    "fields",
    [{"secretRef": {"name": "key"}}, {"timeoutSeconds": 5}, {"maxRetries": 0}, {"concurrency": 1}, {"repeats": 1}],
)
def test_how_a_judge_is_reached_changes_no_report(fields: dict[str, Any]) -> None:
    assert judged(**fields) == judged()


@pytest.mark.parametrize(
    "fields",
    [
        {"endpoint": "https://other.example/v1"},
        {"model": "other"},
        {"rubric": ["Accuracy"]},
        {"pairwise": True},
        {"repeats": 2},
        {"maxExamples": 5},
        {"maxRequests": 5},
        {"maxSeconds": 5},
        {"maxReplyTokens": 64},
    ],
)
def test_what_a_judge_is_asked_names_another_report(fields: dict[str, Any]) -> None:
    assert judged(**fields) != judged()
