"""A case, and rows in each place where a spec names some."""

from __future__ import annotations

from typing import Any

# A field, a value, and whether it is accepted there.
Case = tuple[str, Any, bool]


def rows(**fields: Any) -> dict[str, Any]:
    """Rows of some source."""
    return {"source": "hf://owner/rows", **fields}


def everywhere(fields: dict[str, Any], good: bool) -> list[Case]:
    """Rows with these fields, in each place where a spec names rows."""
    return [
        ("dataset", rows(**fields), good),
        ("dataset", rows(mixture=[rows(name="a"), rows(name="b", **fields)]), good),
        ("dataset", rows(replay=rows(**fields)), good),
        ("dataset", rows(validation=rows(**fields)), good),
        ("evaluation", {"dataset": rows(**fields)}, good),
        ("evaluation", {"dataset": rows(), "retention": rows(**fields)}, good),
        ("evaluation", {"dataset": rows(), "slices": [{"name": "a", "dataset": rows(**fields)}]}, good),
    ]


def mixture(*members: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A dataset with others beside it, named where they have no name."""
    return rows(mixture=[rows(**{"name": f"m{number}", **one}) for number, one in enumerate(members)], **fields)
