"""What only spec.dataset has: its mixture, filters, weights and names."""

from __future__ import annotations

from rule_cases.places import Case, mixture, rows

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
DATASET_CASES: list[Case] = [
    *_MIXTURES,
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
]
