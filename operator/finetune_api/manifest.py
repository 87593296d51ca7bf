"""Reads a FineTuneJob from a user's YAML file as strictly as ``kubectl apply`` does."""

from __future__ import annotations

import re
from typing import Any

import yaml
from pydantic import ValidationError

from finetune_api.base import first_problem, one_line
from finetune_api.job import FineTuneJob
from finetune_api.names import KIND


class ManifestError(ValueError):
    """The text holds no FineTuneJob that can be used. The message says where and why, in one line."""


class _Loader(yaml.SafeLoader):
    """YAML as the API server reads it: 2e-4 is a number there (PyYAML reads a text), and a key stands once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key.value!r} stands twice", problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)[eE][-+]?[0-9]+$"), list("-+.0123456789")
)


def read_manifest(text: str, name: str) -> FineTuneJob:
    """The FineTuneJob in a YAML text; ``name`` is the file's, for messages.

    Raises ManifestError for what is no YAML, for unknown fields and wrong values, and unless there is exactly one.
    """
    try:
        documents = [document for document in yaml.load_all(text, Loader=_Loader) if document is not None]
    except yaml.YAMLError as error:
        raise ManifestError(f"{name} is no YAML: {one_line(str(error), 300)}") from error
    jobs = [one for one in documents if isinstance(one, dict) and one.get("kind") == KIND]
    if len(jobs) != 1:
        kinds = [str(one.get("kind")) if isinstance(one, dict) else type(one).__name__ for one in documents]
        raise ManifestError(f"{name} must hold one {KIND}; it holds {', '.join(kinds) or 'nothing'}")
    try:
        return FineTuneJob.model_validate(jobs[0], extra="forbid")
    except ValidationError as error:
        raise ManifestError(f"{name}: {first_problem(error)}") from error
