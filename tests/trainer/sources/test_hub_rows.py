"""Rows from a hub that answers as the real one does, that refuses, and that breaks off."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_api.uris import BucketPath
from finetune_trainer.sources.claim import claim_rows
from finetune_trainer.sources.credentials import Credentials
from finetune_trainer.sources.s3 import bucket_rows
from hub_server import Hub, running_hub
from s3_server import S3Server

ROWS: list[dict[str, Any]] = [
    {"question": f"Question {number} é", "answer": f"Answer {number}"} for number in range(300)
]
# In a process of its own: huggingface_hub reads its variables when it is imported.
READ = """
import json, sys
from finetune_api.uris import parse_source
from finetune_trainer.sources.hub import HubRows, resolve_revision
from finetune_trainer.sources.hub_errors import is_passing
from finetune_trainer.stage.failure import StageError
for source, revision, split, config, token in json.loads(sys.argv[1]):
    name = source.removeprefix("hf://")
    try:
        commit = resolve_revision(parse_source(source), revision, "dataset", token)
        rows = [raw for _, raw in HubRows(source, split, "spec.dataset", name, commit, config, token).rows()]
        print("\\n" + json.dumps({"commit": commit, "rows": rows}))
    except StageError as error:
        print("\\n" + json.dumps({"reason": error.reason, "text": str(error)}))
    except Exception as error:
        print("\\n" + json.dumps({"passes": is_passing(error, False), "text": repr(error)}))
"""


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as hub:
        yield hub


def read(hub: Hub, folder: Path, *asked: tuple[str, str, str, str | None, str | None]) -> list[dict[str, Any]]:
    """What came of each (source, revision, split, configuration, token)."""
    variables = {
        "HF_ENDPOINT": hub.endpoint,
        "HF_HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "0",
        "HF_DATASETS_OFFLINE": "0",
        "HF_HUB_DISABLE_TELEMETRY": "1",
    }
    command = [sys.executable, "-c", READ, json.dumps(asked)]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert len(found) == len(asked), done.stdout
    return found


def lines(rows: list[dict[str, str]] = ROWS) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def as_csv() -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def as_parquet(rows: list[dict[str, str]] = ROWS) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


FILES: dict[str, dict[str, bytes]] = {
    "jsonl": {"train.jsonl": lines()},
    "json": {"train.json": json.dumps(ROWS).encode()},
    "csv": {"train.csv": as_csv()},
    "parquet": {"train.parquet": as_parquet()},
    "packed": {"train.jsonl.gz": gzip.compress(lines())},
    "shards": {
        "train-00000-of-00002.parquet": as_parquet(ROWS[:100]),
        "train-00001-of-00002.parquet": as_parquet(ROWS[100:]),
    },
}


def test_the_same_files_give_the_same_rows_from_hub_bucket_and_claim(
    hub: Hub, s3_server: S3Server, tmp_path: Path
) -> None:
    asked, others = [], []
    s3_server.make_bucket("same-rows")
    for name, files in FILES.items():
        hub.dataset(f"acme/{name}", files)
        s3_server.put("same-rows", {f"{name}/{file}": content for file, content in files.items()})
        folder = tmp_path / name
        folder.mkdir()
        for file, content in files.items():
            (folder / file).write_bytes(content)
        given = Credentials(s3_server.environment, "Secret store", {})
        stored = bucket_rows(BucketPath("same-rows", name), "train", "spec.dataset", given)
        on_claim = claim_rows(folder, f"pvc://work/{name}", "train", "spec.dataset")
        others.append([[raw for _, raw in source.rows()] for source in (stored, on_claim)])
        asked.append((f"hf://acme/{name}", "main", "train", None, None))
    for found, (stored_rows, claimed_rows) in zip(read(hub, tmp_path, *asked), others, strict=True):
        assert found.get("rows") == stored_rows == claimed_rows == ROWS, found


def test_rows_are_those_of_the_pinned_revision_and_configuration(hub: Hub, tmp_path: Path) -> None:
    configs = "".join(f"- config_name: {name}\n  data_files: {name}.jsonl\n" for name in ("short", "long"))
    card = f"---\nconfigs:\n{configs}---\n".encode()
    repository = hub.dataset("acme/rows", {"README.md": card, "short.jsonl": lines(ROWS[:3]), "long.jsonl": lines()})
    repository.tags["v1"] = first = repository.commit_of("main") or ""
    repository.add({"README.md": card, "short.jsonl": lines(ROWS[5:6]), "long.jsonl": lines()})
    at_tag, at_main, no_config, other_config, no_split = read(
        hub,
        tmp_path,
        ("hf://acme/rows", "v1", "train", "short", None),
        ("hf://acme/rows", "main", "train", "short", None),
        ("hf://acme/rows", "main", "train", None, None),
        ("hf://acme/rows", "main", "train", "middle", None),
        ("hf://acme/rows", "main", "dev", "short", None),
    )
    assert at_tag == {"commit": first, "rows": ROWS[:3]}
    assert at_main["rows"] == ROWS[5:6]
    for refused in (no_config, other_config, no_split):
        assert refused["reason"] == "DatasetNotFound", refused
    assert "short, long" in no_config["text"]
    assert "'middle'" in other_config["text"]


def test_a_private_dataset_wants_its_token_and_a_missing_one_is_told_apart_by_it(hub: Hub, tmp_path: Path) -> None:
    hub.dataset("acme/private", FILES["jsonl"], token="hf_right")
    hub.dataset("acme/gated", FILES["jsonl"], gated=True)
    right, wrong, none, missing, gated = read(
        hub,
        tmp_path,
        ("hf://acme/private", "main", "train", None, "hf_right"),
        ("hf://acme/private", "main", "train", None, "hf_wrong"),
        ("hf://acme/private", "main", "train", None, None),
        ("hf://acme/nothing", "main", "train", None, None),
        ("hf://acme/gated", "main", "train", None, "hf_right"),
    )
    assert right["rows"] == ROWS
    assert (wrong["reason"], "HTTP 404" in wrong["text"]) == ("DatasetNotFound", True)
    assert (none["reason"], "HTTP 401" in none["text"]) == ("CredentialsRejected", True)
    assert (missing["reason"], "it isn't there" in missing["text"]) == ("CredentialsRejected", True)
    assert (gated["reason"], "HTTP 403" in gated["text"]) == ("CredentialsRejected", True)
    assert "hf_right" not in json.dumps([wrong, none, missing, gated])


def test_a_download_that_breaks_off_is_tried_again_until_it_is_whole(hub: Hub, tmp_path: Path) -> None:
    hub.dataset("acme/cut", FILES["jsonl"], cuts={"train.jsonl": (4000, 2)})
    (found,) = read(hub, tmp_path, ("hf://acme/cut", "main", "train", None, None))
    assert found.get("rows") == ROWS, found
    assert hub.requests["train.jsonl"] == 3


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_a_hub_that_always_breaks_off_is_left_to_the_next_attempt(hub: Hub, tmp_path: Path, kind: str) -> None:
    (name,) = FILES[kind]
    hub.dataset("acme/cut", FILES[kind], cuts={name: (10, 1000)})
    (found,) = read(hub, tmp_path, ("hf://acme/cut", "main", "train", None, None))
    assert found.get("passes") is True, found


@pytest.mark.parametrize(("once", "always"), [(429, 503), (500, 429)])
def test_a_hub_that_is_busy_is_asked_again_and_one_that_stays_busy_is_left_to_the_next_attempt(
    hub: Hub, tmp_path: Path, once: int, always: int
) -> None:
    hub.dataset("acme/once", FILES["jsonl"], refusals={"train.jsonl": (once, 1)})
    hub.dataset("acme/always", FILES["jsonl"], refusals={"train.jsonl": (always, 1000)})
    for_a_moment, for_long = read(
        hub,
        tmp_path,
        ("hf://acme/once", "main", "train", None, None),
        ("hf://acme/always", "main", "train", None, None),
    )
    assert for_a_moment.get("rows") == ROWS, for_a_moment
    assert for_long.get("passes") is True, for_long
