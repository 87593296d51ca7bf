"""The keys that service account tokens are signed with, as the API server publishes them."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Callable

from jwt import PyJWK, PyJWKSet, PyJWTError
from kubernetes.aio.client import ApiClient

from finetune_operator.gateway.refusal import unauthenticated, unavailable
from finetune_operator.runtime.client import API_ERRORS, describe, request

log = logging.getLogger(__name__)

DISCOVERY = "/.well-known/openid-configuration"
# The API server's own copy: the issuer's URL may be one that pods can't reach.
KEYS = "/openid/v1/jwks"
# An unknown key ID asks again, but whoever sends made-up IDs must not turn the gateway against the API server.
SHORTEST_REFRESH = 10.0
REFRESH_SECONDS = 300.0
# A key that was withdrawn is trusted no longer than this, also while the API server does not answer.
TRUSTED_SECONDS = 600.0


class SigningKeys:
    """The cluster's token issuer and its keys, fetched when needed."""

    def __init__(self, api: ApiClient, clock: Callable[[], float] = time.monotonic) -> None:
        self._api = api
        self._clock = clock
        self._lock = asyncio.Lock()
        self._asked = -math.inf
        self._read = -math.inf
        self._keys: dict[str, PyJWK] = {}
        self._issuer = ""

    async def find(self, key_id: str) -> tuple[PyJWK, str]:
        """The key of that ID and the issuer that it belongs to.

        Raises Refusal: 401 when there is no such key, 503 when the keys can't be read.
        """
        async with self._lock:
            now = self._clock()
            stale = key_id not in self._keys or now - self._read > REFRESH_SECONDS
            if stale and now - self._asked > SHORTEST_REFRESH:
                await self._refresh(now)
        if now - self._read > TRUSTED_SECONDS:
            raise unavailable("the cluster's token keys can't be read")
        if key_id not in self._keys:
            raise unauthenticated("the token is signed by a key that this cluster does not publish")
        return self._keys[key_id], self._issuer

    async def _refresh(self, now: float) -> None:
        """Replaces the keys; keeps the old ones, and their age, when the API server does not answer."""
        self._asked = now
        try:
            issuer = (await request(self._api, "GET", DISCOVERY))["issuer"]
            published = PyJWKSet.from_dict(await request(self._api, "GET", KEYS))
        except (*API_ERRORS, PyJWTError, KeyError) as error:
            log.warning("The API server's token keys could not be read: %s", describe(error))
            return
        self._issuer, self._keys = issuer, {key.key_id: key for key in published.keys if key.key_id}
        self._read = now
