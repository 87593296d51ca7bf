"""The commit behind a hub revision: from the hub's API, or offline from the cache. And whose fault a failure is."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError, RevisionNotFoundError

from finetune_trainer.sources.hub_errors import model_fault

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# In a process of its own: huggingface_hub reads these variables when it is imported.
PROGRAM = """
import sys
from finetune_api.uris import parse_source
from finetune_trainer.stage.failure import StageError
from finetune_trainer.sources.hub import resolve_revision
try:
    print(resolve_revision(parse_source(sys.argv[1]), *sys.argv[2:]))
except StageError as error:
    print(f"{error.reason}: {error}")
"""
LOAD = """
import sys
from transformers import AutoConfig
from finetune_trainer.sources.hub_errors import config_fault
for name in sys.argv[1:]:
    try:
        AutoConfig.from_pretrained(name)
    except Exception as error:
        print(f"{type(error).__name__}: {config_fault(error, offline=False)}")
"""
GATED = """
from finetune_trainer.models.loading import load_config
from finetune_trainer.sources.model import ModelSource
from finetune_trainer.stage.failure import StageError
try:
    load_config(ModelSource("acme/gated", "main", False, token="hf_secret"))
except StageError as error:
    print(f"{error.reason}: {error}")
"""

ROWS = """
import sys
from finetune_trainer.sources.hub import HubRows
print(list(HubRows("hf://acme/rows", "train", "spec.dataset", "acme/rows", sys.argv[1]).rows()))
"""


def resolve(source: str, revision: str, kind: str, **variables: str) -> str:
    return run(PROGRAM, source, revision, kind, **variables)


def run(program: str, *arguments: str, **variables: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub that knows one model and one revision of it, a gated one, and one that it is too busy for."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            # 501, because the client tries again after 503.
            answers = {"gated": (403, "GatedRepo"), "busy": (501, "")}
            status, code = answers.get(self.path.split("/")[2], (404, "RepoNotFound"))
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.end_headers()

        def do_GET(self) -> None:
            known = self.path.split("?")[0] == "/api/models/acme/tiny/revision/v1"
            body = json.dumps({"id": "acme/tiny", "sha": COMMIT} if known else {"error": "not found"}).encode()
            self.send_response(200 if known else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_revision_is_resolved_to_its_commit(hub: str) -> None:
    assert resolve("hf://acme/tiny", "v1", "model", HF_ENDPOINT=hub, HF_HUB_OFFLINE="0") == COMMIT


@pytest.mark.parametrize(("kind", "reason"), [("model", "ModelNotFound"), ("dataset", "DatasetNotFound")])
def test_what_the_hub_does_not_have_is_told_with_its_revision(hub: str, kind: str, reason: str) -> None:
    text = resolve("hf://acme/other", "v2", kind, HF_ENDPOINT=hub, HF_HUB_OFFLINE="0")
    assert text.startswith(
        f"{reason}: the hub does not give hf://acme/other at revision 'v2' without a token (HTTP 404): it isn't there"
    )


def test_offline_the_cache_knows_the_commit(tmp_path: Path) -> None:
    repository = tmp_path / "hub" / "models--acme--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "snapshots" / COMMIT / "config.json").write_text("{}")
    variables = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    assert resolve("hf://acme/tiny", "main", "model", **variables) == COMMIT
    assert "ModelNotFound: hf://acme/tiny at 'v2' is not in the cache" in resolve(
        "hf://acme/tiny", "v2", "model", **variables
    )


def test_offline_the_rows_come_from_the_cache(tmp_path: Path) -> None:
    snapshot = tmp_path / "hub" / "datasets--acme--rows" / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (snapshot / "README.md").write_text("# Rows\n")
    (snapshot / "train.csv").write_text("question\nNone\n")
    rows = run(ROWS, COMMIT, HF_HOME=str(tmp_path), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1")
    assert rows == "[('hf://acme/rows train.csv row 1', {'question': 'None'})]"


def test_a_gated_model_is_a_matter_of_credentials(hub: str, tmp_path: Path) -> None:
    text = run(GATED, HF_ENDPOINT=hub, HF_HUB_OFFLINE="0", HF_HOME=str(tmp_path))
    assert text == (
        "CredentialsRejected: the hub does not give acme/gated with the token that was sent (HTTP 403): it is private "
        "or gated"
    )


def test_a_gated_or_missing_model_is_at_fault_and_a_busy_hub_is_not(hub: str, tmp_path: Path) -> None:
    variables = {"HF_ENDPOINT": hub, "HF_HUB_OFFLINE": "0", "HF_HOME": str(tmp_path)}
    gated, missing, busy = run(LOAD, "acme/gated", "acme/other", "acme/busy", **variables).splitlines()
    assert gated == "OSError: You are trying to access a gated repo. (HTTP 403)"
    assert missing.startswith("OSError: acme/other is not a local folder and is not a valid model identifier")
    assert busy == "OSError:"


def response(status: int) -> httpx.Response:
    return httpx.Response(status, request=httpx.Request("GET", "http://hub/acme/tiny"))


def wrapped(outer: Exception, cause: Exception) -> Exception:
    outer.__cause__ = cause
    return outer


UNSLOTH = "Unsloth: Failed to load model. Both AutoConfig and PeftConfig loading failed.\n\nAutoConfig error: odd"
BUSY = "There was a specific connection error when trying to load acme/tiny:"


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (OSError("acme/tiny has no weights\nSee"), "acme/tiny has no weights"),
        (ValueError("Unrecognized configuration class"), "Unrecognized configuration class"),
        (
            wrapped(RuntimeError(UNSLOTH), OSError("You are trying to access a gated repo.\nMake sure")),
            "You are trying",
        ),
        (wrapped(RuntimeError(UNSLOTH), KeyError("model_type")), "'model_type'"),
        (RuntimeError(UNSLOTH), "Unsloth: Failed to load model."),
        (
            wrapped(OSError("no such tag"), RevisionNotFoundError("404", response=response(404))),
            "no such tag (HTTP 404)",
        ),
        (wrapped(OSError(BUSY), HfHubHTTPError("403", response=response(403))), f"{BUSY} (HTTP 403)"),
    ],
)
def test_a_model_that_no_further_attempt_can_load_is_told_in_the_causes_first_line(
    error: Exception, fault: str
) -> None:
    assert model_fault(error, offline=False).startswith(fault)


@pytest.mark.parametrize(
    "error",
    [
        wrapped(OSError(BUSY), HfHubHTTPError("429", response=response(429))),
        wrapped(OSError(BUSY), HfHubHTTPError("503", response=response(503))),
        wrapped(OSError("We couldn't connect"), LocalEntryNotFoundError("no connection")),
        wrapped(RuntimeError(UNSLOTH), wrapped(OSError("no"), httpx.ConnectError("no route"))),
        wrapped(ValueError("odd"), httpx.RemoteProtocolError("peer closed connection")),
        ValueError("Unsloth: big does not fit in GPU memory (cuda:0 has 1.00 GB free), so …"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        OSError(errno.EIO, "Input/output error"),
        wrapped(OSError("can't save"), OSError(errno.ENOSPC, "No space left on device")),
    ],
)
def test_network_hub_and_machine_are_not_the_models_fault(error: Exception) -> None:
    assert model_fault(error, offline=False) == ""


def test_what_an_offline_cache_lacks_stays_away() -> None:
    error = wrapped(OSError("We couldn't connect"), LocalEntryNotFoundError("not cached"))
    assert model_fault(error, offline=True) == "We couldn't connect"
