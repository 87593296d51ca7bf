"""Reads a FineTuneJob from a user's YAML file as strictly as ``kubectl apply`` does."""

from __future__ import annotations

import json
import re
from typing import Any

import yaml
from pydantic import ValidationError

from finetune_api.base import first_problem, one_line
from finetune_api.job import NAME_PATTERN, NAME_RULE, FineTuneJob
from finetune_api.names import KIND

_SECTIONS = ("apiVersion", "kind", "metadata", "spec", "status")
# What a run reads of metadata. The rest (annotations, what a server adds) is no business of ours.
_METADATA = ("name", "namespace", "labels")


class ManifestError(ValueError):
    """The text holds no FineTuneJob that can be used. The message says where and why, in one line."""


class _Loader(yaml.SafeLoader):
    """YAML as kubectl reads it: 2e-4 is a number, 2026-01-02 and 1:20 are texts, and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_INTEGER = re.compile(r"^[-+]?(0b[01_]+|0o?[0-7_]+|0x[0-9a-fA-F_]+|0|[1-9][0-9_]*)$")
_FLOAT = re.compile(r"^([-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN))$")
_OWN = ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _OWN]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", _INTEGER, list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))


def read_manifest(text: str, name: str) -> FineTuneJob:
    """The FineTuneJob in a YAML text; ``name`` is the file's, for messages. A status in it is left out.

    Raises ManifestError for what is no YAML, for unknown fields and wrong values, and unless there is exactly one.
    """
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number that is none, such as 0o9
        raise ManifestError(f"{name} is no YAML: {one_line(_yaml_problem(error), 300)}") from error
    jobs = [one for one in documents if isinstance(one, dict) and one.get("kind") == KIND]
    if len(jobs) != 1:
        kinds = [str(one.get("kind")) if isinstance(one, dict) else type(one).__name__ for one in documents]
        raise ManifestError(f"{name} must hold one {KIND}; it holds {', '.join(kinds) or 'nothing'}")
    try:
        # From JSON: only there does strict reading take a time that is written as text.
        # By alias alone: max_steps is no field of the API, though it is one of our models.
        return FineTuneJob.model_validate_json(_json(jobs[0], name), strict=True, extra="forbid", by_name=False)
    except ValidationError as error:
        raise ManifestError(f"{name}: {first_problem(error)}") from error


def _yaml_problem(error: Exception) -> str:
    """What a parser found wrong, behind the line that it stands in, without the name that it gives to any text."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return str(error)
    mark, began = error.problem_mark, error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: {error.problem}"
    if error.context is None or began is None:
        return where
    return f"{where}, {error.context} that begins in line {began.line + 1}"


def _json(document: dict[Any, Any], name: str) -> str:
    if unknown := [key for key in document if key not in _SECTIONS]:
        raise ManifestError(f'{name}: unknown field "{unknown[0]}"; there are {", ".join(_SECTIONS)}')
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        if isinstance(metadata.get("name"), str) and not re.fullmatch(NAME_PATTERN, metadata["name"]):
            raise ManifestError(f"{name}: {NAME_RULE}, not {metadata['name']!r}")
        metadata = {key: metadata[key] for key in _METADATA if metadata.get(key) is not None}
    read = {key: value for key, value in document.items() if key != "status"} | {"metadata": metadata}
    try:
        return json.dumps(_as_sent(read))
    except (TypeError, ValueError) as error:  # a YAML tag such as !!binary, or a key that is no text
        raise ManifestError(f"{name} can't be written as JSON: {error}") from error


def _as_sent(value: Any) -> Any:
    """A value as kubectl sends it: what stands empty is left out, and 16.0 is 16."""
    if isinstance(value, dict):
        return {key: _as_sent(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [_as_sent(one) for one in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
