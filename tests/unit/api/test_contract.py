"""The contract's own rules: parsing, digests, defaults, the table of reasons."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import Field, ValidationError

from finetune_api import names, reasons, termination
from finetune_api.base import ApiModel
from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.crd import UnsupportedSchemaError, build_crd, render, structural
from finetune_api.job import FineTuneJob
from finetune_api.results import EvaluationStatus, FailureStatus, ModelScores, SampleAnswer, StageResult
from finetune_api.spec import FineTuneJobSpec
from finetune_api.uris import HubSource, parse_claim, parse_source

REPOSITORY = Path(__file__).parents[3]
MINIMAL: dict[str, Any] = {
    "model": {"source": "hf://owner/model"},
    "dataset": {"source": "pvc://data/rows.jsonl"},
    "output": {"destination": "pvc://models/minimal"},
}


def spec(**sections: Any) -> FineTuneJobSpec:
    return FineTuneJobSpec.model_validate(MINIMAL | sections)


def test_the_digest_ignores_whether_a_default_is_written_out() -> None:
    written = spec(lora={"rank": 16}, training={"epochs": 3, "learningRate": "2e-4"}, method="QLoRA")
    assert written.sha256() == spec().sha256()


def test_the_digest_changes_with_what_names_a_run_and_not_with_where_it_runs() -> None:
    assert spec(training={"maxSteps": 5}).sha256() != spec().sha256()
    assert spec(runtime={"gpusPerNode": 0}, scheduling={"backoffLimit": 0}).sha256() == spec().sha256()


def test_the_digest_of_a_spec_stays_the_same_in_later_versions() -> None:
    assert spec().sha256() == "d392288fdf790a63117af794f9cdd5846a7b9be284e6bc13d0363837ae2806d1"


def test_neither_steps_nor_epochs_means_three_epochs() -> None:
    assert spec().resolved().training.epochs == 3
    assert spec(training={"maxSteps": 7}).resolved().training.epochs is None


@pytest.mark.parametrize(
    ("template", "complaint"),
    [
        ("{question} {choices}", "unknown placeholder {choices}; there are question, options"),
        ("Pick one.", "must contain {question}"),
        ("{question", "not a template"),
    ],
)
def test_a_wrong_prompt_template_says_which_placeholders_there_are(template: str, complaint: str) -> None:
    with pytest.raises(ValidationError, match=complaint.replace("{", r"\{").replace("}", r"\}")):
        spec(dataset={"source": "pvc://data/rows.jsonl", "promptTemplate": template})


def test_reading_ignores_fields_of_a_later_version_and_a_users_file_may_not_have_them() -> None:
    document = {"metadata": {"name": "a"}, "spec": MINIMAL | {"novelty": 1}}
    assert FineTuneJob.model_validate(document).spec == spec()
    with pytest.raises(ValidationError, match="novelty"):
        FineTuneJob.model_validate(document, extra="forbid")


def test_what_is_unset_is_absent_in_the_api_form() -> None:
    assert "evaluation" not in spec().to_api()
    assert "null" not in yaml.safe_dump(spec().to_api())


@pytest.mark.parametrize(
    "sample", sorted((REPOSITORY / "manifests/samples").glob("*.yaml")), ids=lambda path: path.name
)
def test_every_sample_has_known_fields_only(sample: Path) -> None:
    FineTuneJob.model_validate(yaml.safe_load(sample.read_text()), extra="forbid")


def test_sources_are_parsed_into_their_parts() -> None:
    assert parse_source("hf://owner/name") == HubSource("owner/name")
    assert str(parse_claim("pvc://models/a/b") / "c") == "pvc://models/a/b/c"
    assert str(parse_claim("pvc://models")) == "pvc://models"


@pytest.mark.parametrize("uri", ["pvc://models/../etc", "pvc:///x", "s3://b/k", "hf://only", "/data", "pvc://m/a b"])
def test_a_wrong_source_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"pvc://|must not contain"):
        parse_source(uri)


def config() -> RunConfig:
    return RunConfig(
        job=JobReference(namespace="ml", name="a", uid="u"),
        spec=spec().resolved(),
        spec_sha256=spec().sha256(),
        mounts=[ClaimMount(claim="models", path="/mnt/claims/models")],
    )


def test_a_run_writes_below_the_digest_of_its_spec() -> None:
    assert str(config().run_uri) == f"pvc://models/minimal/{spec().sha256()[:12]}"
    assert config().local_path(config().run_uri) == Path(f"/mnt/claims/models/minimal/{spec().sha256()[:12]}")


def test_a_claim_that_is_not_mounted_is_named() -> None:
    with pytest.raises(ValueError, match="claim 'other' is not mounted"):
        config().local_path(parse_claim("pvc://other/x"))


def test_a_run_configuration_survives_its_file() -> None:
    text = config().model_dump_json(by_alias=True, exclude_none=True)
    assert RunConfig.model_validate_json(text) == config()


def test_child_names_fit_a_label() -> None:
    assert all(len(names.child_name("a" * names.MAX_NAME_LENGTH, suffix)) <= 64 for suffix in ("train", "config"))


def test_every_reason_has_an_entry_and_exit_codes_are_unique_and_clear_of_shells() -> None:
    assert set(reasons.FAILURES) == set(reasons.Reason)
    assert all(code == 1 or 64 <= code < 126 for code in reasons.BY_EXIT_CODE)
    assert not set(reasons.NEVER_EXIT_CODES) & set(reasons.FREE_EXIT_CODES)
    with pytest.raises(ValueError, match="only the operator"):
        reasons.exit_code(reasons.Reason.PREEMPTED)


def result(**sections: Any) -> StageResult:
    moment = datetime(2026, 1, 2, tzinfo=UTC)
    return StageResult(stage="Evaluate", job_uid="u", spec_sha256="a" * 64, finished_at=moment, **sections)


def test_a_termination_message_fits_whatever_the_samples_say() -> None:
    sample = SampleAnswer(prompt="ü" * 512, expected="ü" * 256, base="ü" * 512, tuned="ü" * 512)
    evaluation = EvaluationStatus(summary="0.1→0.2", examples=9, tuned=ModelScores(), samples=[sample] * 3)
    message = termination.encode(result(evaluation=evaluation))
    assert len(message.encode()) <= termination.LIMIT_BYTES
    read = termination.decode(message)
    assert read is not None
    assert read.evaluation is not None
    assert len(read.evaluation.samples) == 3


def test_a_long_log_is_cut_at_its_beginning() -> None:
    log = "first" + "ü" * 2000 + "last"
    failure = FailureStatus(reason=reasons.Reason.TRAINER_CRASHED, message="ü" * 1000, log=log)
    read = termination.decode(termination.encode(result(failure=failure)))
    assert read is not None
    assert read.failure is not None
    assert read.failure.log.endswith("last")


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last)", "{}", '{"version": 2}'])
def test_text_that_is_no_result_is_not_taken_for_one(text: str) -> None:
    assert termination.decode(text) is None


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


def _leaves(schema: dict[str, Any], path: str) -> Any:
    yield path, schema
    for name, child in schema.get("properties", {}).items():
        yield from _leaves(child, f"{path}.{name}")
    if "items" in schema:
        yield from _leaves(schema["items"], f"{path}[]")


def test_every_string_number_and_list_of_the_spec_is_bounded_and_every_field_is_described() -> None:
    schema = build_crd()["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
    for path, leaf in _leaves(schema, "spec"):
        kind = leaf.get("type")
        if kind == "string":
            assert "maxLength" in leaf or "enum" in leaf, path
        if kind == "integer":
            assert "maximum" in leaf, path
        if kind == "array":
            assert "maxItems" in leaf, path
        assert kind != "number", path
        assert "description" in leaf or path.endswith("[]"), path
