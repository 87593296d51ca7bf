"""Keeps the gateway's certificates in its Secret, and its authority in a ConfigMap that the operator copies to jobs."""

from __future__ import annotations

import base64
import binascii
import logging
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Any

from kubernetes.aio.client import ApiClient, ApiException, CoreV1Api

from finetune_api import names
from finetune_operator.gateway.certificates import Bundle, refresh

log = logging.getLogger(__name__)

SECRET = "finetune-gateway-tls"
CONFIG_MAP = "finetune-gateway-ca"
_KEYS = {"ca_certificate": "ca.crt", "ca_key": "ca.key", "certificate": "tls.crt", "key": "tls.key"}
# Replicas that write at once: each loser reads what the winner wrote.
ATTEMPTS = 5


class MissingObjectError(RuntimeError):
    """The manifests' empty Secret or ConfigMap is not there; the gateway may not create it."""


class CertificateStore:
    """The two named objects of the gateway's namespace."""

    def __init__(self, api: ApiClient, namespace: str) -> None:
        self._core = CoreV1Api(api)
        self._namespace = namespace

    async def ensure(self, hosts: Sequence[str], now: datetime) -> Bundle:
        """Renews what has to be renewed, publishes the authority, and returns what to serve with.

        Raises MissingObjectError, or ApiException.
        """
        for _ in range(ATTEMPTS):
            secret = await self._found(self._core.read_namespaced_secret, "Secret", SECRET)
            stored = _decode(secret.data or {})
            bundle = refresh(stored, hosts, now)
            if bundle == stored or await self._replaced_secret(secret, bundle):
                await self._publish(bundle)
                return bundle
        raise RuntimeError(f"Secret {self._namespace}/{SECRET} changed under {ATTEMPTS} writes in a row")

    async def _publish(self, bundle: Bundle) -> None:
        """Writes the authority's certificate to the ConfigMap, if it isn't there."""
        for _ in range(ATTEMPTS):
            config_map = await self._found(self._core.read_namespaced_config_map, "ConfigMap", CONFIG_MAP)
            data = config_map.data or {}
            if data.get(names.CA_FILE) == bundle.ca_certificate:
                return
            config_map.data = data | {names.CA_FILE: bundle.ca_certificate}
            if await self._replaced(self._core.replace_namespaced_config_map, CONFIG_MAP, config_map):
                log.info("Published the authority in ConfigMap %s/%s", self._namespace, CONFIG_MAP)
                return
        raise RuntimeError(f"ConfigMap {self._namespace}/{CONFIG_MAP} changed under {ATTEMPTS} writes in a row")

    async def _replaced_secret(self, secret: Any, bundle: Bundle) -> bool:
        secret.data = (secret.data or {}) | _encode(bundle)
        replaced = await self._replaced(self._core.replace_namespaced_secret, SECRET, secret)
        if replaced:
            log.info("Stored a new certificate in Secret %s/%s", self._namespace, SECRET)
        return replaced

    async def _replaced(self, replace: Any, name: str, body: Any) -> bool:
        """Writes an object that carries the resourceVersion it was read with. False when someone else wrote first."""
        try:
            await replace(name, self._namespace, body)
        except ApiException as error:
            if error.status == HTTPStatus.CONFLICT:
                return False
            raise
        return True

    async def _found(self, read: Any, kind: str, name: str) -> Any:
        try:
            return await read(name, self._namespace)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                raise MissingObjectError(
                    f"{kind} {self._namespace}/{name} is missing: apply the manifests, which ship it empty"
                ) from None
            raise


def _encode(bundle: Bundle) -> dict[str, str]:
    return {key: base64.b64encode(getattr(bundle, field).encode()).decode() for field, key in _KEYS.items()}


def _decode(data: dict[str, str]) -> Bundle | None:
    """The bundle of a Secret's data; None when it is not whole, as when it is shipped."""
    try:
        return Bundle(**{field: base64.b64decode(data[key]).decode() for field, key in _KEYS.items()})
    except (KeyError, binascii.Error, UnicodeDecodeError):
        return None
