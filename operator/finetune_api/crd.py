"""Generates the CustomResourceDefinition from the models: ``python -m finetune_api.crd > crds/<file>``."""

from __future__ import annotations

import re
import sys
from typing import Any

import yaml

from finetune_api import names
from finetune_api.job import FineTuneJob
from finetune_api.rules import DECIMAL_PATTERN

_VERDICT = '.status.conditions[?(@.type=="Succeeded")]'
# What `kubectl get ftj` shows. A column reads one path, which is why status has summaries.
PRINTER_COLUMNS: list[dict[str, Any]] = [
    {"name": "Stage", "type": "string", "jsonPath": ".status.stage"},
    {"name": "Reason", "type": "string", "jsonPath": f"{_VERDICT}.reason"},
    {"name": "Progress", "type": "string", "jsonPath": ".status.progress.summary"},
    {"name": "Loss", "type": "string", "jsonPath": ".status.progress.loss"},
    {"name": "Accuracy", "type": "string", "jsonPath": ".status.evaluation.summary"},
    {"name": "VRAM", "type": "string", "jsonPath": ".status.memory.summary"},
    {"name": "ETA", "type": "string", "jsonPath": ".status.progress.remaining"},
    {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
    {"name": "Message", "type": "string", "jsonPath": f"{_VERDICT}.message", "priority": 1},
    {"name": "Adapter", "type": "string", "jsonPath": ".status.adapter.uri", "priority": 1},
    {"name": "Node", "type": "string", "jsonPath": ".status.attempts[-1:].node", "priority": 1},
]

# What a structural schema carries unchanged (apiextensions.k8s.io/v1 JSONSchemaProps).
_KEPT = {
    "type",
    "format",
    "description",
    "enum",
    "pattern",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "maxProperties",
    "required",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
}
_TRANSLATED = {"properties", "items", "additionalProperties", "anyOf", "allOf", "$ref", "const", "default", "title"}

Schema = dict[str, Any]


class UnsupportedSchemaError(ValueError):
    """A model uses JSON schema that a structural schema can't carry."""


def structural(schema: Schema, definitions: dict[str, Schema], path: str = "") -> Schema:
    """Turns a pydantic JSON schema into a structural one: references inlined, nulls dropped.

    Raises UnsupportedSchemaError, with the field's path, for a keyword that would be lost.
    """
    schema = _inlined(schema, definitions, path)
    if unknown := set(schema) - _KEPT - _TRANSLATED:
        raise UnsupportedSchemaError(f"{path or '.'}: a structural schema can't carry {sorted(unknown)}")
    result = {key: value for key, value in schema.items() if key in _KEPT}
    if "const" in schema:
        result["enum"] = [schema["const"]]
    if "properties" in schema:
        result["properties"] = {
            name: structural(child, definitions, f"{path}.{name}") for name, child in schema["properties"].items()
        }
    if "items" in schema:
        result["items"] = structural(schema["items"], definitions, f"{path}[]")
    if isinstance(schema.get("additionalProperties"), dict):
        result["additionalProperties"] = structural(schema["additionalProperties"], definitions, f"{path}[*]")
    if schema.get("default") is not None:
        result["default"] = _default(result, schema["default"])
    return result


def _inlined(schema: Schema, definitions: dict[str, Schema], path: str) -> Schema:
    """Follows references and reduces ``X | None`` to ``X``, keeping what stands beside them."""
    if "$ref" in schema:
        target = definitions[schema["$ref"].removeprefix("#/$defs/")]
        schema = {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
        return _inlined(schema, definitions, path)
    if schema.get("x-kubernetes-int-or-string"):
        return {key: value for key, value in schema.items() if key not in ("anyOf", "type")}
    if "anyOf" in schema:
        kinds = [kind for kind in schema["anyOf"] if kind.get("type") != "null"]
        if len(kinds) != 1:
            raise UnsupportedSchemaError(f"{path or '.'}: a union of {len(kinds)} types")
        schema = {**kinds[0], **{key: value for key, value in schema.items() if key != "anyOf"}}
        return _inlined(schema, definitions, path)
    return schema


def _default(schema: Schema, default: Any) -> Any:
    # An object defaults to {}: the API server then fills in the defaults of its fields.
    return {} if "properties" in schema else default


def _undefaulted(schema: Schema) -> Schema:
    result = {key: value for key, value in schema.items() if key != "default"}
    if "properties" in schema:
        result["properties"] = {name: _undefaulted(child) for name, child in schema["properties"].items()}
    for part in ("items", "additionalProperties"):
        if part in schema:
            result[part] = _undefaulted(schema[part])
    return result


def openapi_schema() -> Schema:
    """The structural schema of the whole object. The API server itself checks apiVersion, kind and metadata."""
    model = FineTuneJob.model_json_schema(by_alias=True)
    fields = {name: structural(model["properties"][name], model["$defs"], f".{name}") for name in ("spec", "status")}
    fields["status"] = _undefaulted(fields["status"])  # what is absent there says that nobody looked yet
    standard = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    return {
        "type": "object",
        "description": model["description"],
        "required": ["spec"],
        "x-kubernetes-validations": model["x-kubernetes-validations"],
        "properties": {**standard, **fields},
    }


def build_crd() -> dict[str, Any]:
    """The CustomResourceDefinition of FineTuneJob."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names.PLURAL}.{names.GROUP}"},
        "spec": {
            "group": names.GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": names.KIND,
                "listKind": f"{names.KIND}List",
                "plural": names.PLURAL,
                "singular": names.SINGULAR,
                "shortNames": [names.SHORT_NAME],
                "categories": ["ai"],
            },
            "versions": [
                {
                    "name": names.VERSION,
                    "served": True,
                    "storage": True,
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": PRINTER_COLUMNS,
                    "schema": {"openAPIV3Schema": openapi_schema()},
                }
            ],
        },
    }


class _Dumper(yaml.SafeDumper):
    """Plain YAML without anchors, long texts unfolded so that a diff shows one line per change."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _quoted_decimal(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    # PyYAML leaves 2e-4 bare, since YAML 1.1 wants a dot; the API server's parser would read a float.
    style = "'" if re.fullmatch(DECIMAL_PATTERN, text) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _quoted_decimal)


def render() -> str:
    """The CRD as the YAML text that is committed under crds/."""
    header = "# Generated by `make generate` from operator/finetune_api. Do not edit.\n"
    return header + yaml.dump(build_crd(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=4096)


if __name__ == "__main__":
    sys.stdout.write(render())
