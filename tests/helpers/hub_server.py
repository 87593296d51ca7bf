"""A small Hugging Face hub on this machine: repositories with commits, tokens, and the faults that real hubs have."""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Repository:
    """Files by commit. The branch ``main`` is the last commit; tags name others."""

    token: str | None = None  # without it a private repository isn't there
    gated: bool = False  # 403 for a token that is known but has no access
    commits: dict[str, Mapping[str, bytes]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    # A download of a file ends after so many bytes, as often as that; later ones are whole.
    cuts: dict[str, tuple[int, int]] = field(default_factory=dict)
    # This status instead of a file, as often as that.
    refusals: dict[str, tuple[int, int]] = field(default_factory=dict)

    def add(self, files: Mapping[str, bytes]) -> str:
        """A further commit, which the branch then stands for; returns its id."""
        commit = hashlib.sha1(f"{len(self.commits)}{sorted(files)}".encode()).hexdigest()
        self.commits[commit] = dict(files)
        return commit

    def commit_of(self, revision: str) -> str | None:
        """The commit behind a branch, a tag or a commit's own id."""
        if revision == "main" and self.commits:
            return list(self.commits)[-1]
        return self.tags.get(revision, revision if revision in self.commits else None)


class Hub:
    """The repositories of a running hub by kind and name (``datasets/acme/rows``, ``models/acme/tiny``)."""

    def __init__(self) -> None:
        self.endpoint = ""
        self.repositories: dict[str, Repository] = {}
        self.requests: Counter[str] = Counter()  # downloads by file, those cut off too

    def dataset(self, name: str, files: Mapping[str, bytes], **options: Any) -> Repository:
        """A new dataset with one commit."""
        return self._new(f"datasets/{name}", files, options)

    def model(self, name: str, files: Mapping[str, bytes], **options: Any) -> Repository:
        """A new model with one commit."""
        return self._new(f"models/{name}", files, options)

    def _new(self, key: str, files: Mapping[str, bytes], options: dict[str, Any]) -> Repository:
        self.repositories[key] = Repository(**options)
        self.repositories[key].add(files)
        return self.repositories[key]


@contextmanager
def running_hub() -> Iterator[Hub]:
    """A hub that answers on a free port."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield hub
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer(self._read_body())

    def do_GET(self) -> None:
        self._answer(self._read_body())

    def do_POST(self) -> None:
        self._answer(self._read_body())

    def _read_body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, body: bytes) -> None:
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        is_api = parts[0] == "api"
        parts = parts[1:] if is_api else parts
        if not is_api and parts[0] != "datasets":
            parts = ["models", *parts]
        key, rest = "/".join(parts[:3]), parts[3:]
        repository = self.hub.repositories.get(key)
        given = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if not repository or (repository.token and given != repository.token):
            # The hub doesn't tell what isn't there from what isn't for everybody.
            return self._refuse(401 if not repository or not given else 404, "RepoNotFound")
        if repository.gated and not is_api:
            return self._refuse(403, "GatedRepo")
        what, revision = (rest[0], rest[1]) if len(rest) > 1 else ("revision", "main")
        commit = repository.commit_of(revision)
        if not commit:
            return self._refuse(404, "RevisionNotFound")
        files, below = repository.commits[commit], "/".join(rest[2:])
        if what == "revision":
            named = [{"rfilename": name} for name in sorted(files)]
            return self._json({"id": "/".join(parts[1:3]), "sha": commit, "siblings": named, "tags": []})
        if what == "tree":
            deep = parse_qs(urlsplit(self.path).query).get("recursive") == ["True"]
            return self._json(_tree(files, below, deep))
        if what == "paths-info":
            fields = json.loads(body) if body[:1] == b"{" else parse_qs(body.decode())
            return self._json([entry for entry in _tree(files, "", True) if entry["path"] in fields["paths"]])
        if what != "resolve":
            return self._refuse(404, "EntryNotFound")
        if below not in files:
            return self._refuse(404, "EntryNotFound")
        return self._file(repository, commit, below, files[below])

    def _file(self, repository: Repository, commit: str, name: str, content: bytes) -> None:
        if self.command == "GET":
            self.hub.requests[name] += 1
        status, left = repository.refusals.get(name, (0, 0))
        if left:
            repository.refusals[name] = (status, left - 1)
            self._refuse(status, "")
            return
        start = 0
        if (asked := self.headers.get("Range", "")).startswith("bytes="):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
        part = content[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", commit)
        self.end_headers()
        if self.command == "HEAD":
            return
        length, cuts = repository.cuts.get(name, (0, 0))
        if cuts and len(part) > length:
            repository.cuts[name] = (length, cuts - 1)
            self.wfile.write(part[:length])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(part)

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


def _tree(files: Mapping[str, bytes], below: str, deep: bool) -> list[dict[str, Any]]:
    """What a folder of a repository holds."""
    found: dict[str, dict[str, Any]] = {}
    prefix = f"{below}/" if below else ""
    for name, content in sorted(files.items()):
        if not name.startswith(prefix):
            continue
        inner = name.removeprefix(prefix)
        folders = inner.split("/")[:-1]
        for depth in range(1, len(folders) + 1):
            path = prefix + "/".join(folders[:depth])
            if deep or depth == 1:
                found[path] = {"type": "directory", "oid": "0" * 40, "size": 0, "path": path}
        if deep or not folders:
            oid = hashlib.sha1(content).hexdigest()
            found[name] = {"type": "file", "oid": oid, "size": len(content), "path": name}
    return list(found.values())
