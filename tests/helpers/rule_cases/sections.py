"""What goes with what, in a whole spec, and which field a refusal names."""

from __future__ import annotations

from typing import Any

from rule_cases.gates import GATE_SPECS
from rule_cases.places import mixture, rows


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


def alone(**fields: Any) -> dict[str, Any]:
    """A spec that trains nothing and evaluates an adapter; None leaves a section out."""
    whole = {"model": CONTINUED, "evaluation": {"dataset": GENERAL}, "output": {"destination": "pvc://models/a"}}
    return {name: section for name, section in {**whole, **fields}.items() if section is not None}


JUDGE = {"endpoint": "https://judge.example/v1", "model": "judge"}
# Fields of a judge, and the one that is refused, if any.
_JUDGES: list[tuple[dict[str, Any], str | None]] = [
    ({}, None),
    ({"endpoint": "http://vllm.ml.svc:8000/v1"}, None),
    ({"endpoint": "http://[::1]:8000/v1/"}, None),
    *(
        ({"endpoint": value}, ".endpoint")
        for value in (
            "judge.example/v1",
            "ftp://judge.example/v1",
            "https://",
            "https://me:secret@judge.example/v1",
            "https://judge.example/v1?key=secret",
            "https://judge.example/v1#a",
            "https://judge.example/v 1",
            "https://judge.example/v1\n",
            f"https://{'a' * 248}/",
            "",
        )
    ),
    ({"endpoint": f"https://{'a' * 247}/"}, None),
    ({"model": "org/Judge 7B@2026-01"}, None),
    *(({"model": value}, ".model") for value in ("", " judge", "judge ", "jüdge", "a\nb", "a" * 129)),
    ({"secretRef": {"name": "judge-key"}}, None),
    ({"secretRef": {"name": "Judge"}}, ".secretRef.name"),
    ({"rubric": ["Fluency", "Relevance"]}, None),
    *(({"rubric": value}, ".rubric") for value in ([], ["Fluency", "Fluency"], ["Safety"])),
    ({"pairwise": True, "repeats": 5}, None),
    *(
        ({field: value}, f".{field}")
        for field, bad in (
            ("repeats", (0, 6)),
            ("maxExamples", (0, 2001)),
            ("maxRequests", (0, 100001)),
            ("maxSeconds", (0, 86401)),
            ("maxReplyTokens", (31, 8193)),
            ("timeoutSeconds", (0, 601)),
            ("maxRetries", (-1, 11)),
            ("concurrency", (0, 33)),
        )
        for value in bad
    ),
]

# Each: a spec, and the field that a refusal names, or None where it is accepted.
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
    # Without rows to train on there is something to evaluate, and nothing says how to train.
    (alone(), None),
    (alone(method="LoRA", tracking=None, training={}), None),
    (alone(evaluation={"dataset": {**GENERAL, "format": "Chat"}, "retention": GENERAL}), None),
    (alone(training={"lossOn": "All", "batchSize": 8, "weightDecay": "0.01"}), None),
    (alone(evaluation=None), "dataset"),
    (alone(model={"source": "hf://owner/model"}), "dataset"),
    (alone(model={"source": "hf://owner/model"}, evaluation=None), "dataset"),
    (alone(method="Full", model={"source": "hf://owner/model"}, evaluation=None), "dataset"),
    (alone(method="Full"), "model.adapter"),
    (alone(method="Full", model={"source": "hf://owner/model"}), "evaluation.compareWithBase"),
    (
        alone(
            method="Full",
            model={"source": "hf://owner/model"},
            evaluation={"dataset": GENERAL, "compareWithBase": False},
        ),
        None,
    ),
    (alone(evaluation={"dataset": GENERAL, "compareWithBase": False}), None),
    (alone(evaluation={"dataset": {**GENERAL, "columns": {"question": "q"}}}), "evaluation.dataset.format"),
    (alone(lora={}), "lora"),
    (alone(lora={"rank": 8}), "lora"),
    (alone(tracking={}), "tracking"),
    (alone(output=formats("Adapter")), "output.formats"),
    *(
        (alone(training={field: value}), "training")
        for field, value in (
            ("batchSize", 16),
            ("microBatchSize", 4),
            ("maxSteps", 5),
            ("epochs", 3),
            ("learningRate", "2e-4"),
            ("warmupSteps", 0),
            ("scheduler", "Cosine"),
            ("optimizer", "AdamW"),
            ("weightDecay", "0"),
            ("gradientCheckpointing", "Enabled"),
            ("loggingSteps", 1),
            ("seed", 1),
            ("earlyStopping", {}),
            ("elasticWeightConsolidation", {"strength": "1"}),
            ("checkpoint", {}),
        )
    ),
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
    (spec(tracking={"mlflow": {"uri": "https://me:secret@mlflow.example/a"}}), "tracking.mlflow.uri"),
    (spec(tracking={"mlflow": {"uri": "http://mlflow.ml.svc:5000/a@b"}}), None),
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
    (spec(training={"checkpoint": {"claimName": "scratch.v2"}}), None),
    (spec(training={"checkpoint": {"claimName": ""}}), "training.checkpoint.claimName"),
    (spec(training={"checkpoint": {"claimName": "pvc://scratch"}}), "training.checkpoint.claimName"),
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
    # A judge.
    *(
        (spec(evaluation={"dataset": rows(), "judge": {**JUDGE, **fields}}), refused and f"evaluation.judge{refused}")
        for fields, refused in _JUDGES
    ),
    (
        spec(evaluation={"dataset": rows(), "compareWithBase": False, "judge": {**JUDGE, "pairwise": True}}),
        "evaluation.judge",
    ),
    (spec(evaluation={"dataset": rows(), "compareWithBase": False, "judge": JUDGE}), None),
    (spec(evaluation={"dataset": rows(), "judge": {"model": "m"}}), "evaluation.judge.endpoint"),
    (spec(evaluation={"dataset": rows(), "judge": {"endpoint": "https://a"}}), "evaluation.judge.model"),
    (spec(evaluation={"retention": rows()}), "evaluation.dataset"),
    (spec(evaluation={"dataset": rows(), "retention": rows()}), None),
    (spec(evaluation={"dataset": rows(), "retention": {}}), "evaluation.retention.source"),
    *GATE_SPECS,
]
