"""Values that models and CRD must judge alike: each is tried on both, in Python and on an API server."""

from __future__ import annotations

from typing import Any

_TEMPLATES = {
    "{question}": True,
    "{question} {options}": True,
    "{{question}} {question}": True,
    "{{{question}}}": True,
    "{question}{{": True,
    "{question}}}": True,
    'Give {{"answer": 1}}: {question}': True,
    "{options}": False,
    "": False,
    "Q:": False,
    "{question": False,
    "question}": False,
    "{question} }": False,
    "{question} {": False,
    "{{question}}": False,
    "{{{{question}}}}": False,
    "{{{question}}": False,
    "{{question}}}": False,
    "{}{question}": False,
    "{0}{question}": False,
    "{question} {choices}": False,
    "{question!r}": False,
    "{question!}": False,
    "{question:>9}": False,
    "{question:}": False,
    "{question.upper}": False,
    "{question[0]}": False,
    "{question:{options}}": False,
    "{ question }": False,
    "{Question}": False,
    "{que{{stion}": False,
    "{que}}stion}": False,
    "{que{{stion} {question}": False,
    "{opt{question}ions}": False,
    "{question}{opt{question}ions}": False,
    "{question}\u0000{options}": True,
    "ü{question}😀": True,
}
_RESPONSES = {
    "{answer}": True,
    "{letter}": True,
    "{letter}. {answer}": True,
    '{{"answer": "{letter}"}}': True,
    "{answer!z}": False,
    "{answer:{x}}": False,
    "{{answer}}": False,
    "{option}": False,
    "it": False,
}
_OPTIONS = {
    "{option}": True,
    "{letter}: {option}": True,
    "({letter}) {option}": True,
    "{letter}": False,
    "{answer}": False,
}
_SOURCES = {
    "hf://a/b.c-d": True,
    "hf://a/b": True,
    "hf://a": False,
    "hf://a/b/c": False,
    "hf://a/b..c": False,
    "hf://-a/b": False,
    "pvc://claim": True,
    "pvc://claim/": True,
    "pvc://claim/a/b.jsonl": True,
    "pvc://claim/a b": False,
    "pvc://claim//a": False,
    "pvc://claim/../x": False,
    "pvc://claim/a..b": False,
    "pvc://Claim/a": False,
    "pvc:///x": False,
    "s3://bucket": True,
    "s3://bucket/": True,
    "s3://my.bucket-1/a/b.jsonl.gz": True,
    "s3://bucket/date=2026-01-02/a@b+c": True,
    f"s3://{'a' * 63}/a": True,
    f"s3://{'a' * 64}/a": False,
    "s3://ab/a": False,
    "s3://Bucket/a": False,
    "s3://-bucket/a": False,
    "s3://bucket-/a": False,
    "s3://my_bucket/a": False,
    "s3://bucket//a": False,
    "s3://bucket/a b": False,
    "s3://bucket/a%20b": False,
    "s3://bucket/../a": False,
    "s3://bucket/a..b": False,
    "s3://my..bucket/a": False,
    "s3:///a": False,
    "s3://bucket/a?versionId=1": False,
    "s3://bucket/a\n": False,
    "https://bucket.example/a": False,
    "/data/base": False,
    "hf://a/b\n": False,
    "pvc://claim/a\n": False,
    "": False,
}
_RATES = {
    "2e-4": True,
    "1E-5": True,
    "0.0002": True,
    "1": True,
    "1.0": True,
    "0": False,
    "0.0": False,
    "0e5": False,
    "1.1": False,
    "1e2": False,
    "1e400": False,
    "-1e-4": False,
    "+1e-4": False,
    ".5": False,
    "nan": False,
    "inf": False,
    "1e-4\n": False,
    " 1e-4": False,
    "": False,
}
_DROPOUTS = {"0": True, "0.1": True, "0.9": True, "9e-1": True, "0.95": False, "1": False}
_KWARGS: list[tuple[dict[str, str], bool]] = [
    ({}, True),
    ({"enable_thinking": "false", "a9": "x"}, True),
    ({"Thinking": "x"}, False),
    ({"a-b": "x"}, False),
    ({"a\n": "x"}, False),
    ({"": "x"}, False),
    ({"a" * 63: "x"}, True),
    ({"a" * 64: "x"}, False),
    ({"a": "x" * 256}, True),
    ({"a": "x" * 257}, False),
    ({"tokenize": "true"}, False),
    ({"add_generation_prompt": "true"}, False),
    ({"tools": "x"}, False),
    ({f"a{number}": "" for number in range(16)}, True),
    ({f"a{number}": "" for number in range(17)}, False),
]
_TARGETS: list[tuple[list[str], bool]] = [
    (["AllLinear"], True),
    (["q_proj", "v_proj"], True),
    (["AllLinear", "q_proj"], False),
    (["q_proj", "AllLinear"], False),
    (["q_proj", "q_proj"], False),
    (["a b"], False),
    ([""], False),
    ([], False),
]
_SELECTORS: list[tuple[dict[str, str], bool]] = [
    ({"example.com/pool": "gpu", "zone": "", "a" * 63: "x.y"}, True),
    ({"example.com/pool/a": "gpu"}, False),
    ({"a" * 64: "gpu"}, False),
    ({"pool\n": "gpu"}, False),
    ({"pool": "gpu\n"}, False),
    ({"pool": "a b"}, False),
]
_BATCHES: list[tuple[Any, bool]] = [
    ("Auto", True),
    (4, True),
    (3, False),
    (0, False),
    (1025, False),
    ("auto", False),
    ("4", False),
]

_CLAIM_NAME = "a" * 63 + "." + "b" * 63 + "." + "c" * 63 + "." + "d" * 61  # 253 characters
_SECRETS: list[tuple[Any, bool]] = [
    ({"name": "hub-token"}, True),
    ({"name": "a.b-c.d1"}, True),
    ({"name": "1"}, True),
    ({"name": _CLAIM_NAME}, True),
    ({"name": _CLAIM_NAME + "e"}, False),
    ({"name": ""}, False),
    ({"name": "Token"}, False),
    ({"name": "a_b"}, False),
    ({"name": "-a"}, False),
    ({"name": "a-"}, False),
    ({"name": "a..b"}, False),
    ({"name": "a-.b"}, False),
    ({"name": "a/b"}, False),
    ({"name": "a\n"}, False),
    ({}, False),
    ("hub-token", False),
]
_SHARES = {"0": True, "1": True, "0.01": True, "1e-3": True, "1.01": False, "-0.1": False, "50%": False, "": False}
_WEIGHTS = {"0.001": True, "3": True, "1000": True, "1e3": True, "0": False, "0.0": False, "1000.1": False, "-1": False}
_PROVENANCES = {
    "Human": True,
    "HumanWritten2": True,
    "A" * 32: True,
    "A" * 33: False,
    "human": False,
    "Human written": False,
    "Human-Written": False,
    "": False,
}
_NAMES = {
    "a": True,
    "chat-2": True,
    "datasets": True,
    "a" * 63: True,
    "a" * 64: False,
    "dataset": False,
    "Chat": False,
    "-a": False,
    "a-": False,
    "a.b": False,
    "a\n": False,
    "": False,
}

# What only some formats have, each with a value that is right for them.
FORMATS = ("MultipleChoice", "Chat", "Instruction", "Text")
FORMAT_FIELDS: dict[str, dict[str, str]] = {
    "promptTemplate": {"MultipleChoice": "{question}", "Instruction": "{instruction}"},
    "optionTemplate": {"MultipleChoice": "{option}"},
    "inputTemplate": {"Instruction": "{input}"},
    "responseTemplate": {"MultipleChoice": "{answer}", "Instruction": "{output}"},
    "endOfText": {"Text": "Omit"},
}
FORMAT_COLUMNS = {
    "question": ("MultipleChoice",),
    "options": ("MultipleChoice",),
    "answer": ("MultipleChoice",),
    "answerKey": ("MultipleChoice",),
    "messages": ("Chat",),
    "tools": ("Chat",),
    "system": ("Chat", "Instruction"),
    "instruction": ("Instruction",),
    "input": ("Instruction",),
    "output": ("Instruction",),
    "text": ("Text",),
    "provenance": FORMATS,
    "id": FORMATS,
}
_INSTRUCTION_TEMPLATES = [
    ("promptTemplate", "{instruction}", True),
    ("promptTemplate", "{{x}} {instruction}{input}", True),
    ("promptTemplate", "{input}", False),
    ("promptTemplate", "{question}", False),
    ("promptTemplate", "{instruction} {question}", False),
    ("promptTemplate", "{instruction", False),
    ("promptTemplate", "", False),
    ("inputTemplate", "Input: {input}", True),
    ("inputTemplate", "Input:", False),
    ("inputTemplate", "{input} {instruction}", False),
    ("responseTemplate", "{output}", True),
    ("responseTemplate", '{{"answer": "{output}"}}', True),
    ("responseTemplate", "{answer}", False),
    ("responseTemplate", "{output!r}", False),
    ("promptTemplate", "x" * (8192 - 13) + "{instruction}", True),
    ("promptTemplate", "x" * (8192 - 12) + "{instruction}", False),
]


def rows(**fields: Any) -> dict[str, Any]:
    """Rows of some source."""
    return {"source": "hf://owner/rows", **fields}


def everywhere(fields: dict[str, Any], good: bool) -> list[tuple[str, Any, bool]]:
    """Rows with these fields, in each place where a spec names rows."""
    return [
        ("dataset", rows(**fields), good),
        ("dataset", rows(mixture=[rows(name="a"), rows(name="b", **fields)]), good),
        ("dataset", rows(replay=rows(**fields)), good),
        ("dataset", rows(validation=rows(**fields)), good),
        ("evaluation", {"dataset": rows(**fields)}, good),
        ("evaluation", {"dataset": rows(), "retention": rows(**fields)}, good),
    ]


def mixture(*members: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A dataset with others beside it, named where they have no name."""
    return rows(mixture=[rows(**{"name": f"m{number}", **one}) for number, one in enumerate(members)], **fields)


_FORMATS = [
    *(
        case
        for name in FORMATS
        for field, values in FORMAT_FIELDS.items()
        for case in everywhere({"format": name, field: values.get(name, next(iter(values.values())))}, name in values)
    ),
    *(
        case
        for name in FORMATS
        for column, formats in FORMAT_COLUMNS.items()
        for case in everywhere({"format": name, "columns": {column: "x"}}, name in formats)
    ),
    *(
        case
        for field, value, good in _INSTRUCTION_TEMPLATES
        for case in everywhere({"format": "Instruction", field: value}, good)
    ),
    *everywhere({"format": "Chat", "columns": {}}, True),
    *everywhere({"format": "Chat", "columns": {"messages": ""}}, False),
    *everywhere({"format": "Chat", "columns": {"messages": "x" * 128}}, True),
    *everywhere({"format": "Chat", "columns": {"messages": "x" * 129}}, False),
    *everywhere({"format": "Preference"}, False),
    *everywhere({"format": "Text", "endOfText": "omit"}, False),
    # Without a format, spec.dataset is MultipleChoice, and the others are as spec.dataset.
    ("dataset", rows(columns={"messages": "x"}), False),
    ("dataset", rows(columns={"question": "x"}), True),
    ("dataset", mixture({"columns": {"question": "x"}}), False),
    ("dataset", mixture({"columns": {}}), False),
    ("dataset", mixture({"promptTemplate": "{question}"}), False),
    ("evaluation", {"dataset": rows(columns={"question": "x"})}, False),
    ("evaluation", {"dataset": rows(responseTemplate="{answer}")}, False),
    ("evaluation", {"dataset": rows(endOfText="Omit")}, False),
]
_MIXTURES = [
    ("dataset", rows(mixture=[]), True),
    ("dataset", mixture(*({} for _ in range(8))), True),
    ("dataset", mixture(*({} for _ in range(9))), False),
    ("dataset", mixture({"name": "a"}, {"name": "a"}), False),
    ("dataset", mixture({"name": "a"}, {"name": "b"}, {"name": "a"}), False),
    ("dataset", rows(mixture=[rows()]), False),  # without a name
    ("dataset", rows(mixture=[{"name": "a"}]), False),  # without a source
    ("dataset", rows(mixture={"a": rows()}), False),
    ("dataset", mixture({}, {}, weight="1"), False),
    ("dataset", mixture({"weight": "1"}, {}, weight="1"), False),
    ("dataset", mixture({"weight": "1"}, {"weight": "1"}), False),
    ("dataset", mixture({"weight": "1"}, {}), False),
    ("dataset", mixture({"weight": "1"}, {"weight": "0.5"}, weight="3"), True),
    ("dataset", rows(weight="3"), True),
    ("dataset", mixture({"weight": 1}, weight="1"), False),
    ("dataset", mixture({"maxExamples": 5, "provenance": "Synthetic", "split": "x", "config": "c"}), True),
    ("dataset", mixture({"maxExamples": 0}), False),
    ("dataset", mixture({"source": "s3://bucket/a", "secretRef": {"name": "a"}}), True),
    ("dataset", mixture({"source": "/data"}), False),
    *(("dataset", mixture({"name": name}), good) for name, good in _NAMES.items()),
]


def spec(**fields: Any) -> dict[str, Any]:
    """A whole spec with these sections in place of the smallest ones."""
    return {
        "model": {"source": "hf://owner/model"},
        "dataset": rows(),
        "output": {"destination": "pvc://models/a"},
        **fields,
    }


def formats(*names: str) -> dict[str, Any]:
    """An output of these formats."""
    return {"destination": "pvc://models/a", "formats": list(names)}


GENERAL = {"source": "hf://owner/general"}
CONTINUED = {"source": "hf://owner/model", "adapter": {"source": "pvc://models/june"}}
_SHARED = rows(validation=rows(split="test"))
ANATOMY = {**GENERAL, "config": "anatomy", "split": "test"}
VIROLOGY = {**GENERAL, "config": "virology", "split": "test"}

# Rules between sections. Each: a spec, and the field that a refusal names, or None where it is accepted.
SPECS: list[tuple[dict[str, Any], str | None]] = [
    # What goes with a method.
    *((spec(method=name), None) for name in ("QLoRA", "LoRA", "Full")),
    (spec(method="full"), "method"),
    (spec(method="LoRA", lora={"rank": 8}), None),
    (spec(method="Full", lora={}), "lora"),
    (spec(method="Full", lora={"rank": 8}), "lora"),
    (spec(method="LoRA", model=CONTINUED), None),
    (spec(model=CONTINUED), None),
    (spec(method="Full", model=CONTINUED), "model.adapter"),
    # How the adapter begins.
    *((spec(method=name, lora={"initialization": "Default"}), None) for name in ("QLoRA", "LoRA")),
    (spec(lora={"initialization": "LoftQ"}), None),
    (spec(method="LoRA", lora={"initialization": "LoftQ"}), "lora.initialization"),
    (spec(method="LoRA", lora={"initialization": "PiSSA"}), None),
    (spec(method="QLoRA", lora={"initialization": "PiSSA"}), "lora.initialization"),
    (spec(lora={"initialization": "PiSSA"}), "lora.initialization"),
    (spec(lora={"initialization": "Gaussian"}), "lora.initialization"),
    (spec(model=CONTINUED, lora={"rank": 8, "rankStabilized": True}), None),
    (spec(model=CONTINUED, lora={"initialization": "Default"}), None),
    (spec(model=CONTINUED, lora={"initialization": "LoftQ"}), "lora.initialization"),
    (spec(method="LoRA", model=CONTINUED, lora={"initialization": "PiSSA"}), "lora.initialization"),
    # What is saved.
    (spec(output=formats("Adapter")), None),
    (spec(output=formats("Adapter", "Merged16Bit")), None),
    (spec(method="LoRA", output=formats("Merged16Bit", "Adapter")), None),
    (spec(output=formats("Merged16Bit")), "output.formats"),
    (spec(method="LoRA", output=formats("Merged16Bit")), "output.formats"),
    (spec(method="Full", output=formats("Merged16Bit")), None),
    (spec(method="Full", output=formats("Adapter")), "output.formats"),
    (spec(method="Full", output=formats("Adapter", "Merged16Bit")), "output.formats"),
    (spec(method="Full", output=formats("Merged16Bit", "Adapter")), "output.formats"),
    (spec(output=formats()), "output.formats"),
    (spec(output=formats("Adapter", "Adapter")), "output.formats"),
    (spec(output=formats("Adapter", "GGUF")), "output.formats"),
    # Early stopping looks at validation rows, elastic weight consolidation at those of replay.
    (spec(dataset=rows(validation={"fraction": "0.05"}), training={"earlyStopping": {}}), None),
    (spec(dataset=rows(validation=GENERAL), training={"earlyStopping": {"patience": 1}}), None),
    (spec(training={"earlyStopping": {}}), "dataset"),
    (spec(dataset=rows(replay=GENERAL), training={"earlyStopping": {}}), "dataset"),
    (spec(dataset=rows(replay=GENERAL), training={"elasticWeightConsolidation": {"strength": "1"}}), None),
    (
        spec(
            method="Full",
            dataset=rows(replay={**GENERAL, "fraction": "0"}),
            training={"elasticWeightConsolidation": {"strength": "1"}},
        ),
        None,
    ),
    (spec(training={"elasticWeightConsolidation": {"strength": "1"}}), "dataset"),
    (
        spec(dataset=rows(validation=GENERAL), training={"elasticWeightConsolidation": {"strength": "1"}}),
        "dataset",
    ),
    # Nothing may be chosen by the rows that the evaluation holds out.
    (spec(dataset=_SHARED), None),
    (spec(dataset=_SHARED, evaluation={"dataset": rows(split="dev")}), None),
    (spec(dataset=_SHARED, evaluation={"dataset": GENERAL}), None),
    (spec(dataset=_SHARED, evaluation={"dataset": rows()}), "dataset.validation"),
    (spec(dataset=_SHARED, evaluation={"dataset": rows(split="test")}), "dataset.validation"),
    (
        spec(dataset=rows(validation=rows()), evaluation={"dataset": rows(split="validation")}),
        "dataset.validation",
    ),
    (spec(dataset=rows(validation=rows()), evaluation={"dataset": rows()}), None),
    # Rows of another configuration are other rows, though their source and split have one name.
    (spec(dataset=rows(validation=ANATOMY), evaluation={"dataset": VIROLOGY}), None),
    (spec(dataset=rows(validation=ANATOMY), evaluation={"dataset": {**GENERAL, "split": "test"}}), None),
    (spec(dataset=rows(validation={**GENERAL, "split": "test"}), evaluation={"dataset": VIROLOGY}), None),
    (spec(dataset=rows(validation=ANATOMY), evaluation={"dataset": ANATOMY}), "dataset.validation"),
    (
        spec(dataset=rows(validation={**ANATOMY, "maxExamples": 5}), evaluation={"dataset": ANATOMY}),
        "dataset.validation",
    ),
    (spec(dataset=rows(validation={"fraction": "0.1", "split": "test"}), evaluation={"dataset": rows()}), None),
    # Validation is a share of the rows or has a source.
    (spec(dataset=rows(validation={"fraction": "0.5"})), None),
    (spec(dataset=rows(validation={})), "dataset.validation"),
    (spec(dataset=rows(validation={"split": "dev"})), "dataset.validation"),
    (spec(dataset=rows(validation={"fraction": "0.1", **GENERAL})), "dataset.validation"),
    (spec(dataset=rows(validation={"fraction": "0"})), "dataset.validation.fraction"),
    (spec(dataset=rows(validation={"fraction": "0.51"})), "dataset.validation.fraction"),
    (spec(dataset=rows(validation={"fraction": 0.1})), "dataset.validation.fraction"),
    (spec(dataset=rows(validation={"source": "/data"})), "dataset.validation.source"),
    (spec(dataset=rows(validation=rows(maxExamples=5, columns={"question": "q"}, format="MultipleChoice"))), None),
    *(
        (spec(dataset=rows(validation={"fraction": "0.1", field: value})), "dataset.validation")
        for field, value in (
            ("maxExamples", 5),
            ("secretRef", {"name": "a"}),
            ("config", "main"),
            ("columns", {"question": "q"}),
            ("promptTemplate", "{question}"),
            ("format", "Text"),
        )
    ),
    # Held-out rows are the first so many, too.
    (spec(evaluation={"dataset": rows(maxExamples=5), "retention": rows(maxExamples=5)}), None),
    (spec(evaluation={"dataset": rows(maxExamples=0)}), "evaluation.dataset.maxExamples"),
    # Tracking.
    (spec(tracking={}), None),
    (spec(tracking={"tensorBoard": True, "mlflow": {}, "wandb": {}}), None),
    (spec(tracking={"mlflow": {"uri": "https://mlflow.example/path", "experiment": "Med QA/a-b"}}), None),
    (spec(tracking={"wandb": {"project": "med_qa", "secretRef": {"name": "wandb"}}}), None),
    (spec(tracking={"tensorBoard": "true"}), "tracking.tensorBoard"),
    (spec(tracking={"mlflow": {"uri": "mlflow.example"}}), "tracking.mlflow.uri"),
    (spec(tracking={"mlflow": {"uri": "https://a b"}}), "tracking.mlflow.uri"),
    (spec(tracking={"mlflow": {"experiment": ""}}), "tracking.mlflow.experiment"),
    (spec(tracking={"mlflow": {"secretRef": {"name": "A"}}}), "tracking.mlflow.secretRef.name"),
    (spec(tracking={"wandb": {"project": "-a"}}), "tracking.wandb.project"),
    (spec(tracking={"wandb": {"secretRef": {}}}), "tracking.wandb.secretRef.name"),
    # Replay is beside the mixture, and its name is taken.
    (spec(dataset=mixture({"name": "replay"})), None),
    (spec(dataset=mixture({"name": "replays"}, replay=GENERAL)), None),
    (spec(dataset=mixture({"name": "replay"}, replay=GENERAL)), "dataset.mixture"),
    (spec(dataset=mixture({}, {"name": "replay"}, replay=GENERAL)), "dataset.mixture"),
    (spec(dataset=mixture({"weight": "1"}, weight="1", replay=GENERAL)), None),
    (spec(dataset=rows(replay={})), "dataset.replay.source"),
    *((spec(dataset=rows(replay={**GENERAL, "fraction": share})), None) for share in ("0", "0.1", "0.9")),
    (spec(dataset=rows(replay={**GENERAL, "fraction": "0.91"})), "dataset.replay.fraction"),
    (spec(dataset=rows(replay={**GENERAL, "fraction": 0.1})), "dataset.replay.fraction"),
    (spec(dataset=rows(replay={**GENERAL, "format": "Text", "provenance": "Human", "maxExamples": 5})), None),
    # A practice's own numbers.
    (spec(training={"checkpoint": {}}), None),
    (spec(training={"checkpoint": {"everySteps": 1, "keep": 1}}), None),
    (spec(training={"checkpoint": {"everySteps": 0}}), "training.checkpoint.everySteps"),
    (spec(training={"checkpoint": {"keep": 0}}), "training.checkpoint.keep"),
    *(
        (
            spec(dataset=rows(validation={"fraction": "0.1"}), training={"earlyStopping": {field: value}}),
            f"training.earlyStopping.{field}" if refused else None,
        )
        for field, value, refused in (
            ("everySteps", 1, False),
            ("everySteps", 0, True),
            ("patience", 0, True),
            ("minimumChange", "0", False),
            ("minimumChange", "100", False),
            ("minimumChange", "100.1", True),
            ("minimumChange", 0.1, True),
        )
    ),
    *(
        (
            spec(dataset=rows(replay=GENERAL), training={"elasticWeightConsolidation": fields}),
            f"training.elasticWeightConsolidation.{refused}" if refused else None,
        )
        for fields, refused in (
            ({"strength": "1e9"}, ""),
            ({"strength": "0.001", "maxExamples": 1}, ""),
            ({}, "strength"),
            ({"strength": "0"}, "strength"),
            ({"strength": "1e10"}, "strength"),
            ({"strength": 100}, "strength"),
            ({"strength": "1", "maxExamples": 0}, "maxExamples"),
        )
    ),
    (spec(evaluation={"retention": rows()}), "evaluation.dataset"),
    (spec(evaluation={"dataset": rows(), "retention": rows()}), None),
    (spec(evaluation={"dataset": rows(), "retention": {}}), "evaluation.retention.source"),
]

# Fields that only another place has. kubectl looks at them one object at a time.
UNKNOWN: list[tuple[str, Any, str]] = [
    ("dataset.columns", {"conversation": "x"}, "spec.dataset.columns.conversation"),
    ("dataset", mixture({"workers": 2}), "spec.dataset.mixture[0].workers"),
    ("dataset", mixture({}, {"filters": {}}), "spec.dataset.mixture[1].filters"),
    ("dataset", mixture({"columns": {"x": "x"}, "format": "Chat"}), "spec.dataset.mixture[0].columns.x"),
    ("dataset.filters", {"minLength": 1}, "spec.dataset.filters.minLength"),
    ("evaluation.dataset", rows(provenance="Human"), "spec.evaluation.dataset.provenance"),
    ("evaluation.dataset", rows(weight="1"), "spec.evaluation.dataset.weight"),
    ("evaluation.dataset", rows(mixture=[]), "spec.evaluation.dataset.mixture"),
    ("dataset.secretRef", {"name": "a", "key": "b"}, "spec.dataset.secretRef.key"),
    ("dataset.validation", rows(weight="1"), "spec.dataset.validation.weight"),
    ("dataset.replay", rows(weight="1"), "spec.dataset.replay.weight"),
    ("model.adapter", {"source": "pvc://models/june", "split": "x"}, "spec.model.adapter.split"),
    ("tracking", {"mlflow": {"url": "https://a"}}, "spec.tracking.mlflow.url"),
]

CASES: list[tuple[str, Any, bool]] = [
    *_FORMATS,
    *_MIXTURES,
    *(("dataset.secretRef", value, good) for value, good in _SECRETS),
    ("model.secretRef", {"name": "hub-token"}, True),
    ("model.secretRef", {"name": "Hub"}, False),
    ("evaluation.dataset", rows(secretRef={"name": "a"}), True),
    ("evaluation.dataset", rows(secretRef={"name": "A"}), False),
    *(
        (place, rows(secretRef={"name": name}), name == "a")
        for place in ("model.adapter", "dataset.replay", "dataset.validation")
        for name in ("a", "A")
    ),
    *(
        (place, {"source": value}, good)
        for place in ("model.adapter", "dataset.replay", "dataset.validation")
        for value, good in _SOURCES.items()
    ),
    *(("model.adapter.revision", value, False) for value in ("main", "v2")),  # without a source
    ("model.adapter", rows(revision="v2"), True),
    ("model.adapter", rows(revision="a b"), False),
    *(("dataset.weight", value, good) for value, good in _WEIGHTS.items()),
    *(("dataset.provenance", value, good) for value, good in _PROVENANCES.items()),
    *(
        (f"dataset.filters.{field}", value, good)
        for field in ("maxMalformed", "maxTooLong", "maxOverlap")
        for value, good in {**_SHARES, "0.5": True}.items()
    ),
    ("dataset.filters.maxMalformed", 0.5, False),
    ("dataset.filters.maxOverlap", 1, False),
    ("dataset.filters", {}, True),
    *(("dataset.filters.deduplication", value, good) for value, good in {"None": True, "Exact": True}.items()),
    *(("dataset.filters.deduplication", value, good) for value, good in {"Near": True, "near": False}.items()),
    *(("dataset.packing", value, good) for value, good in {"Auto": True, "Enabled": True, "Disabled": True}.items()),
    *(("dataset.packing", value, False) for value in ("auto", "", True)),
    *(("dataset.maxExamples", value, good) for value, good in {1: True, 10_000_000: True, 0: False}.items()),
    *(("dataset.maxExamples", value, False) for value in (10_000_001, "5", 1.5)),
    *(("training.lossOn", value, True) for value in ("Responses", "LastResponse", "All")),
    *(("training.lossOn", value, False) for value in ("lastResponse", "Last", "")),
    ("evaluation", {"dataset": rows(), "metrics": ["Perplexity", "Accuracy"]}, True),
    ("evaluation", {"dataset": rows(), "metrics": ["Perplexity", "Perplexity"]}, False),
    *(("dataset.promptTemplate", value, good) for value, good in _TEMPLATES.items()),
    *(("dataset.responseTemplate", value, good) for value, good in _RESPONSES.items()),
    *(("dataset.optionTemplate", value, good) for value, good in _OPTIONS.items()),
    *(("dataset.config", value, good) for value, good in {"main": True, "a+b": True, "a/b": False, "": False}.items()),
    *(("model.source", value, good) for value, good in _SOURCES.items()),
    *(("output.destination", value, good and value.startswith("pvc")) for value, good in _SOURCES.items()),
    *(("training.learningRate", value, good) for value, good in _RATES.items()),
    ("training.learningRate", 0.0002, False),
    ("training.learningRate", 1, False),
    *(("lora.dropout", value, good) for value, good in _DROPOUTS.items()),
    ("lora.rank", "16", False),
    ("lora.rank", None, True),
    ("lora.rank", 16.0, True),
    ("lora.rank", 16.5, False),
    *(
        ("lora.rankStabilized", value, good)
        for value, good in ((True, True), (False, True), ("true", False), (1, False))
    ),
    *(("lora.targetModules", value, good) for value, good in _TARGETS),
    *(("model.chatTemplateKwargs", value, good) for value, good in _KWARGS),
    *(("runtime.nodeSelector", value, good) for value, good in _SELECTORS),
    *(("training.microBatchSize", value, good) for value, good in _BATCHES),
    ("training", {"maxSteps": 1, "epochs": 1}, False),
    ("evaluation.metrics", ["Perplexity"], False),  # without a dataset
]
