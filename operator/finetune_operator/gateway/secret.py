"""Keeps the gateway's certificates in its Secret, and its authority in a ConfigMap that the operator reads."""

from __future__ import annotations

import base64
import logging
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from kubernetes.aio.client import ApiClient

from finetune_api import names
from finetune_operator.gateway.certificates import Bundle, refresh
from finetune_operator.runtime.client import ApiError, path, request

log = logging.getLogger(__name__)

SECRET = "finetune-gateway-tls"
_KEYS = {"ca_certificate": "ca.crt", "ca_key": "ca.key", "certificate": "tls.crt", "key": "tls.key"}
# Replicas that write at once: each loser reads what the winner wrote.
ATTEMPTS = 5


class MissingObjectError(RuntimeError):
    """The manifests' empty Secret or ConfigMap is not there; the gateway may not create it."""


class CertificateStore:
    """The two named objects of the gateway's namespace."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._api = api
        self._namespace = namespace

    async def ensure(self, hosts: Sequence[str], now: datetime) -> Bundle:
        """Renews what has to be renewed, publishes the authority, and returns what to serve with.

        Raises MissingObjectError, or one of API_ERRORS.
        """
        for _ in range(ATTEMPTS):
            secret = await self._read("Secret", SECRET)
            stored = _decode(secret.get("data") or {})
            bundle = refresh(stored, hosts, now)
            if bundle == stored or await self._replace("Secret", SECRET, secret, _encode(bundle)):
                await self._publish(bundle)
                return bundle
        raise RuntimeError(f"Secret {self._namespace}/{SECRET} changed under {ATTEMPTS} writes in a row")

    async def _publish(self, bundle: Bundle) -> None:
        """Writes the authority's certificate to the ConfigMap, if it isn't there."""
        name, wanted = names.GATEWAY_CA_CONFIG_MAP, {names.CA_FILE: bundle.ca_certificate}
        for _ in range(ATTEMPTS):
            config_map = await self._read("ConfigMap", name)
            if (config_map.get("data") or {}).items() >= wanted.items():
                return
            if await self._replace("ConfigMap", name, config_map, wanted):
                return
        raise RuntimeError(f"ConfigMap {self._namespace}/{name} changed under {ATTEMPTS} writes in a row")

    async def _replace(self, kind: str, name: str, found: dict[str, Any], data: dict[str, str]) -> bool:
        """Writes data into an object as it was read. False when someone else wrote first: resourceVersion tells."""
        body = found | {"data": (found.get("data") or {}) | data}
        try:
            await request(self._api, "PUT", self._path(kind, name), body=body)
        except ApiError as error:
            if error.status == HTTPStatus.CONFLICT:
                return False
            raise
        log.info("Wrote %s to %s %s/%s", ", ".join(data), kind, self._namespace, name)
        return True

    async def _read(self, kind: str, name: str) -> dict[str, Any]:
        try:
            return await request(self._api, "GET", self._path(kind, name))
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                where = f"{kind} {self._namespace}/{name}"
                raise MissingObjectError(f"{where} is missing: apply the manifests, which ship it empty") from None
            raise

    def _path(self, kind: str, name: str) -> str:
        return path("api", "v1", "namespaces", self._namespace, f"{kind.lower()}s", name)


def _encode(bundle: Bundle) -> dict[str, str]:
    return {key: base64.b64encode(getattr(bundle, field).encode()).decode() for field, key in _KEYS.items()}


def _decode(data: dict[str, str]) -> Bundle:
    """The bundle of a Secret's data. What is missing or damaged comes out empty or damaged: it is made anew."""
    texts = {field: base64.b64decode(data.get(key, "")) for field, key in _KEYS.items()}
    return Bundle(**{field: text.decode(errors="replace") for field, text in texts.items()})
