"""Whether a CRD still accepts, and means by it, what an earlier one accepted. docs/api-changes.md says it in words."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

Schema = dict[str, Any]

_UPPER_BOUNDS = ("maximum", "maxLength", "maxItems", "maxProperties")
_LOWER_BOUNDS = ("minimum", "minLength", "minItems", "minProperties")
# Keywords that mean something else when they change, in either direction.
_FIXED = ("type", "x-kubernetes-list-type", "x-kubernetes-list-map-keys", "x-kubernetes-map-type")
# Keywords that only take away: they may go, but neither come nor change.
_RESTRICTIONS = ("pattern", "format", "multipleOf", "uniqueItems", "exclusiveMinimum", "exclusiveMaximum", "not")
# Keywords that only allow: they may come, but not go.
_PERMISSIONS = ("nullable", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields")


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """What a user of the old CRD would run into with the new one: a line each, empty where all is compatible."""
    before, after = old["spec"], new["spec"]
    return [*_names(before, after), *_versions(before, after)]


def _names(old: Schema, new: Schema) -> Iterator[str]:
    for field in ("group", "scope"):
        if old[field] != new[field]:
            yield f"{field}: {old[field]} became {new[field]}"
    for field in ("kind", "plural", "singular", "listKind"):
        if old["names"].get(field) != new["names"].get(field):
            yield f"names.{field}: {old['names'].get(field)} became {new['names'].get(field)}"
    for field in ("shortNames", "categories"):
        for name in sorted(set(old["names"].get(field, [])) - set(new["names"].get(field, []))):
            yield f"names.{field}: {name} is gone"


def _versions(old: Schema, new: Schema) -> Iterator[str]:
    after = {version["name"]: version for version in new["versions"] if version["served"]}
    for before in old["versions"]:
        name = before["name"]
        if not before["served"]:
            continue
        if name not in after:
            yield f"version {name} is no longer served"
            continue
        yield from _columns(before, after[name])
        for subresource in sorted(before.get("subresources", {}).keys() - after[name].get("subresources", {}).keys()):
            yield f"subresource {subresource} is gone"
        yield from _changes(before["schema"]["openAPIV3Schema"], after[name]["schema"]["openAPIV3Schema"], "")


def _columns(old: Schema, new: Schema) -> Iterator[str]:
    after = {column["name"]: column for column in new.get("additionalPrinterColumns", [])}
    for column in old.get("additionalPrinterColumns", []):
        name = column["name"]
        if name not in after:
            yield f"column {name} is gone"
            continue
        for field in ("jsonPath", "type"):
            if column[field] != after[name][field]:
                yield f"column {name}: {field} {column[field]} became {after[name][field]}"
        if after[name].get("priority", 0) > column.get("priority", 0):
            yield f"column {name} shows in the wide list only"


def _changes(old: Schema, new: Schema, path: str) -> Iterator[str]:
    where = path or "."
    for keyword in _FIXED:
        if old.get(keyword) != new.get(keyword):
            yield f"{where}: {keyword} {old.get(keyword)} became {new.get(keyword)}"
    for keyword in _RESTRICTIONS:
        if keyword in new and new[keyword] != old.get(keyword):
            yield f"{where}: {keyword} {old.get(keyword)} became {new[keyword]}"
    for keyword in _PERMISSIONS:
        if old.get(keyword) and not new.get(keyword):
            yield f"{where}: {keyword} is gone"
    yield from _bounds(old, new, where)
    if path.startswith(".status"):
        yield from _unreadable(old, new, where)
    yield from _values(old, new, where)
    yield from _rules(old, new, where)
    yield from _children(old, new, path)


def _bounds(old: Schema, new: Schema, where: str) -> Iterator[str]:
    directions: list[tuple[tuple[str, ...], Callable[[Any, Any], bool]]] = [
        (_UPPER_BOUNDS, lambda before, after: after < before),
        (_LOWER_BOUNDS, lambda before, after: after > before),
    ]
    for keywords, narrower in directions:
        for keyword in keywords:
            if keyword in new and (keyword not in old or narrower(old[keyword], new[keyword])):
                yield f"{where}: {keyword} {old.get(keyword)} became {new[keyword]}"


def _unreadable(old: Schema, new: Schema, where: str) -> Iterator[str]:
    """What an earlier operator, after a rollback, would refuse to read in a status that a later one wrote."""
    directions: list[tuple[tuple[str, ...], Callable[[Any, Any], bool]]] = [
        (_UPPER_BOUNDS, lambda before, after: after > before),
        (_LOWER_BOUNDS, lambda before, after: after < before),
        (_RESTRICTIONS, lambda before, after: False),  # any other change is told of already
    ]
    for keywords, wider in directions:
        for keyword in keywords:
            if keyword in old and (keyword not in new or wider(old[keyword], new[keyword])):
                yield f"{where}: {keyword} {old[keyword]} became {new.get(keyword)}"
    for value in new.get("enum", []):
        if "enum" in old and value not in old["enum"]:
            yield f"{where}: value {value!r} is new"
    if "enum" in old and "enum" not in new:
        yield f"{where}: enum {old['enum']} became None"
    for name in sorted(set(old.get("required", [])) - set(new.get("required", []))):
        if name in new.get("properties", {}):
            yield f"{where}.{name} is no longer required"


def _values(old: Schema, new: Schema, where: str) -> Iterator[str]:
    if "enum" in new:
        if "enum" not in old:
            yield f"{where}: enum became {new['enum']}"
        for value in old.get("enum", []):
            if value not in new["enum"]:
                yield f"{where}: value {value!r} is gone"
    if old.get("default") != new.get("default"):
        yield f"{where}: default {old.get('default')!r} became {new.get('default')!r}"


def _rules(old: Schema, new: Schema, where: str) -> Iterator[str]:
    before = {rule["rule"] for rule in old.get("x-kubernetes-validations", [])}
    for rule in new.get("x-kubernetes-validations", []):
        if rule["rule"] not in before:
            yield f"{where}: rule {rule['rule']!r} is new"


def _children(old: Schema, new: Schema, path: str) -> Iterator[str]:
    before, after = old.get("properties", {}), new.get("properties", {})
    open_object = new.get("x-kubernetes-preserve-unknown-fields")
    for name, child in before.items():
        if name in after:
            yield from _changes(child, after[name], f"{path}.{name}")
        elif not open_object:
            yield f"{path}.{name} is gone"
    for name, child in after.items():
        if name not in before and "default" in child:
            yield f"{path}.{name} is new and has default {child['default']!r}: it would come into every stored object"
    for name in sorted(set(new.get("required", [])) - set(old.get("required", []))):
        if "default" not in after.get(name, {}):
            yield f"{path}.{name} became required"
    for part, mark in (("items", "[]"), ("additionalProperties", "[*]")):
        if part in old and part in new:
            yield from _changes(old[part], new[part], path + mark)
        elif part in old and not open_object:
            yield f"{path}{mark} is gone"
