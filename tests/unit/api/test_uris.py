"""Sources, destinations and the folders that follow from them."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_api import names
from finetune_api.config import ClaimMount, JobReference, RunConfig
from finetune_api.defaults import resolve
from finetune_api.run_folder import evaluation_folder, own_folder, run_folder
from finetune_api.stages import STAGES
from finetune_api.uris import HubSource, parse_claim, parse_source
from specs import spec_with


def test_sources_are_parsed_into_their_parts() -> None:
    assert parse_source("hf://owner/name") == HubSource("owner/name")
    assert str(parse_claim("pvc://models/a/b") / "c") == "pvc://models/a/b/c"
    assert str(parse_claim("pvc://models")) == "pvc://models"


def test_a_way_of_writing_a_path_makes_no_other_place() -> None:
    assert parse_claim("pvc://models/a/") == parse_claim("pvc://models/a") == parse_claim("pvc://models/./a")


@pytest.mark.parametrize("uri", ["pvc://models/../etc", "pvc:///x", "s3://b/k", "hf://only", "/data", "pvc://m/a b"])
def test_a_wrong_source_is_refused(uri: str) -> None:
    with pytest.raises(ValueError, match=r"pvc://|must not contain"):
        parse_source(uri)


def test_a_run_writes_below_the_digest_that_names_its_adapter() -> None:
    shared = run_folder("pvc://models/a", "0123456789abcdef")
    assert str(shared) == "pvc://models/a/0123456789ab"
    assert (
        str(own_folder("pvc://models/a", "0123456789abcdef", "12345678-90")) == "pvc://models/a/0123456789ab-12345678"
    )
    assert str(evaluation_folder(shared, "fedcba9876543210")) == "pvc://models/a/0123456789ab/evaluations/fedcba987654"


def config() -> RunConfig:
    resolved = resolve(spec_with())
    return RunConfig(
        job=JobReference(namespace="ml", name="a", uid="u"),
        spec=resolved,
        training_sha256=resolved.training_sha256(),
        mounts=[ClaimMount(claim="models", path="/mnt/claims/models")],
    )


def test_a_claims_path_is_found_where_the_claim_is_mounted() -> None:
    assert config().local_path(parse_claim("pvc://models/a/b")) == Path("/mnt/claims/models/a/b")
    with pytest.raises(ValueError, match="claim 'other' is not mounted"):
        config().local_path(parse_claim("pvc://other/x"))


def test_a_run_configuration_survives_its_file() -> None:
    text = config().model_dump_json(by_alias=True, exclude_none=True)
    assert RunConfig.model_validate_json(text) == config()


def test_names_of_children_fit_a_label() -> None:
    for stage in STAGES:
        assert len(names.child_name("a" * names.MAX_NAME_LENGTH, stage.suffix)) <= 63
