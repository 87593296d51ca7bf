"""Where something is read from and written to, and with whose credentials."""

from __future__ import annotations

from typing import Any

from rule_cases.places import Case, rows

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
SOURCE_CASES: list[Case] = [
    *(("model.source", value, good) for value, good in _SOURCES.items()),
    *(
        (place, {"source": value}, good)
        for place in ("model.adapter", "dataset.replay", "dataset.validation")
        for value, good in _SOURCES.items()
    ),
    *(("output.destination", value, good and value.startswith("pvc")) for value, good in _SOURCES.items()),
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
    *(("model.adapter.revision", value, False) for value in ("main", "v2")),  # without a source
    ("model.adapter", rows(revision="v2"), True),
    ("model.adapter", rows(revision="a b"), False),
    *(("dataset.config", value, good) for value, good in {"main": True, "a+b": True, "a/b": False, "": False}.items()),
]
