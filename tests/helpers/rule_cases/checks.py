"""spec.evaluation.checks: names, the one way in which each looks at an answer, and where terms lie."""

from __future__ import annotations

from typing import Any

from rule_cases.places import Case, rows


def _checks(*checks: dict[str, Any]) -> dict[str, Any]:
    return {"dataset": rows(), "checks": list(checks)}


def _check(name: str = "NoSlurs", **fields: Any) -> dict[str, Any]:
    return {"name": name, **(fields or {"pattern": "a"})}


_NAMES = {
    "A": True,
    "Format2": True,
    "a" * 3: False,
    "No-Slurs": False,
    "No slurs": False,
    "A\n": False,
    "2A": False,
    "": False,
    "A" * 63: True,
    "A" * 64: False,
    "Accuracy": False,
    "BLEU": False,
    "InvalidAnswerRate": False,
    "Refusal": True,
}
_WAYS: list[tuple[dict[str, Any], bool]] = [
    ({"pattern": "^[A-E]\\\\."}, True),
    ({"pattern": "a" * 512}, True),
    ({"pattern": "a" * 513}, False),
    ({"pattern": ""}, False),
    ({"pattern": "a", "expect": "NoMatch"}, True),
    ({"pattern": "a", "expect": "Absent"}, False),
    ({"format": "JSON"}, True),
    ({"format": "json"}, False),
    ({"terms": ["one", "two words"]}, True),
    ({"terms": []}, False),
    ({"terms": [""]}, False),
    ({"terms": [" \t"]}, False),
    ({"terms": ["a" * 128]}, True),
    ({"terms": ["a" * 129]}, False),
    ({"terms": ["a"] * 64}, True),
    ({"terms": ["a"] * 65}, False),
    ({"termsFrom": {"source": "pvc://lists/blocked.txt"}}, True),
    ({"termsFrom": {"source": "hf://owner/list"}}, False),
    ({"termsFrom": {"source": "pvc://lists/../blocked.txt"}}, False),
    ({"termsFrom": {"builtIn": "Refusals"}}, True),
    ({"termsFrom": {"builtIn": "Slurs"}}, False),
    ({"termsFrom": {}}, False),
    ({"termsFrom": {"source": "pvc://lists/a.txt", "builtIn": "Refusals"}}, False),
    ({"expect": "Match"}, False),
    ({"pattern": "a", "format": "JSON"}, False),
    ({"pattern": "a", "terms": ["a"]}, False),
    ({"terms": ["a"], "termsFrom": {"builtIn": "Refusals"}}, False),
]
CHECK_CASES: list[Case] = [
    *(("evaluation", _checks(_check(name)), good) for name, good in _NAMES.items()),
    *(("evaluation", _checks(_check(**fields)), good) for fields, good in _WAYS),
    ("evaluation", _checks(), False),
    ("evaluation", _checks({"pattern": "a"}), False),
    ("evaluation", _checks(_check("A"), _check("B")), True),
    ("evaluation", _checks(_check("A"), _check("B"), _check("A")), False),
    ("evaluation", _checks(*(_check(f"C{number}") for number in range(8))), True),
    ("evaluation", _checks(*(_check(f"C{number}") for number in range(9))), False),
]
