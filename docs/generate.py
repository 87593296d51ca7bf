"""Writes what of the documentation follows from the code: ``python docs/generate.py [--check]``.

failure-reasons.md and modules.md whole, and in results.md what stands between its marks.
"""

from __future__ import annotations

import ast
import sys
import typing
from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from finetune_api.reasons import FAILURES, FailureClass, Retry
from finetune_api.results import StageResult
from finetune_api.status import FineTuneJobStatus

LONG = 160  # characters of a cell
DOCS = Path(__file__).parent
ROOT = DOCS.parent
PACKAGES = (
    "operator/finetune_api",
    "operator/finetune_operator",
    "operator/finetune_cli",
    "trainer_image/finetune_trainer",
)

_RETRIES = {
    Retry.NEVER: "ends the job: trying again can't help",
    Retry.COUNTS: "tried again, up to `scheduling.backoffLimit`",
    Retry.FREE: "tried again without counting, or waited for",
}
_REASONS = """\
# Failure reasons

Generated from `operator/finetune_api/reasons.py` by `make generate`; do not edit.

A reason stands in `status.conditions[Succeeded].reason` while it holds a job up, and in `status.failure.reason` once it
has ended one, each time beside a message that says what was wrong, where, and what to do next. An attempt's own is in
`status.attempts[].reason`. The code is the trainer's exit code; reasons without one are seen by the operator alone.
Tools should treat reasons as open strings: a later version may know more.
"""


def failure_reasons() -> str:
    """The table of reasons, by what becomes of the job."""
    parts = [_REASONS]
    for retry, words in _RETRIES.items():
        entries = [entry for entry in FAILURES.values() if entry.retry is retry]
        parts.append(
            f"\n## {retry}: {words}\n\n| reason | code | what has happened | what to do |\n|---|---|---|---|\n"
        )
        parts += [_reason_row(entry) for entry in sorted(entries, key=lambda entry: entry.reason)]
    return "".join(parts)


def _reason_row(entry: FailureClass) -> str:
    limit = f" (ends the job after {entry.limit} times in a stage)" if entry.limit else ""
    code = "" if entry.exit_code is None else entry.exit_code
    return f"| `{entry.reason}` | {code} | {_cell(entry.meaning)}{limit} | {_cell(entry.advice)} |\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def model_tables(model: type[BaseModel], title: str) -> str:
    """A model's fields with their descriptions, and those of the models inside it, each as a table."""
    parts = []
    for path, one in _models(model, title):
        rows = "".join(f"| `{name}` | {_cell(text)} |\n" for name, text in _fields(one))
        parts.append(f"### `{path}`\n\n{_about(one)}\n\n| field | meaning |\n|---|---|\n{rows}")
    return "\n".join(parts)


def _fields(model: type[BaseModel]) -> Iterator[tuple[str, str]]:
    for name, field in model.model_fields.items():
        inner = _inner(field.annotation)
        yield field.alias or name, field.description or (_about(inner) if inner else "")


def _about(model: type[BaseModel]) -> str:
    return (model.__doc__ or "").splitlines()[0].replace("``", "`")


def _models(model: type[BaseModel], path: str) -> Iterator[tuple[str, type[BaseModel]]]:
    """Depth first, so that a part stands below its whole; each once."""
    seen = set()
    stack = [(path, model)]
    while stack:
        where, one = stack.pop()
        if one in seen:
            continue
        seen.add(one)
        yield where, one
        for name, field in reversed(one.model_fields.items()):
            if inner := _inner(field.annotation):
                mark = "[]" if _is_list(field.annotation) else ""
                stack.append((f"{where}.{field.alias or name}{mark}", inner))


def _inner(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in typing.get_args(annotation) if (found := _inner(part))), None)


def _is_list(annotation: object) -> bool:
    return typing.get_origin(annotation) is list or any(map(_is_list, typing.get_args(annotation)))


_MODULES = """\
# Modules

Generated from the modules' docstrings by `make generate`; do not edit. [architecture.md](architecture.md) tells how
they work together, [recipes.md](recipes.md) what to touch for a change.
"""


def modules() -> str:
    """Every module with the first line of its docstring, by package."""
    parts = [_MODULES]
    for package in PACKAGES:
        folders = sorted({file.parent for file in (ROOT / package).rglob("*.py")})
        for folder in folders:
            about = _first_line(folder / "__init__.py")
            parts.append(f"\n## `{folder.relative_to(ROOT)}`\n\n{about}\n\n| module | what it does |\n|---|---|\n")
            files = [file for file in sorted(folder.glob("*.py")) if file.name != "__init__.py"]
            parts += [f"| `{file.name}` | {_cell(_first_line(file))} |\n" for file in files]
    return "".join(parts)


def _first_line(file: Path) -> str:
    """The first paragraph of a module's docstring; of a long one, the first sentence."""
    text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) if file.exists() else None
    line = " ".join((text or "").split("\n\n")[0].split()).replace("``", "`")
    return line if len(line) <= LONG else line.partition(". ")[0].rstrip(".") + "."


def between_marks(text: str, name: str, content: str) -> str:
    """The text with what stands between a section's two marks replaced. Raises ValueError when they are missing."""
    begin, end = f"<!-- generated: {name} -->\n", f"<!-- end: {name} -->"
    head, found, rest = text.partition(begin)
    _, closed, tail = rest.partition(end)
    if not found or not closed:
        raise ValueError(f"no marks {begin.strip()} and {end}")
    return f"{head}{begin}\n{content}\n{end}{tail}"


def results(text: str) -> str:
    """docs/results.md with its tables renewed."""
    whole = model_tables(StageResult, "result.json")
    text = between_marks(text, "result", "| field" + whole.partition("| field")[2].partition("\n### ")[0])
    return between_marks(text, "status", model_tables(FineTuneJobStatus, "status"))


def documents() -> dict[Path, str]:
    """Every document that follows from the code, as it should be."""
    text = (DOCS / "results.md").read_text(encoding="utf-8")
    return {
        DOCS / "failure-reasons.md": failure_reasons(),
        DOCS / "modules.md": modules(),
        DOCS / "results.md": results(text),
    }


def main(arguments: list[str]) -> int:
    """Writes the documents; with ``--check`` only says which of them are stale."""
    stale = [
        path for path, text in documents().items() if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    if "--check" in arguments:
        for path in stale:
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run make generate\n")
        return 1 if stale else 0
    for path, text in documents().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
