"""Whom the gateway believes and what it takes: tokens, bodies and paths."""

from __future__ import annotations

import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import jwt
import pytest

from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.process import wait_until
from finetune_api.progress import MAX_BODY_BYTES
from gateway_process import Gateway
from gateway_runs import SECONDS, Pod, Run, body, created, labels, pod_spec


def forged_pod(run: Run, owner: dict[str, Any] | None = None) -> Pod:
    """A pod that a user of the namespace makes by hand, labelled like the trainer's."""
    metadata = {"name": "forged", "labels": labels(run), "ownerReferences": [owner] if owner else []}
    document = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": pod_spec()}
    meta = created(run.apiserver, run.namespace, document)["metadata"]
    return Pod(meta["name"], meta["uid"], meta["creationTimestamp"], "")


def foreign_namespace(run: Run) -> str:
    """A token for this job, made by a pod of another namespace: anyone may choose an audience."""
    namespace = f"{run.namespace}-foreign"
    run.apiserver.kubectl("create", "namespace", namespace)
    accounts = ("-n", namespace, "get", "serviceaccount", "default")
    wait_until(lambda: run.apiserver.kubectl.run(*accounts).returncode == 0, SECONDS, "the default service account")
    foreign = Run.create(run.apiserver, namespace)
    return foreign.token(foreign.start(), audience=run.audience)


FORBIDDEN: dict[str, tuple[Callable[[Run], str], str]] = {
    "the API server's audience": (
        lambda run: run.token(run.start(), "https://kubernetes.default.svc"),
        "audience is not",
    ),
    "another job's audience": (lambda run: run.token(run.start(), "finetune.dev/a/b/c"), "audience is not"),
    "no pod": (lambda run: run.token(None), "not bound to a pod"),
    "another namespace": (foreign_namespace, "the token is of namespace"),
    "a pod without a Job": (lambda run: run.token(forged_pod(run)), "not controlled by a Job"),
    "another job's Job": (
        lambda run: run.token(run.start(owner=Run.create(run.apiserver, run.namespace, "other"))),
        "is not controlled by FineTuneJob",
    ),
}


@pytest.mark.parametrize("make", FORBIDDEN.values(), ids=FORBIDDEN.keys())
def test_a_genuine_token_of_the_wrong_pod_is_forbidden(
    gateway: Gateway, run: Run, make: tuple[Callable[[Run], str], str]
) -> None:
    answer = gateway.push(run, make[0](run), body(1))
    assert answer.code == 403
    assert make[1] in answer.message


@dataclass(frozen=True)
class Mint:
    """Makes tokens by hand, with the claims of a genuine one."""

    run: Run
    genuine: str

    def make(self, key: Any = None, algorithm: str = "RS256", **changes: Any) -> str:
        claims = jwt.decode(self.genuine, options={"verify_signature": False}) | changes
        header = {"kid": jwt.get_unverified_header(self.genuine)["kid"]}
        key = key if key is not None else self.run.apiserver.pki.service_account_key.read_text()
        return jwt.encode(claims, key, algorithm, header)


def past(**span: int) -> int:
    return int((datetime.now(UTC) - timedelta(**span)).timestamp())


INVALID: dict[str, tuple[Callable[[Mint], str | None], str]] = {
    "none": (lambda _: None, "no bearer token"),
    "garbage": (lambda _: "garbage", "the token is not valid"),
    "an expired token": (lambda mint: mint.make(exp=past(minutes=1)), "the token has expired"),
    "a token of the future": (lambda mint: mint.make(nbf=past(hours=-1)), "the token is not valid"),
    "another issuer": (lambda mint: mint.make(iss="https://elsewhere.svc"), "the token is not valid: Invalid issuer"),
    "no expiry": (lambda mint: mint.make(exp=None), "the token is not valid"),
    "no signature": (lambda mint: mint.make(key="", algorithm="none"), "the token is not valid"),
    "a shared secret": (lambda mint: mint.make(key="s" * 32, algorithm="HS256"), "the token is not valid"),
    "another key": (lambda mint: mint.make(key=another_key()), "the token is not valid: Signature verification failed"),
    "an unknown key": (lambda _: jwt.encode({}, another_key(), "RS256", {"kid": "unknown"}), "does not publish"),
}


def another_key() -> Any:
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def mint(apiserver: ControlPlane) -> Mint:
    """A genuine token to begin with: shared, as making one takes a Job and a pod."""
    apiserver.kubectl("create", "namespace", "mint")
    accounts = ("-n", "mint", "get", "serviceaccount", "default")
    wait_until(lambda: apiserver.kubectl.run(*accounts).returncode == 0, SECONDS, "the default service account")
    run = Run.create(apiserver, "mint")
    pod = run.running()
    return Mint(run, run.token(pod))


@pytest.mark.parametrize("make", INVALID.values(), ids=INVALID.keys())
def test_an_invalid_token_is_unauthenticated(
    gateway: Gateway, mint: Mint, make: tuple[Callable[[Mint], str | None], str]
) -> None:
    answer = gateway.push(mint.run, make[0](mint), body(1))
    assert answer.code == 401
    assert make[1] in answer.message


def test_a_token_made_by_hand_with_the_clusters_key_is_taken(gateway: Gateway, mint: Mint) -> None:
    assert gateway.push(mint.run, mint.make(), body(1)).code == 200


def padded(size: int) -> bytes:
    """A good push of that many bytes."""
    content = body(30)
    return content + b" " * (size - len(content))


BAD_BODIES = [
    (b"not json", 400, "Invalid JSON: "),
    (b"[]", 400, "Input should be an object"),
    (b"{}", 400, "trainerStatus: Field required"),
    (b'{"trainerStatus": {"progressPercentage": 101}}', 400, "trainerStatus.progressPercentage: Input should be less"),
    (body(30, loss="9" * 65), 400, "trainerStatus.metrics.2.value: String should have at most 64 characters"),
    (b'{"trainerStatus": {"estimatedRemainingSeconds": 1e17}}', 400, "estimatedRemainingSeconds: Input should be less"),
    (padded(MAX_BODY_BYTES + 1), 413, ""),
]


@pytest.mark.parametrize(("content", "code", "message"), BAD_BODIES)
def test_a_bad_body_is_refused_in_one_line(
    gateway: Gateway, mint: Mint, content: bytes, code: int, message: str
) -> None:
    answer = gateway.refuses(mint.run, mint.genuine, content, code)
    assert message in answer.message
    assert "\n" not in answer.message


def test_a_body_of_just_64_kib_is_taken(gateway: Gateway, mint: Mint) -> None:
    gateway.refuses(mint.run, mint.genuine, padded(MAX_BODY_BYTES), 200)


@pytest.mark.parametrize(("path", "method", "code"), [("/", "POST", 404), ("/healthz", "GET", 404), (None, "GET", 405)])
def test_only_the_push_is_served(gateway: Gateway, mint: Mint, path: str | None, method: str, code: int) -> None:
    url = f"https://localhost:{gateway.port}{path}" if path else gateway.url(mint.run)
    assert gateway.send(urllib.request.Request(url, method=method)).code == code
