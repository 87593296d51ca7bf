"""The gateway as its own process, with the rights of its manifests, against a real API server: pushes over TLS."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
import pytest
import yaml

from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.ports import ControlPlanePorts
from embedded_cluster.process import wait_until
from finetune_api import names
from finetune_api.progress import MAX_BODY_BYTES

MANIFESTS = Path(__file__).parents[2] / "manifests/base"
SYSTEM = "finetune-system"
SECONDS = 30
SPEC = {
    "model": {"source": "hf://owner/model"},
    "dataset": {"source": "pvc://data/rows.jsonl"},
    "output": {"destination": "pvc://models/medqa"},
}


def condition(kind: str, status: str) -> dict[str, Any]:
    return {"type": kind, "status": status, "reason": "Test", "lastTransitionTime": "2026-01-01T08:00:00Z"}


@dataclass(frozen=True)
class Pod:
    """A stage's pod as the Job controller made it."""

    name: str
    uid: str
    created: str
    job_uid: str


@dataclass
class Run:
    """A FineTuneJob with its children, and what operator and trainer would do with it."""

    apiserver: ControlPlane
    namespace: str
    uid: str
    name: str = "medqa"
    attempts: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def create(cls, apiserver: ControlPlane, namespace: str, name: str = "medqa") -> Run:
        document = {"apiVersion": names.API_VERSION, "kind": names.KIND, "metadata": {"name": name}, "spec": SPEC}
        return cls(apiserver, namespace, created(apiserver, namespace, document)["metadata"]["uid"], name)

    @property
    def audience(self) -> str:
        return names.token_audience(self.namespace, self.name, self.uid)

    def start(self, stage: str = "train", owner: Run | None = None) -> Pod:
        """Creates a stage's Job and waits for its pod."""
        created(self.apiserver, self.namespace, stage_job(self, stage, owner or self))
        return self.pods(stage, 1)[0]

    def retry(self, stage: str, old: Pod) -> Pod:
        """Has the Job controller make a second pod, in a later second."""
        wait_until(lambda: f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}" > old.created, 5, "the next second")
        patch = json.dumps({"spec": {"parallelism": 2}})
        self._kubectl("patch", "job", f"{self.name}-{stage}", "-p", patch)
        return next(pod for pod in self.pods(stage, 2) if pod.name != old.name)

    def pods(self, stage: str, count: int) -> list[Pod]:
        """The pods of a stage, once there are so many."""
        found: list[dict[str, Any]] = []

        def made() -> bool:
            selector = f"{names.JOB_UID_LABEL}={self.uid},{names.STAGE_LABEL}={stage}"
            found[:] = json.loads(self._kubectl("get", "pods", "-l", selector, "-o", "json"))["items"]
            return len(found) >= count

        wait_until(made, SECONDS, f"creation of {count} pods of {self.name}-{stage}")
        return [
            Pod(meta["name"], meta["uid"], meta["creationTimestamp"], meta["ownerReferences"][0]["uid"])
            for meta in (pod["metadata"] for pod in found)
        ]

    def record(self, pod: Pod, stage: str = "Train") -> None:
        """The operator's first status, or a new attempt in it."""
        number = sum(attempt["stage"] == stage for attempt in self.attempts) + 1
        self.attempts.append({"stage": stage, "number": number, "jobUID": pod.job_uid, "pod": pod.name})
        shown = {"Train": "Training", "Evaluate": "Evaluating"}[stage]
        self.write({"stage": shown, "conditions": [condition("Succeeded", "Unknown")], "attempts": self.attempts})

    def write(self, status: dict[str, Any]) -> None:
        self._kubectl(
            "patch", "ftj", self.name, "--subresource=status", "--type=merge", "-p", json.dumps({"status": status})
        )

    @property
    def status(self) -> dict[str, Any]:
        return dict(json.loads(self._kubectl("get", "ftj", self.name, "-o", "json")).get("status", {}))

    def shows(self, step: int, pod: Pod) -> None:
        """Waits until status shows a step of a pod."""

        def there() -> bool:
            progress = self.status.get("progress", {})
            return (progress.get("step"), progress.get("pod")) == (step, pod.name)

        wait_until(there, SECONDS, f"step {step} of {pod.name} in status")

    def token(self, pod: Pod | None, audience: str | None = None) -> str:
        """A token as the kubelet projects it into a pod; of no pod with None."""
        options = [f"--audience={audience or self.audience}"]
        if pod:
            options += ["--bound-object-kind=Pod", f"--bound-object-name={pod.name}", f"--bound-object-uid={pod.uid}"]
        return self._kubectl("create", "token", "default", *options).strip()

    def _kubectl(self, *arguments: str) -> str:
        return self.apiserver.kubectl("-n", self.namespace, *arguments)


def created(apiserver: ControlPlane, namespace: str, document: dict[str, Any]) -> dict[str, Any]:
    """Creates an object and returns it as the API server made it."""
    answer = apiserver.kubectl("-n", namespace, "create", "-f", "-", "-o", "json", stdin=json.dumps(document))
    return dict(json.loads(answer))


def pod_spec() -> dict[str, Any]:
    return {"restartPolicy": "Never", "containers": [{"name": "trainer", "image": "trainer"}]}


def labels(run: Run, stage: str = "train") -> dict[str, str]:
    return {names.JOB_LABEL: run.name, names.JOB_UID_LABEL: run.uid, names.STAGE_LABEL: stage}


def stage_job(run: Run, stage: str, owner: Run) -> dict[str, Any]:
    kind = {"apiVersion": names.API_VERSION, "kind": names.KIND}
    reference = kind | {"name": owner.name, "uid": owner.uid, "controller": True}
    template = {"metadata": {"labels": labels(run, stage)}, "spec": pod_spec()}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": f"{run.name}-{stage}", "ownerReferences": [reference]},
        "spec": {"parallelism": 1, "template": template},  # without completions: a second pod can be asked for
    }


def body(step: int, total: int = 60, **metrics: object) -> bytes:
    values = {"current_step": step, "total_steps": total, **metrics}
    listed = [{"name": name, "value": str(value)} for name, value in values.items()]
    return json.dumps({"trainerStatus": {"progressPercentage": step * 100 // total, "metrics": listed}}).encode()


@dataclass(frozen=True)
class Answer:
    """The gateway's answer to a push."""

    code: int
    message: str
    retry_after: str | None = None


@dataclass(frozen=True)
class Gateway:
    """A running gateway process."""

    process: subprocess.Popen[str]
    port: int
    authority: Path
    log: Path

    def url(self, run: Run) -> str:
        return f"https://localhost:{self.port}{names.progress_path(run.namespace, run.name)}"

    def push(self, run: Run, token: str | None, content: bytes) -> Answer:
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        return self.send(urllib.request.Request(self.url(run), content, headers, method="POST"))

    def send(self, request: urllib.request.Request) -> Answer:
        context = ssl.create_default_context(cafile=str(self.authority))
        try:
            with urllib.request.urlopen(request, timeout=SECONDS, context=context) as answer:
                return Answer(answer.status, json.load(answer)["message"])
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, json.load(error)["message"], error.headers["Retry-After"])

    def refuses(self, run: Run, token: str, content: bytes, code: int) -> Answer:
        """Waits until a push is answered with a code; what comes too often is not counted."""
        answers: list[Answer] = []

        def refused() -> bool:
            answers.append(self.push(run, token, content))
            return answers[-1].code == code

        wait_until(refused, SECONDS, f"answer {code} to a push")
        return answers[-1]


@pytest.fixture(scope="session")
def gateway_kubeconfig(apiserver: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The gateway's own service account, with the roles and the empty objects of the manifests."""
    kubectl = apiserver.kubectl
    deployed = [*yaml.safe_load_all((MANIFESTS / "gateway.yaml").read_text())]
    kubectl("apply", "-f", str(MANIFESTS / "namespace.yaml"), "-f", str(MANIFESTS / "gateway-rbac.yaml"))
    kubectl.apply([each for each in deployed if each["kind"] in ("Secret", "ConfigMap")])
    token = kubectl("-n", SYSTEM, "create", "token", "finetune-gateway", "--duration=2h").strip()
    config = yaml.safe_load(apiserver.kubeconfig.read_text())
    for user in config["users"]:
        user["user"] = {"token": token}
    kubeconfig = tmp_path_factory.mktemp("gateway") / "kubeconfig"
    kubeconfig.write_text(yaml.safe_dump(config))
    return kubeconfig


@contextmanager
def running_gateway(kubeconfig: Path, folder: Path, **environment: str) -> Iterator[Gateway]:
    """A gateway on free ports, ready to take pushes; it is ended with the block."""
    free = ControlPlanePorts.free()
    settings = {
        "KUBECONFIG": str(kubeconfig),
        "OPERATOR_NAMESPACE": SYSTEM,
        "GATEWAY_ADDRESS": "127.0.0.1",
        "GATEWAY_PORT": str(free.etcd),
        "GATEWAY_HEALTH_PORT": str(free.scheduler),
        "GATEWAY_EXTRA_HOSTS": "localhost",
        "GATEWAY_FLUSH_SECONDS": "0.3",
    }
    log = folder / f"gateway-{free.etcd}.log"
    command = [sys.executable, "-m", "finetune_operator", "gateway"]
    with log.open("w") as output:
        process = subprocess.Popen(command, env=os.environ | settings | environment, stderr=output, text=True)
    try:
        wait_until(lambda: ready(free.scheduler) or process.poll() is not None, SECONDS, "readiness of the gateway")
        assert process.poll() is None, log.read_text()
        yield Gateway(process, free.etcd, folder / "ca.crt", log)
    finally:
        process.kill()
        process.wait()


def ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=SECONDS) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def save_authority(apiserver: ControlPlane, file: Path) -> None:
    """Saves what the operator would copy into a job's ConfigMap."""
    found = apiserver.kubectl("-n", SYSTEM, "get", "configmap", "finetune-gateway-ca", "-o", "json")
    file.write_text(json.loads(found)["data"]["ca.crt"])


@pytest.fixture(scope="session")
def gateway(apiserver: ControlPlane, gateway_kubeconfig: Path) -> Iterator[Gateway]:
    """One gateway for the tests of this file."""
    with running_gateway(gateway_kubeconfig, gateway_kubeconfig.parent) as running:
        save_authority(apiserver, running.authority)
        yield running


@pytest.fixture
def run(apiserver: ControlPlane, namespace: str) -> Run:
    """A FineTuneJob that nobody has looked at yet."""
    accounts = ("-n", namespace, "get", "serviceaccount", "default")
    wait_until(lambda: apiserver.kubectl.run(*accounts).returncode == 0, SECONDS, "the default service account")
    return Run.create(apiserver, namespace)


def test_a_push_is_shown_in_status(gateway: Gateway, run: Run) -> None:
    pod = run.start()
    run.record(pod)
    assert gateway.push(run, run.token(pod), body(12, loss=0.53)) == Answer(200, "taken")
    run.shows(12, pod)
    progress = run.status["progress"]
    assert (progress["stage"], progress["percent"], progress["loss"], progress["summary"]) == (
        "Train",
        20,
        "0.53",
        "12/60",
    )


def test_a_push_before_the_first_status_waits_for_it(gateway: Gateway, run: Run) -> None:
    pod = run.start()
    other = Run.create(run.apiserver, run.namespace, "other")
    recorded = other.start()
    other.record(recorded)
    assert gateway.push(run, run.token(pod), body(1)).code == 200
    assert gateway.push(other, other.token(recorded), body(2)).code == 200
    other.shows(2, recorded)
    assert run.status == {}
    run.record(pod)
    run.shows(1, pod)


def test_steps_of_a_pod_never_go_back(gateway: Gateway, run: Run) -> None:
    pod = run.start()
    run.record(pod)
    token = run.token(pod)
    assert gateway.push(run, token, body(20)).code == 200
    assert gateway.push(run, token, body(19)) == Answer(409, "a later step of this pod is already known")
    run.shows(20, pod)


def test_a_new_attempt_may_start_lower_and_the_old_pod_is_heard_no_more(gateway: Gateway, run: Run) -> None:
    old = run.start()
    run.record(old)
    gateway.push(run, run.token(old), body(20))
    run.shows(20, old)
    new = run.retry("train", old)
    run.record(new)
    assert gateway.push(run, run.token(new), body(5)).code == 200
    run.shows(5, new)
    assert gateway.push(run, run.token(old), body(21)) == Answer(409, "a newer pod reports for this job")


def test_the_evaluator_takes_over_from_the_trainer(gateway: Gateway, run: Run) -> None:
    trainer = run.start()
    run.record(trainer)
    gateway.push(run, run.token(trainer), body(60, loss=0.4))
    run.shows(60, trainer)
    evaluator = run.start("evaluate")
    run.record(evaluator, "Evaluate")
    assert gateway.push(run, run.token(evaluator), body(8, total=64)).code == 200
    run.shows(8, evaluator)
    assert run.status["progress"]["stage"] == "Evaluate"


def test_a_late_push_never_lands_on_a_namesake(gateway: Gateway, run: Run) -> None:
    old = run.start()
    run.record(old)
    token = run.token(old)
    gateway.push(run, token, body(20))
    run.shows(20, old)
    # Garbage collection may be first with the Job, or still be learning of a new CRD.
    both = (f"ftj/{run.name}", f"job/{run.name}-train")
    run.apiserver.kubectl("-n", run.namespace, "delete", "--ignore-not-found", *both)
    gone = ("-n", run.namespace, "get", "job", f"{run.name}-train")
    wait_until(lambda: run.apiserver.kubectl.run(*gone).returncode != 0, SECONDS, "deletion of the old Job")
    namesake = Run.create(run.apiserver, run.namespace)
    new = namesake.start()
    namesake.record(new)
    # The gateway still knows the old pod: it takes a push, finds another UID, and takes no more.
    assert gateway.push(run, token, body(50)).code == 200
    assert gateway.refuses(run, token, body(51), 409).message == "the job is finished or deleted"
    assert "progress" not in namesake.status
    gateway.push(namesake, namesake.token(new), body(3))
    namesake.shows(3, new)


def test_a_late_push_never_replaces_what_the_operator_wrote_at_the_end(gateway: Gateway, run: Run) -> None:
    pod = run.start()
    run.record(pod)
    token = run.token(pod)
    gateway.push(run, token, body(40))
    run.shows(40, pod)
    final = {"stage": "Train", "pod": pod.name, "step": 60, "totalSteps": 60, "percent": 100}
    run.write({"stage": "Succeeded", "conditions": [condition("Succeeded", "True")], "progress": final})
    assert gateway.push(run, token, body(60, loss=9)).code == 200
    gateway.refuses(run, token, body(60, loss=9), 409)
    assert "loss" not in run.status["progress"]
    assert run.status["stage"] == "Succeeded"


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


def test_a_job_that_the_operator_did_not_record_is_not_believed(gateway: Gateway, run: Run) -> None:
    run.record(run.start())
    forged = run.start("evaluate")  # whoever may create Jobs can name the FineTuneJob as its controller
    assert gateway.push(run, run.token(forged), body(59)).code == 200
    later = Run.create(run.apiserver, run.namespace, "later")
    pod = later.start()
    later.record(pod)
    gateway.push(later, later.token(pod), body(1))
    later.shows(1, pod)
    assert "progress" not in run.status


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
    pod = run.start()
    run.record(pod)
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


def test_a_pod_that_floods_is_told_to_wait_and_others_are_heard(gateway: Gateway, run: Run) -> None:
    pod = run.start()
    run.record(pod)
    token = run.token(pod)
    answers = [gateway.push(run, token, body(step)) for step in range(25)]
    refused = [answer for answer in answers if answer.code == 429]
    assert len(refused) >= 10
    assert all(answer.retry_after and int(answer.retry_after) >= 1 for answer in refused)
    other = Run.create(run.apiserver, run.namespace, "other")
    calm = other.start()
    assert gateway.push(other, other.token(calm), body(1)).code == 200


def test_what_is_unwritten_at_the_end_of_the_process_is_written(
    gateway: Gateway, gateway_kubeconfig: Path, run: Run
) -> None:
    pod = run.start()
    run.record(pod)
    token = run.token(pod)
    with running_gateway(gateway_kubeconfig, gateway.authority.parent, GATEWAY_FLUSH_SECONDS="3600") as second:
        second.push(run, token, body(10))
        run.shows(10, pod)
        assert second.push(run, token, body(11)).code == 200
        second.process.send_signal(signal.SIGTERM)
        assert second.process.wait(SECONDS) == 0, second.log.read_text()
    run.shows(11, pod)


def test_a_renewed_certificate_is_served_without_a_restart(
    apiserver: ControlPlane, gateway: Gateway, gateway_kubeconfig: Path
) -> None:
    folder = gateway.authority.parent
    with running_gateway(gateway_kubeconfig, folder, GATEWAY_RENEWAL_CHECK_SECONDS="0.2") as second:
        address = ("localhost", second.port)
        before = ssl.get_server_certificate(address, ca_certs=str(second.authority))
        removal = json.dumps([{"op": "remove", "path": "/data/tls.crt"}])
        apiserver.kubectl("-n", SYSTEM, "patch", "secret", "finetune-gateway-tls", "--type=json", "-p", removal)

        def renewed() -> bool:
            return ssl.get_server_certificate(address, ca_certs=str(second.authority)) != before

        wait_until(renewed, SECONDS, "a new certificate of the same authority")


def test_a_missing_secret_is_named_and_ends_the_process(gateway_kubeconfig: Path, namespace: str) -> None:
    environment = os.environ | {"KUBECONFIG": str(gateway_kubeconfig), "OPERATOR_NAMESPACE": namespace}
    command = [sys.executable, "-m", "finetune_operator", "gateway"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "finetune-gateway-tls" in done.stderr.splitlines()[-1]


def test_a_pod_that_the_operator_made_and_recorded_may_report(
    gateway: Gateway, operator: Any, world: Any, run: Run
) -> None:
    name = world.run_pod(f"{run.name}-train")
    world.until_status(
        run.name, lambda status: any(each.pod == name for each in status.attempts), "the attempt's record"
    )
    pod = next(pod for pod in run.pods("train", 1) if pod.name == name)
    assert gateway.push(run, run.token(pod), body(7)).code == 200
    run.shows(7, pod)
    world.end_pod(name, exit_code=1)
    successor = world.run_pod(f"{run.name}-train")
    world.until_status(run.name, lambda status: status.attempts[-1].pod == successor, "the second attempt's record")
    new = next(pod for pod in run.pods("train", 2) if pod.name == successor)
    assert gateway.push(run, run.token(new), body(2)).code == 200
    run.shows(2, new)
    assert operator.process.poll() is None


# In a process of its own: Unsloth's tests need transformers not to be imported before Unsloth.
CALLBACK = """
from transformers import TrainerControl, TrainerState
from transformers.integrations import KubeflowCallback

KubeflowCallback._MIN_UPDATE_INTERVAL = 0  # a test does not train for minutes
callback, control = KubeflowCallback(), TrainerControl()
send = callback._update_status
callback._update_status = lambda *args, **kwargs: print(send(*args, **kwargs))
state = TrainerState(max_steps=4, is_world_process_zero=True)
callback.on_train_begin(None, state, control)
for step in range(1, 5):
    state.global_step, state.epoch = step, step / 4
    callback.on_log(None, state, control, logs={"loss": 2.0 - step / 4, "learning_rate": 1e-4})
    callback.on_step_end(None, state, control)
callback.on_train_end(None, state, control)
"""


def test_hugging_faces_own_callback_reports(gateway: Gateway, run: Run, tmp_path: Path) -> None:
    pod = run.start()
    run.record(pod)
    token = tmp_path / "token"
    token.write_text(run.token(pod))
    environment = os.environ | {
        "KUBEFLOW_TRAINER_SERVER_URL": gateway.url(run),
        "KUBEFLOW_TRAINER_SERVER_CA_CERT": str(gateway.authority),
        "KUBEFLOW_TRAINER_SERVER_TOKEN": str(token),
    }
    done = subprocess.run([sys.executable, "-c", CALLBACK], env=environment, capture_output=True, text=True)
    assert done.stdout.split() == ["True"] * 6, done.stderr  # each was answered with 200
    run.shows(4, pod)
    wait_until(lambda: run.status["progress"]["percent"] == 100, SECONDS, "100% in status")
    progress = run.status["progress"]
    assert (progress["totalSteps"], progress["loss"], progress["summary"]) == (4, "1.0", "4/4")
