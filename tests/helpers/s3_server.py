"""A real S3 server on a folder: versitygw in a process of its own, on a free port, with credentials of its own."""

from __future__ import annotations

import hashlib
import hmac
import json
import socket
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from embedded_cluster.build import build_s3_server
from embedded_cluster.process import wait_until
from embedded_cluster.state import State

REGION = "us-east-1"
SECONDS = 30


@dataclass(frozen=True)
class Certificate:
    """What the server shows, and the authority that signed it, as files."""

    certificate: Path
    key: Path
    authority: Path


@dataclass(frozen=True)
class S3Server:
    """A running server. ``environment`` is what a client of its owner needs, by AWS's names."""

    endpoint: str
    key: str
    secret: str
    authority: Path | None = None

    @property
    def environment(self) -> dict[str, str]:
        known = {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret,
            "AWS_REGION": REGION,
            "AWS_ENDPOINT_URL": self.endpoint,
        }
        return {**known, "AWS_CA_BUNDLE": str(self.authority)} if self.authority else known

    def make_bucket(self, name: str) -> None:
        self._send("PUT", f"/{name}", b"")

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Writes objects by their keys."""
        for key, content in objects.items():
            self._send("PUT", f"/{bucket}/{key}", content)

    def delete(self, bucket: str, key: str) -> None:
        self._send("DELETE", f"/{bucket}/{key}", b"")

    def make_public(self, bucket: str) -> None:
        """Lets anybody read a bucket, without credentials."""
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        actions = ["s3:GetObject", "s3:ListBucket"]
        statement = {"Effect": "Allow", "Principal": "*", "Action": actions, "Resource": resources}
        policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self._send("PUT", f"/{bucket}", policy.encode(), "policy=")

    def make_user(self, key: str, secret: str) -> None:
        """Adds a user who may do nothing yet."""
        account = f"<Account><Access>{key}</Access><Secret>{secret}</Secret><Role>user</Role></Account>"
        self._send("PATCH", "/create-user", account.encode())

    def _send(self, method: str, path: str, content: bytes, query: str = "") -> None:
        url = f"{self.endpoint}{path}" + (f"?{query}" if query else "")
        host = self.endpoint.partition("://")[2]
        headers = signed_headers(self, method, host, path, query, content)
        request = urllib.request.Request(url, content, headers, method=method)
        context = ssl.create_default_context(cafile=str(self.authority)) if self.authority else None
        with urllib.request.urlopen(request, timeout=SECONDS, context=context):
            pass


def signed_headers(server: S3Server, method: str, host: str, path: str, query: str, content: bytes) -> dict[str, str]:
    """Headers with AWS's Signature Version 4, as its documentation describes it; ``path`` is plain ASCII."""
    time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    digest = hashlib.sha256(content).hexdigest()
    headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": time}
    names = ";".join(headers)
    canonical = "\n".join(
        [method, path, query, *(f"{name}:{value}" for name, value in headers.items()), "", names, digest]
    )
    scope = [time[:8], REGION, "s3", "aws4_request"]
    text = "\n".join(["AWS4-HMAC-SHA256", time, "/".join(scope), hashlib.sha256(canonical.encode()).hexdigest()])
    key = f"AWS4{server.secret}".encode()
    for part in scope:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    signature = hmac.new(key, text.encode(), hashlib.sha256).hexdigest()
    credential = f"Credential={server.key}/{'/'.join(scope)}, SignedHeaders={names}, Signature={signature}"
    return {**headers, "Authorization": f"AWS4-HMAC-SHA256 {credential}"}


@contextmanager
def running_s3_server(folder: Path, tls: Certificate | None = None) -> Iterator[S3Server]:
    """A server that keeps its objects below ``folder``, ready to be asked; it is ended with the block."""
    program = build_s3_server(State.default(), lambda line: None)
    port = _free_port()
    key, secret = "test-owner", "not-to-be-printed"
    data, metadata, users = (folder / name for name in ("data", "metadata", "users"))
    for path in (data, metadata, users):
        path.mkdir(parents=True)
    options = ["--access", key, "--secret", secret, "--region", REGION, "--port", f"127.0.0.1:{port}"]
    options += ["--iam-dir", str(users), "--quiet", "--keep-alive", "--health", "/health"]
    if tls:
        options += ["--cert", str(tls.certificate), "--key", str(tls.key)]
    server = S3Server(f"{'https' if tls else 'http'}://localhost:{port}", key, secret, tls.authority if tls else None)
    command = [str(program), *options, "posix", "--sidecar", str(metadata), str(data)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        wait_until(lambda: _answers(port), SECONDS, "the S3 server")
        assert process.poll() is None, (folder / "log").read_text()
        yield server
    finally:
        process.terminate()
        process.wait(SECONDS)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
