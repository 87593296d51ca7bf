"""The commit behind a hub revision: from the hub's API, or offline from the cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "0123456789abcdef0123456789abcdef01234567"
# In a process of its own: huggingface_hub reads these variables when it is imported.
PROGRAM = """
import sys
from finetune_trainer.failure import StageError
from finetune_trainer.hub import resolve_revision
try:
    print(resolve_revision(*sys.argv[1:]))
except StageError as error:
    print(f"{error.reason}: {error}")
"""


def resolve(source: str, revision: str, kind: str, **variables: str) -> str:
    command = [sys.executable, "-c", PROGRAM, source, revision, kind]
    done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def hub() -> Iterator[str]:
    """A hub that knows one model and one revision of it."""

    class Handler(BaseHTTPRequestHandler):
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
    assert text.startswith(f"{reason}: the hub does not give hf://acme/other at revision 'v2' (HTTP 404)")


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
