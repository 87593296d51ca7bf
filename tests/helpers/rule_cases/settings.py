"""Numbers, words and lists of a single section: model, lora, training, evaluation and runtime."""

from __future__ import annotations

from typing import Any

from rule_cases.places import Case, rows

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
_SLICES: list[tuple[list[dict[str, Any]], bool]] = [
    ([{"name": "by-topic", "column": "topic"}, {"name": "edges", "dataset": rows()}], True),
    ([{"name": f"s{number}", "column": "topic"} for number in range(8)], True),
    ([{"name": f"s{number}", "column": "topic"} for number in range(9)], False),
    ([], False),
    ([{"name": "a", "column": "topic"}, {"name": "a", "column": "kind"}], False),
    ([{"name": "a"}], False),
    ([{"column": "topic"}], False),
    ([{"name": "a", "column": "topic", "dataset": rows()}], False),
    ([{"name": "a=b", "column": "topic"}], False),
    ([{"name": "A", "column": "topic"}], False),
    ([{"name": "a" * 63, "column": "x" * 128}], True),
    ([{"name": "a" * 64, "column": "x"}], False),
    ([{"name": "a", "column": "x" * 129}], False),
    ([{"name": "a", "column": ""}], False),
    ([{"name": "a", "dataset": rows(format="Text", endOfText="Omit")}], True),
    ([{"name": "a", "dataset": rows(endOfText="Omit")}], False),
]
_PROMPTS: list[tuple[list[dict[str, Any]], bool]] = [
    ([{"text": "Who?"}, {"text": "Who?"}], True),
    ([{"text": "Who?", "name": "who", "chatTemplate": "Omit"}, {"text": "Why?", "chatTemplate": "Apply"}], True),
    ([{"text": "Who?", "name": "who"}, {"text": "Why?", "name": "who"}], False),
    ([{"text": "Who?", "name": "who"}, {"text": "Why?"}, {"text": "How?", "name": "how"}], True),
    ([], False),
    ([{"text": ""}], False),
    ([{"name": "who"}], False),
    ([{"text": "x" * 4096}] * 32, True),
    ([{"text": "x"}] * 33, False),
    ([{"text": "x" * 4097}], False),
    ([{"text": "x", "chatTemplate": "omit"}], False),
    ([{"text": "x", "name": "Two words"}], False),
]
SETTING_CASES: list[Case] = [
    *(("model.chatTemplateKwargs", value, good) for value, good in _KWARGS),
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
    *(("training.learningRate", value, good) for value, good in _RATES.items()),
    ("training.learningRate", 0.0002, False),
    ("training.learningRate", 1, False),
    *(("training.microBatchSize", value, good) for value, good in _BATCHES),
    ("training", {"maxSteps": 1, "epochs": 1}, False),
    *(("training.lossOn", value, True) for value in ("Responses", "LastResponse", "All")),
    *(("training.lossOn", value, False) for value in ("lastResponse", "Last", "")),
    ("evaluation", {"dataset": rows(), "metrics": ["Perplexity", "Accuracy"]}, True),
    ("evaluation", {"dataset": rows(), "metrics": ["Perplexity", "Perplexity"]}, False),
    ("evaluation", {"dataset": rows(), "metrics": ["GeneratedAccuracy", "InvalidAnswerRate", "BLEU", "ChrF"]}, True),
    ("evaluation", {"dataset": rows(), "metrics": ["EmptyAnswerRate", "CutAnswerRate"]}, True),
    ("evaluation", {"dataset": rows(), "metrics": ["chrF"]}, False),
    ("evaluation.metrics", ["Perplexity"], False),  # without a dataset
    *(("evaluation", {"dataset": rows(), "slices": value}, good) for value, good in _SLICES),
    *(("evaluation", {"dataset": rows(), "prompts": value}, good) for value, good in _PROMPTS),
    *(("runtime.nodeSelector", value, good) for value, good in _SELECTORS),
]
