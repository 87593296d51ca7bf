"""Rows of JSON files: a row per line, or a list of rows."""

from __future__ import annotations

import io
import json
from collections import Counter
from typing import Any, BinaryIO

from finetune_api.base import cut
from finetune_api.reasons import Reason
from finetune_trainer.sources.raw_rows import LONGEST_ROW, SAVE_AS_UTF8, TOO_LONG, RawRows, UnreadableRow
from finetune_trainer.stage.failure import StageError

# A list of rows is read whole; rows by lines are not.
LARGEST_JSON = 512 * 1024**2
_BOM = b"\xef\xbb\xbf"


def parse_json(text: str) -> Any:
    """The value of a JSON text. Raises ValueError or RecursionError for none, and for a name that stands twice."""
    return json.loads(text, object_pairs_hook=_each_once)


def read_jsonl(stream: BinaryIO, name: str, lines_before: int = 0) -> RawRows:
    """A row per line. Empty lines are none, and a line that is no JSON is an :class:`UnreadableRow`."""
    number = lines_before
    while line := stream.readline(LONGEST_ROW + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        if len(line) > LONGEST_ROW:
            while line and not line.endswith(b"\n"):
                line = stream.readline(LONGEST_ROW)
            yield number, UnreadableRow(TOO_LONG)
        elif line.strip():
            yield number, _row(line)


def read_json(stream: BinaryIO, name: str) -> RawRows:
    """A list of rows, or a row per line, as many .json files on the hub have it.

    Raises StageError (DatasetInvalid) for neither, and for a list that is too large to be read at once.
    """
    lines, first = 0, b""
    while not first.strip() and (first := stream.readline(LARGEST_JSON + 1)):
        lines += 1
        first = first.removeprefix(_BOM) if lines == 1 else first
    row = _row(first)
    if isinstance(row, dict):
        yield lines, row
        yield from read_jsonl(stream, name, lines)
        return
    content = first + stream.read(max(LARGEST_JSON + 1 - len(first), 0))
    if len(content) > LARGEST_JSON:
        problem = f"{name} holds more than {LARGEST_JSON // 1024**2} MiB of JSON, which would be read at once"
        raise StageError(Reason.DATASET_INVALID, problem, "save it as .jsonl, a row per line")
    yield from _whole(content, name)


def _whole(content: bytes, name: str) -> RawRows:
    if not content.strip():
        return
    try:
        rows = parse_json(content.decode())
    except UnicodeDecodeError as error:
        raise StageError(Reason.DATASET_INVALID, f"can't read {name}: {error}", SAVE_AS_UTF8) from error
    except (ValueError, RecursionError) as error:
        if not (isinstance(error, json.JSONDecodeError) and error.msg.startswith("Extra data")):
            raise StageError(Reason.DATASET_INVALID, f"{name} is no JSON: {error}") from error
        yield from read_jsonl(io.BytesIO(content), name)
        return
    if isinstance(rows, dict):  # the only row, over several lines
        rows = [rows]
    if not isinstance(rows, list):
        raise StageError(Reason.DATASET_INVALID, f"{name} must hold a list of rows, or a row per line")
    yield from enumerate(rows, start=1)


def _row(line: bytes) -> object:
    try:
        return parse_json(line.decode().rstrip())  # an error then stands in line 1, where people look for it
    except UnicodeDecodeError as error:
        return UnreadableRow(f"is no UTF-8 ({error}): {SAVE_AS_UTF8}")
    except (ValueError, RecursionError) as error:
        return UnreadableRow(f"is no JSON: {error}")


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose names differ: of two options of one letter the parser would keep the last, without a word."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = Counter(name for name, _ in pairs)
        raise ValueError(f"{cut(repr(names.most_common(1)[0][0]), 60)} stands twice in one object")
    return found
