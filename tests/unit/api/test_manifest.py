"""A user's YAML file is read as kubectl and the API server would read it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from finetune_api.manifest import ManifestError, read_manifest
from rule_cases.unknown import UNKNOWN
from specs import MINIMAL, job_with

SAMPLES = sorted((Path(__file__).parents[3] / "manifests/samples").glob("*.yaml"))
HEAD = "apiVersion: finetune.dev/v1alpha1\nkind: FineTuneJob\nmetadata: {name: a}\n"
SPEC = """spec:
  model: {source: hf://owner/model}
  dataset: {source: pvc://data/rows.jsonl}
  output: {destination: pvc://models/a}
"""


def refusal(text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        read_manifest(text, "job.yaml")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda path: path.name)
def test_every_sample_is_read(sample: Path) -> None:
    assert read_manifest(sample.read_text(), sample.name).spec.model.source


def test_a_decimal_without_quotes_is_told_what_to_do() -> None:
    said = refusal(HEAD + SPEC + "  training: {learningRate: 2e-4}\n")
    assert said == ('job.yaml: spec.training.learningRate: must be of type string, in quotes as "0.0002", not 0.0002')


def test_an_unknown_field_is_named_as_kubectl_names_it() -> None:
    assert 'unknown field "spec.lora.ranks"' in refusal(HEAD + SPEC + "  lora: {ranks: 8}\n")
    assert 'unknown field "extra"; there are apiVersion, kind' in refusal(HEAD + SPEC + "extra: 1\n")


@pytest.mark.parametrize(
    ("section", "field"),
    [
        ("training: {max_steps: 5}", "spec.training.max_steps"),
        ("lora: {target_modules: [q_proj]}", "spec.lora.target_modules"),
        ("runtime: {gpus_per_node: 0}", "spec.runtime.gpus_per_node"),
        ("evaluation: {dataset: {source: hf://a/b}, max_new_tokens: 5}", "spec.evaluation.max_new_tokens"),
    ],
)
def test_a_field_by_its_name_in_python_is_unknown_as_it_is_to_kubectl(section: str, field: str) -> None:
    assert f'unknown field "{field}"' in refusal(f"{HEAD}{SPEC}  {section}\n")
    dataset = SPEC.replace("rows.jsonl}", "rows.jsonl, columns: {answer_key: a}}")
    assert 'unknown field "spec.dataset.columns.answer_key"' in refusal(HEAD + dataset)


@pytest.mark.parametrize(("path", "value", "field"), UNKNOWN, ids=[field for *_, field in UNKNOWN])
def test_a_field_of_another_place_is_unknown(path: str, value: object, field: str) -> None:
    assert f'unknown field "{field}"' in refusal(json.dumps(job_with(path, value)))


def test_an_entry_of_a_list_is_named_by_its_index() -> None:
    evaluation = "  evaluation: {dataset: {source: hf://a/b}, metrics: [Accuracy, accuracy]}\n"
    assert "job.yaml: spec.evaluation.metrics[1]: Input should be 'Accuracy'" in refusal(HEAD + SPEC + evaluation)


def test_a_wrong_value_is_shown_once_and_a_long_one_not_at_all() -> None:
    assert refusal(HEAD + SPEC.replace("hf://owner/model", "owner/model")).count("owner/model'") == 1
    template = "{questoin} " + "and so on " * 10
    said = refusal(HEAD + SPEC.replace("rows.jsonl}", f'rows.jsonl, promptTemplate: "{template}"}}'))
    assert "unknown placeholder {questoin}" in said
    assert "and so on" not in said


def test_a_number_in_quotes_is_no_number() -> None:
    said = refusal(HEAD + SPEC + '  lora: {rank: "8"}\n')
    assert "spec.lora.rank: Input should be a valid integer, without quotes, not '8'" in said
    said = refusal(HEAD + SPEC + "  lora: {rank: high}\n")
    assert "spec.lora.rank: Input should be a valid integer, not 'high'" in said


def test_a_text_that_is_no_yaml_is_told_by_line_and_column() -> None:
    assert refusal(HEAD + SPEC.replace("  dataset", " dataset")) == (
        "job.yaml is no YAML: line 6, column 2: expected <block end>, but found '<block mapping start>', "
        "while parsing a block mapping that begins in line 1"
    )
    assert refusal("a: 1\nb:\t- [\n").startswith("job.yaml is no YAML: line 2, column 3: found character")
    assert refusal(HEAD + HEAD) == "job.yaml is no YAML: line 4, column 1: key 'apiVersion' stands twice"


def test_a_date_and_a_colon_between_numbers_are_texts() -> None:
    text = HEAD + SPEC.replace("hf://owner/model}", "hf://owner/model, revision: 2026-01-02}")
    assert read_manifest(text, "job.yaml").spec.model.revision == "2026-01-02"
    text = HEAD + SPEC + "  model2: 1:20\n"
    assert "unknown field" in refusal(text)


def test_what_stands_empty_is_left_out() -> None:
    text = HEAD + SPEC + "  evaluation:\n  lora: {rank: }\n"
    assert read_manifest(text, "job.yaml").spec.evaluation is None


def test_a_key_that_stands_twice_is_refused() -> None:
    assert "key 'training' stands twice" in refusal(HEAD + SPEC + "  training: {}\n  training: {maxSteps: 5}\n")


def test_an_object_that_came_from_a_cluster_is_read_without_its_status() -> None:
    served = job_with("training.maxSteps", 5)
    served["metadata"] |= {
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"},
        "creationTimestamp": "2026-01-02T03:04:05Z",
        "managedFields": [{"manager": "kubectl"}],
        "resourceVersion": "7",
    }
    served["status"] = {"stage": "Succeeded", "conditions": "a later version's form"}
    job = read_manifest(yaml.safe_dump(served), "job.yaml")
    assert job.spec.training.max_steps == 5
    assert job.status.stage is None


@pytest.mark.parametrize("name", ["A", "a.b", "-a", "a" * 58, "a_b", "", "a\n"])
def test_a_name_that_the_api_server_would_refuse_is_refused(name: str) -> None:
    said = refusal(json.dumps(MINIMAL | {"metadata": {"name": name}}))
    assert "metadata.name must be at most 57 lower-case letters, digits and '-'" in said


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("a: [", "job.yaml is no YAML"),
        ("", "must hold one FineTuneJob; it holds nothing"),
        ("kind: Job\n---\n[]\n", "it holds Job, list"),
        (HEAD + SPEC + "---\n" + HEAD + SPEC, "it holds FineTuneJob, FineTuneJob"),
        (HEAD.replace("v1alpha1", "v1") + SPEC, "apiVersion: Input should be 'finetune.dev/v1alpha1', not"),
        (HEAD, "spec: Field required"),
        (HEAD + "spec: 7\n", "spec: Input should be an object, not 7"),
        (HEAD + SPEC + "  training: {seed: 0o9}\n", "seed"),
        (HEAD + SPEC + "  training: {seed: !!binary aGk=}\n", "can't be written as JSON"),
        (HEAD + SPEC + "  training: {seed: .inf}\n", "seed"),
    ],
)
def test_what_is_no_usable_manifest_is_told_in_one_line(text: str, complaint: str) -> None:
    assert complaint in refusal(text)
