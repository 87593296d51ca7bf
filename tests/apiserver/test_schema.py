"""The CRD on a real API server: each rule accepts one object and refuses another, saying why."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from embedded_cluster.control_plane import ControlPlane
from finetune_api.manifest import ManifestError, read_manifest
from finetune_api.results import AdapterStatus, EvaluationStatus, MemoryStatus
from finetune_api.rules import Placeholders
from rule_cases import CASES
from rule_cases.formats import FORMAT_COLUMNS, FORMAT_FIELDS, FORMATS
from rule_cases.places import mixture, rows
from rule_cases.sections import SPECS
from rule_cases.unknown import UNKNOWN
from specs import MINIMAL
from specs import job_with as job

MANIFESTS = Path(__file__).parents[2] / "manifests"
SAMPLES = sorted((MANIFESTS / "samples").glob("*.yaml"))


def dry_run(apiserver: ControlPlane, document: dict[str, Any]) -> str:
    """Applies a job in the server's dry run; returns the refusal, or nothing when it is accepted."""
    done = apiserver.kubectl.run("apply", "--dry-run=server", "-f", "-", stdin=json.dumps(document))
    return done.stderr if done.returncode else ""


SOURCES = "must be hf://<owner>/<repository>, s3://<bucket>/<key> or pvc://<claim>/<path>"
RULES = [
    ("method", "QLoRA", "QLora", 'spec.method: Unsupported value: "QLora": supported values: "QLoRA"'),
    ("model.source", "pvc://models/base", "/data/base", SOURCES),
    ("model.source", "hf://a/b.c-d", "pvc://models/../x", SOURCES),
    ("model.revision", "refs/pr/1", "a b", "spec.model.revision in body should match"),
    ("model.dtype", "Float16", "fp16", 'supported values: "Auto", "BFloat16", "Float16"'),
    ("model.maxSequenceLength", 32, 31, "should be greater than or equal to 32"),
    ("dataset.source", "s3://bucket/rows", "s3://Bucket/rows", SOURCES),
    ("dataset.format", "Chat", "chat", 'supported values: "MultipleChoice", "Chat", "Instruction", "Text"'),
    (
        "dataset.promptTemplate",
        "Q: {question}",
        "Q:",
        'spec.dataset.promptTemplate: Invalid value: "object": in format MultipleChoice it must contain the '
        "placeholder {question}, and no other braces than those of {question}, {options}; literal braces are doubled",
    ),
    (
        "dataset",
        rows(format="Instruction", promptTemplate="{instruction}"),
        rows(format="Instruction", promptTemplate="{question}"),
        'spec.dataset.promptTemplate: Invalid value: "object": in format Instruction it must contain the placeholder '
        "{instruction}",
    ),
    (
        "dataset",
        mixture({}, {"format": "Instruction", "responseTemplate": "{output}"}),
        mixture({}, {"format": "Instruction", "responseTemplate": "{answer}"}),
        'spec.dataset.mixture[1].responseTemplate: Invalid value: "object": in format Instruction it must contain the '
        "placeholder {output}",
    ),
    (
        "dataset.columns",
        {"question": "q"},
        {"messages": "m"},
        "spec.dataset.columns.messages: Forbidden: is for format Chat only",
    ),
    (
        "dataset",
        rows(format="Text", endOfText="Omit"),
        rows(format="Text", promptTemplate="{question}"),
        "spec.dataset.promptTemplate: Forbidden: is for formats MultipleChoice and Instruction only",
    ),
    (
        "evaluation",
        {"dataset": rows(format="Chat", columns={"system": "s"})},
        {"dataset": rows(columns={"system": "s"})},
        "spec.evaluation.dataset.format: Required value: columns and templates need a format beside them; without one, "
        "all three are those of spec.dataset",
    ),
    (
        "dataset",
        mixture({"weight": "1"}, weight="2"),
        mixture({"weight": "1"}),
        "spec.dataset.weight: Required value: a dataset of the mixture has a weight, and then spec.dataset needs one",
    ),
    (
        "dataset",
        mixture({}, {}),
        mixture({"weight": "1"}, {}, weight="2"),
        'spec.dataset.mixture: Invalid value: "object": spec.dataset has a weight, and then each dataset of the '
        "mixture needs one, too",
    ),
    (
        "dataset",
        mixture({"name": "a"}, {"name": "b"}),
        mixture({"name": "a"}, {"name": "a"}),
        'spec.dataset.mixture: Invalid value: "array": two datasets of the mixture have one name',
    ),
    (
        "dataset",
        mixture({"name": "datasets"}),
        mixture({"name": "dataset"}),
        "spec.dataset.mixture[0].name: Invalid value: \"string\": 'dataset' is what the rows of spec.dataset itself "
        "are called: choose another name",
    ),
    ("dataset.weight", "3", "0", 'spec.dataset.weight: Invalid value: "string": must be a decimal string above 0'),
    ("dataset.weight", "0.5", 0.5, "spec.dataset.weight in body must be of type string"),
    (
        "dataset.filters",
        {"maxMalformed": "0"},
        {"maxMalformed": "1.5"},
        "must be a decimal string at least 0 and at mo",
    ),
    ("dataset.filters", {"deduplication": "None"}, {"deduplication": "Fuzzy"}, '"None", "Exact", "Near"'),
    ("dataset.packing", "Auto", True, "must be of type string"),
    ("dataset.packing", "Disabled", "disabled", 'supported values: "Auto", "Enabled", "Disabled"'),
    ("dataset.maxExamples", 5000, 0, "should be greater than or equal to 1"),
    ("dataset.provenance", "Synthetic", "synthetic", "spec.dataset.provenance in body should match"),
    ("dataset.secretRef", {"name": "hub.token"}, {"name": "Hub"}, "spec.dataset.secretRef.name in body should match"),
    ("model.secretRef", {"name": "hub"}, {}, "spec.model.secretRef.name: Required value"),
    ("training.lossOn", "LastResponse", "Last", 'supported values: "Responses", "LastResponse", "All"'),
    ("dataset.responseTemplate", "{letter}", "it", "must contain the placeholder {answer} or {letter}"),
    ("dataset.responseTemplate", "{answer}", "{answer:{x}}", "no other braces than those of {answer}, {letter}"),
    ("dataset.responseTemplate", "{answer}", "{answer!z}", "no other braces than those of {answer}, {letter}"),
    ("dataset.responseTemplate", "{{x}} {answer}", "{{answer}}", "literal braces are doubled"),
    ("dataset.optionTemplate", "{letter}: {option}", "{letter}", "must contain the placeholder {option}"),
    ("dataset.config", "main", "a/b", "spec.dataset.config in body should match"),
    (
        "model.chatTemplateKwargs",
        {"enable_thinking": "false"},
        {"tokenize": "true"},
        "a key of chatTemplateKwargs is no variable of a template, or one that the trainer sets itself",
    ),
    ("model.chatTemplateKwargs", {"a": "1"}, {"a": 1}, "must be of type string"),
    ("lora.rank", 8, 0, "should be greater than or equal to 1"),
    ("lora.dropout", "0.1", "0.95", "must be a decimal string at least 0 and at most 0.9"),
    ("lora.bias", "LoraOnly", "lora", 'supported values: "None", "All", "LoraOnly"'),
    ("lora.targetModules", ["q_proj"], ["q_proj", "q_proj"], "Duplicate value"),
    ("lora.targetModules", ["AllLinear"], ["AllLinear", "q_proj"], "AllLinear stands alone"),
    ("training.learningRate", "2e-4", "0", "must be a decimal string above 0 and at most 1"),
    ("training.learningRate", "1E-5", "1e400", "should match '^[0-9]{1,12}"),
    ("training.learningRate", "1.0", 0.0002, "must be of type string"),
    ("training.microBatchSize", 4, 3, "batchSize must be a multiple of microBatchSize"),
    ("training.microBatchSize", "Auto", "auto", "must be Auto or a number of examples from 1 to 1024"),
    ("training.epochs", 1, 0, "should be greater than or equal to 1"),
    ("training.optimizer", "AdamW", "adamw_8bit", 'supported values: "AdamW8bit", "AdamW"'),
    ("evaluation.dataset", {"source": "hf://a/b"}, {"source": "x"}, "must be hf://"),
    ("output.destination", "pvc://models", "hf://a/b", "must be pvc://<claim>/<path>"),
    ("runtime.gpusPerNode", 0, 2, "should be less than or equal to 1"),
    ("runtime.profile", "t4", "T4", "should match"),
    ("runtime.resources", {"requests": {"cpu": 2, "memory": "1Gi"}}, {"requests": {"cpu": "two"}}, "should match"),
    (
        "runtime.resources",
        {"requests": {"memory": "1Gi"}, "limits": {"memory": "1024Mi"}},
        {"limits": {"memory": "6Gi"}},
        "requests.memory is more than limits.memory: set both",
    ),
    ("runtime.resources", {"limits": {"cpu": 4}}, {"limits": {"cpu": "500m"}}, "requests.cpu is more than limits.cpu"),
    (
        "runtime.resources",
        {"requests": {"ephemeral-storage": "1Gi"}, "limits": {"ephemeral-storage": "1Gi"}},
        {"requests": {"ephemeral-storage": "2Gi"}, "limits": {"ephemeral-storage": "1.5Gi"}},
        "requests.ephemeral-storage is more than limits.ephemeral-storage",
    ),
    ("runtime.resources", {"requests": {"cpu": "+1e1"}}, {"requests": {"cpu": "-1"}}, "should match"),
    (
        "runtime.resources",
        {"limits": {"memory": "16Gi"}},
        {"limits": {"nvidia.com/gpu": 1}},
        "limits may name cpu, memory, ephemeral-storage only: GPUs come from gpusPerNode",
    ),
    (
        "runtime.resources",
        {"requests": {"cpu": 1}},
        {"requests": {"hugepages-2Mi": "2Mi"}},
        "requests may name cpu, memory, ephemeral-storage only",
    ),
    (
        "runtime.nodeSelector",
        {"example.com/pool": "gpu", "zone": "", "a" * 63: "x.y"},
        {"example.com/pool/a": "gpu"},
        "a key of nodeSelector is no label key",
    ),
    ("runtime.nodeSelector", {"pool": "a" * 63}, {"a" * 64: "gpu"}, "a key of nodeSelector is no label key"),
    ("runtime.nodeSelector", {"pool": "a_b"}, {"pool": "a b"}, "should match"),
    (
        "runtime.tolerations",
        [{"key": "a", "effect": "NoExecute"}],
        [{"key": "a", "effect": "Never"}],
        "supported values",
    ),
    (
        "runtime.tolerations",
        [{"key": "a", "effect": "NoExecute", "tolerationSeconds": 5}],
        [{"key": "a", "effect": "NoSchedule", "tolerationSeconds": 5}],
        "tolerationSeconds needs effect NoExecute",
    ),
    (
        "runtime.tolerations",
        [{"operator": "Exists"}, {"key": "", "operator": "Exists"}],
        [{"effect": "NoSchedule"}],
        "a toleration without key needs operator Exists",
    ),
    (
        "runtime.tolerations",
        [{"key": "a", "operator": "Exists", "value": ""}],
        [{"key": "a", "operator": "Exists", "value": "b"}],
        "a toleration with operator Exists takes no value",
    ),
    ("runtime.tolerations", [{"key": "example.com/a", "value": "b"}], [{"key": "a b"}], "should match"),
    ("scheduling.backoffLimit", 0, -1, "should be greater than or equal to 0"),
]


@pytest.mark.parametrize(("path", "good", "bad", "refusal"), RULES, ids=[f"{r[0]}={r[2]}"[:70] for r in RULES])
def test_a_rule_accepts_a_right_value_and_names_what_is_wrong_with_another(
    apiserver: ControlPlane, path: str, good: Any, bad: Any, refusal: str
) -> None:
    assert dry_run(apiserver, job(path, good)) == ""
    assert refusal in dry_run(apiserver, job(path, bad))


def accepted_by_schema(apiserver: ControlPlane, values: list[tuple[str, Any]]) -> list[bool]:
    """Of many jobs with one field set each, which ones the API server takes. One command for all."""
    documents = [job(path, value, name=f"case-{number}") for number, (path, value) in enumerate(values)]
    everything = {"apiVersion": "v1", "kind": "List", "items": documents}
    command = ("create", "--dry-run=server", "--validate=false", "-o", "name", "-f", "-")
    accepted = set(apiserver.kubectl.run(*command, stdin=json.dumps(everything)).stdout.split())
    return [f"finetunejob.finetune.dev/case-{number}" in accepted for number in range(len(values))]


def test_models_and_schema_judge_alike(apiserver: ControlPlane) -> None:
    judged = accepted_by_schema(apiserver, [(path, value) for path, value, _ in CASES])
    wrong = [case for case, accepted in zip(CASES, judged, strict=True) if accepted is not case[2]]
    assert wrong == []


def test_what_goes_with_what_is_judged_as_in_the_models_and_a_refusal_names_the_same_field(
    apiserver: ControlPlane,
) -> None:
    documents = [
        {**MINIMAL, "metadata": {"name": f"spec-{number}", "namespace": "default"}, "spec": spec}
        for number, (spec, _) in enumerate(SPECS)
    ]
    everything = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    done = apiserver.kubectl.run(
        "create", "--dry-run=server", "--validate=false", "-o", "name", "-f", "-", stdin=everything
    )
    refusals = dict(re.findall(r'"(spec-\d+)" is invalid: \[?(spec\.[^:[]+)', done.stderr))
    accepted = re.findall(r"finetunejob\.finetune\.dev/(spec-\d+)", done.stdout)
    judged = [
        refusals.get(f"spec-{number}") if f"spec-{number}" not in accepted else None for number in range(len(SPECS))
    ]
    assert len(accepted) + len(refusals) == len(SPECS)
    wrong = [(one, said) for one, said in zip(SPECS, judged, strict=True) if said != (one[1] and f"spec.{one[1]}")]
    assert wrong == []


def is_template(text: str) -> bool:
    try:
        Placeholders(("question", "options"), ("question",)).check(text)
    except ValueError:
        return False
    return True


def test_models_and_schema_judge_random_templates_alike(apiserver: ControlPlane) -> None:
    chance = random.Random(7)
    pieces = ["{", "}", "{{", "}}", "{question}", "{options}", "question", "que", "stion", "!r", ":", " "]
    templates = ["".join(chance.choices(pieces, k=chance.randint(1, 7))) for _ in range(300)]
    expected = [is_template(template) for template in templates]
    assert 20 < sum(expected) < 280  # both kinds are among them
    judged = accepted_by_schema(apiserver, [("dataset.promptTemplate", template) for template in templates])
    assert [text for text, *pair in zip(templates, expected, judged, strict=True) if pair[0] is not pair[1]] == []


def random_rows(chance: random.Random) -> dict[str, Any]:
    """Rows with some of the fields that formats differ in, right ones more often than wrong ones."""
    name = chance.choice((*FORMATS, None))
    found = rows(**({"format": name} if name else {}))
    for field, values in FORMAT_FIELDS.items():
        if chance.random() < (0.5 if name in values else 0.04):
            found[field] = (
                values[name] if name in values and chance.random() < 0.9 else chance.choice([*values.values()])
            )
    columns = {
        column: "x"
        for column, formats in FORMAT_COLUMNS.items()
        if chance.random() < (0.5 if name in formats else 0.01)
    }
    return {**found, "columns": columns} if columns else found


def random_spec(chance: random.Random) -> tuple[str, Any]:
    """Rows of one place, perhaps with a mixture whose names and weights may be wrong."""
    if chance.random() < 0.3:
        return "evaluation", {"dataset": random_rows(chance)}
    weighted = chance.random() < 0.5
    weight = {"weight": "1"} if weighted else {}
    wrong = {} if weighted else {"weight": "1"}
    members = [
        {
            **random_rows(chance),
            "name": chance.choice("abcdefgh" if chance.random() < 0.98 else ["dataset"]),
            **(weight if chance.random() < 0.97 else wrong),
        }
        for _ in range(chance.choice((0, 0, 1, 2, 3)))
    ]
    return "dataset", {**random_rows(chance), **weight, **({"mixture": members} if members else {})}


def is_readable(path: str, value: Any) -> bool:
    try:
        read_manifest(json.dumps(job(path, value)), "job.json")
    except ManifestError:
        return False
    return True


def test_models_and_schema_judge_random_rows_alike(apiserver: ControlPlane) -> None:
    chance = random.Random(11)
    specs = [random_spec(chance) for _ in range(400)]
    expected = [is_readable(*spec) for spec in specs]
    assert 100 < sum(expected) < 300  # both kinds are among them
    judged = accepted_by_schema(apiserver, specs)
    assert [spec for spec, *pair in zip(specs, expected, judged, strict=True) if pair[0] is not pair[1]] == []


@pytest.mark.parametrize(("path", "value", "field"), UNKNOWN, ids=[field for *_, field in UNKNOWN])
def test_a_field_of_another_place_is_unknown(apiserver: ControlPlane, path: str, value: Any, field: str) -> None:
    assert f'unknown field "{field}"' in dry_run(apiserver, job(path, value))


def test_steps_and_epochs_exclude_each_other(apiserver: ControlPlane) -> None:
    assert dry_run(apiserver, job("training", {"maxSteps": 5})) == ""
    assert "set maxSteps or epochs, not both" in dry_run(apiserver, job("training", {"maxSteps": 5, "epochs": 1}))


def test_a_name_that_leaves_no_room_for_its_children_is_refused(apiserver: ControlPlane) -> None:
    assert dry_run(apiserver, job(name="a" * 57)) == ""
    for name in ("a" * 58, "a.b"):
        assert "metadata.name must be at most 57" in dry_run(apiserver, job(name=name))


def test_a_field_that_is_not_there_is_named(apiserver: ControlPlane) -> None:
    assert 'unknown field "spec.lora.ranks"' in dry_run(apiserver, job("lora.ranks", 8))


def test_a_missing_section_is_named(apiserver: ControlPlane) -> None:
    document = job()
    del document["spec"]["model"]
    assert "spec.model: Required value" in dry_run(apiserver, document)


def test_a_forgotten_dataset_is_told_with_what_a_job_without_one_needs(apiserver: ControlPlane) -> None:
    document = job()
    del document["spec"]["dataset"]
    refusal = dry_run(apiserver, document)
    assert "spec.dataset: Required value: name the rows to train on" in refusal
    assert "such a job needs evaluation and, but for method Full, model.adapter" in refusal


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("model.revision", "v2"),
        ("dataset.split", "other"),
        ("lora.rank", 8),
        ("training.maxSteps", 5),
        ("evaluation", {"dataset": {"source": "hf://a/b"}}),
        ("output.destination", "pvc://models/other"),
        ("runtime.gpusPerNode", 0),
        ("scheduling.backoffLimit", 1),
    ],
)
def test_what_names_a_run_cannot_change_later_and_the_refusal_says_what_to_do(
    apiserver: ControlPlane, path: str, value: Any
) -> None:
    apiserver.kubectl.apply([job(name="fixed")])
    assert dry_run(apiserver, job(name="fixed")) == ""
    refusal = dry_run(apiserver, job(path, value, name="fixed"))
    assert f"{path.split('.')[0]} can't change once the job exists: apply it under a new name" in refusal


@pytest.mark.parametrize(
    ("path", "value", "other"),
    [
        ("dataset", mixture({"name": "a"}, {"name": "b"}), mixture({"name": "b"}, {"name": "a"})),
        (
            "evaluation",
            {"dataset": rows(), "metrics": ["Accuracy", "Perplexity"]},
            {"dataset": rows(), "metrics": ["Perplexity", "Accuracy"]},
        ),
    ],
    ids=["mixture", "metrics"],
)
def test_an_order_that_counts_cannot_change_later(apiserver: ControlPlane, path: str, value: Any, other: Any) -> None:
    name = f"ordered-{path}"
    apiserver.kubectl.apply([job(path, value, name=name)])
    assert f"{path} can't change once the job exists" in dry_run(apiserver, job(path, other, name=name))


def test_defaults_show_what_will_run(apiserver: ControlPlane) -> None:
    apiserver.kubectl.apply([job(name="defaults")])
    spec = yaml.safe_load(apiserver.kubectl("get", "ftj", "defaults", "-o", "yaml"))["spec"]
    assert spec["training"]["batchSize"] == 8
    assert spec["training"]["microBatchSize"] == "Auto"
    assert spec["runtime"]["resources"]["requests"] == {"cpu": "4", "memory": "16Gi"}
    # What follows from method or format is no default of the schema.
    assert "lora" not in spec
    assert "learningRate" not in spec["training"]
    assert spec["dataset"].keys() == {"source", "revision", "split", "format", "workers"}
    assert "evaluation" not in spec


def test_explain_teaches_what_a_rank_is(apiserver: ControlPlane) -> None:
    text = apiserver.kubectl("explain", "ftj.spec.lora.rank")
    assert "(alpha / rank) B A x" in " ".join(text.split())


def test_explain_teaches_what_a_mixture_is(apiserver: ControlPlane) -> None:
    text = " ".join(apiserver.kubectl("explain", "ftj.spec.dataset.mixture").split())
    assert "Further datasets that are trained on together with these rows: all of their rows, or shares" in text
    assert "Left out: format, columns and templates are those of spec.dataset." in text


def set_status(apiserver: ControlPlane, name: str, status: dict[str, Any]) -> str:
    """Writes a status; returns the refusal, or nothing when it is accepted."""
    patch = json.dumps({"status": status})
    done = apiserver.kubectl.run("patch", "ftj", name, "--subresource=status", "--type=merge", "-p", patch)
    return done.stderr if done.returncode else ""


def condition(status: str, reason: str, message: str) -> dict[str, str]:
    moment = "2026-01-02T03:04:05Z"
    return {
        "type": "Succeeded",
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": moment,
    }


COLUMNS = ["NAME", "STAGE", "REASON", "PROGRESS", "LOSS", "ACCURACY", "VRAM", "ETA", "AGE"]


def test_the_list_shows_stage_progress_loss_accuracy_memory_and_node(apiserver: ControlPlane) -> None:
    apiserver.kubectl.apply([job(name="columns")])
    adapter = AdapterStatus(uri="pvc://models/x/adapter", sha256="0" * 64, size_bytes=1, files=1)
    status = {
        "stage": "Succeeded",
        "conditions": [
            {**condition("True", "n/a", ""), "type": "Other"},
            condition("True", "Succeeded", "accuracy 0.41 to 0.45"),
        ],
        "progress": {"summary": "200/200", "loss": "0.312", "remaining": "0s"},
        "memory": MemoryStatus(summary="1.3/79 GiB (1.7%)").to_api(),
        "evaluation": EvaluationStatus(summary="0.41→0.45", examples=1273).to_api(),
        "adapter": adapter.to_api(),
        "attempts": [{"stage": "Train", "number": n, "jobUID": "u", "node": f"node-{n}"} for n in (1, 2)],
    }
    assert set_status(apiserver, "columns", status) == ""
    header, row = apiserver.kubectl("get", "ftj", "columns", "-o", "wide").splitlines()
    assert header.split() == [*COLUMNS, "MESSAGE", "ADAPTER", "NODE"]
    for cell in ("Succeeded", "200/200", "0.312", "0.41→0.45", "1.3/79 GiB (1.7%)", "pvc://models/x/adapter", "node-2"):
        assert cell in row


def test_the_list_says_why_a_job_failed_or_waits(apiserver: ControlPlane) -> None:
    apiserver.kubectl.apply([job(name="reasons")])
    for verdict, stage, reason in (("Unknown", "Pending", "Unschedulable"), ("False", "Failed", "DatasetInvalid")):
        said = f"row 7 is the cause of {reason}"
        assert (
            set_status(apiserver, "reasons", {"stage": stage, "conditions": [condition(verdict, reason, said)]}) == ""
        )
        header, row = apiserver.kubectl("get", "ftj", "reasons").splitlines()
        assert header.split() == COLUMNS
        assert row.split()[:3] == ["reasons", stage, reason]
        assert said in apiserver.kubectl("get", "ftj", "reasons", "-o", "wide")


def test_the_documented_wait_returns_on_failure_too_and_the_verdict_can_be_read(apiserver: ControlPlane) -> None:
    apiserver.kubectl.apply([job(name="awaited")])
    failed = condition("False", "DatasetInvalid", "row 7")
    conditions = [failed, {**failed, "type": "Finished", "status": "True"}]
    assert set_status(apiserver, "awaited", {"stage": "Failed", "conditions": conditions}) == ""
    apiserver.kubectl("wait", "ftj/awaited", "--for=condition=Finished", "--timeout=30s")
    verdict = '{.status.conditions[?(@.type=="Succeeded")].status}'
    assert apiserver.kubectl("get", "ftj", "awaited", "-o", f"jsonpath={verdict}") == "False"


def test_a_status_may_say_words_that_this_version_does_not_know(apiserver: ControlPlane) -> None:
    apiserver.kubectl.apply([job(name="words")])
    status = {
        "stage": "Distilling",
        "conditions": [condition("False", "SomethingNew", "a newer operator's word")],
        "progress": {"stage": "Distill"},
        "stages": [{"name": "Distill", "attempts": 1}],
        "attempts": [{"stage": "Distill", "number": 1, "jobUID": "u", "reason": "SomethingNew"}],
        "evaluation": {"summary": "x", "examples": 1, "metrics": [{"name": "Bleu", "tuned": {"value": "0.3"}}]},
        "failure": {"reason": "SomethingNew", "message": "m"},
        "advice": [{"reason": "SomethingNew", "message": "m"}],
    }
    assert set_status(apiserver, "words", status) == ""
    assert "status.stage: Too long: may not be more than 64" in set_status(apiserver, "words", {"stage": "x" * 65})


@pytest.mark.parametrize("sample", SAMPLES, ids=[path.name for path in SAMPLES])
def test_every_sample_is_accepted(apiserver: ControlPlane, sample: Path) -> None:
    document = yaml.safe_load(sample.read_text())
    document["metadata"]["namespace"] = "default"
    assert dry_run(apiserver, document) == ""


def test_the_shipped_install_is_accepted_and_its_deletion_leaves_the_crd_alone(apiserver: ControlPlane) -> None:
    apiserver.kubectl("apply", "--server-side", "-k", str(MANIFESTS / "overlays/demo-embedded"))
    deleted = apiserver.kubectl("delete", "--dry-run=server", "-o", "name", "-k", str(MANIFESTS / "base")).split()
    assert "deployment.apps/finetune-operator" in deleted
    assert not [name for name in deleted if name.startswith("customresourcedefinition")]
    crds = apiserver.kubectl("delete", "--dry-run=server", "-o", "name", "-k", str(MANIFESTS.parent / "crds")).split()
    assert crds == ["customresourcedefinition.apiextensions.k8s.io/finetunejobs.finetune.dev"]
