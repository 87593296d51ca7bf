"""Kubeconfig files with the certificates inside, so that one file is all a client needs."""

import base64
from pathlib import Path

import yaml

from embedded_cluster.pki import Pki

CONTEXT = "embedded"


def write_kubeconfig(path: Path, server: str, pki: Pki, identity: str) -> None:
    """Writes ``path``, readable by its owner only, for the user that ``identity`` names in ``pki``.

    A reader sees the old file or the new one, whole.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    part.unlink(missing_ok=True)
    part.touch(mode=0o600)
    part.write_text(yaml.safe_dump(_kubeconfig(server, pki, identity), sort_keys=False))
    part.rename(path)


def _kubeconfig(server: str, pki: Pki, identity: str) -> dict[str, object]:
    cluster = {"server": server, "certificate-authority-data": _encoded(pki.ca)}
    user = {
        "client-certificate-data": _encoded(pki.certificate(identity)),
        "client-key-data": _encoded(pki.key(identity)),
    }
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": CONTEXT, "cluster": cluster}],
        "users": [{"name": identity, "user": user}],
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": identity}}],
        "current-context": CONTEXT,
    }


def _encoded(path: Path) -> str:
    return base64.b64encode(path.read_bytes()).decode()
