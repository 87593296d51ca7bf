"""The local image registry: Debian's docker-registry, plain HTTP on the loopback address only.

Its data is below ``cache``, so it outlives the cluster. Repositories are single names such as ``finetune-trainer``.
"""

import json
import subprocess
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.client import HTTPResponse
from pathlib import Path

from embedded_cluster.errors import ClusterError
from embedded_cluster.lock import locked
from embedded_cluster.ports import require_free
from embedded_cluster.process import Daemon, last_lines
from embedded_cluster.state import State

HOST = "127.0.0.1"
PORT = 5000
ADDRESS = f"{HOST}:{PORT}"
MANIFEST_TYPES = "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json"
READY_SECONDS = 20
REQUEST_SECONDS = 30

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def daemon(state: State) -> Daemon:
    command = ["docker-registry", "serve", str(_config_file(state))]
    return Daemon(name="registry", command=command, run_dir=state.run, log_dir=state.log)


def start(state: State) -> bool:
    """Starts the registry and waits until it answers; False when it already ran.

    Raises:
        ClusterError: another process listens on its port, Debian's package is missing, or it does not come up.
    """
    process = daemon(state)
    with locked(state.cache / "registry.lock"):
        if process.pid is None:
            require_free("registry", [(HOST, PORT)])
        _write_config(state)
        started = process.start()
        process.wait_until_ready(_answers, READY_SECONDS)
    return started


def stop(state: State) -> bool:
    """Stops the registry; False when it did not run."""
    return daemon(state).stop()


def digest(name: str, tag: str) -> str | None:
    """The digest (``sha256:…``) of the manifest that ``name:tag`` points to; None when there is none."""
    response = _request("HEAD", f"{name}/manifests/{tag}")
    return response.headers["Docker-Content-Digest"] if response else None


def compressed_bytes(name: str, reference: str) -> int:
    """What a node downloads for an image that it has no layer of: all compressed layers, in bytes.

    Raises:
        ClusterError: the registry has no manifest ``name:reference``.
    """
    response = _request("GET", f"{name}/manifests/{reference}")
    if response is None:
        raise ClusterError(f"{ADDRESS} has no {name}:{reference}")
    return sum(int(layer["size"]) for layer in json.load(response)["layers"])


def prune(state: State, keep: Mapping[str, str]) -> int:
    """Removes every manifest that the one kept tag of its repository does not point to; returns how many.

    ``keep`` maps repository to tag; other repositories, and those without that tag, are left alone.

    The blobs are then collected with the registry stopped: it must not take an upload meanwhile, and its cache of
    known blobs would be wrong afterwards. A pull in these seconds is refused, and the kubelet repeats it.
    Call it only while nothing is pushed.

    Raises:
        ClusterError: the collection failed; the message ends with its last lines.
    """
    removed = sum(_delete_others(name, tag) for name, tag in keep.items())
    if removed:
        stop(state)
        try:
            _collect_garbage(state)
        finally:
            start(state)
    return removed


def _delete_others(name: str, kept_tag: str) -> int:
    response = _request("GET", f"{name}/tags/list")
    kept = digest(name, kept_tag)
    if response is None or kept is None:
        return 0
    old = {digest(name, tag) for tag in json.load(response)["tags"] or ()} - {kept, None}
    for manifest in old:
        _request("DELETE", f"{name}/manifests/{manifest}")
    return len(old)


def _collect_garbage(state: State) -> None:
    log = state.log / "registry-garbage-collect.log"
    with log.open("w") as file:
        command = ["docker-registry", "garbage-collect", str(_config_file(state))]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        raise ClusterError(f"the registry's garbage collection failed; the last lines of {log}:\n{last_lines(log)}")


def _config_file(state: State) -> Path:
    return state.cache / "registry.json"


def _write_config(state: State) -> None:
    """JSON is YAML, which is what the registry reads."""
    config = {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(state.cache / "registry")}, "delete": {"enabled": True}},
        "http": {"addr": ADDRESS},
    }
    _config_file(state).parent.mkdir(parents=True, exist_ok=True)
    _config_file(state).write_text(json.dumps(config, indent=2))


def _answers() -> bool:
    try:
        return _request("GET", "") is not None
    except OSError:
        return False


def _request(method: str, path: str) -> HTTPResponse | None:
    """One call of the distribution API below ``/v2/``; None for 404.

    Raises:
        ClusterError: any other refusal.
        OSError: nobody answers.
    """
    url = f"http://{ADDRESS}/v2/{path}"
    request = urllib.request.Request(url, method=method, headers={"Accept": MANIFEST_TYPES})
    try:
        response: HTTPResponse = _opener.open(request, timeout=REQUEST_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise ClusterError(f"{method} {url}: {error.code} {error.reason}") from error
    return response
