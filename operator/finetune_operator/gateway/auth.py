"""Authentication of a push: from the bearer token to the pod that may report."""

from __future__ import annotations

import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import jwt

from finetune_operator.gateway.identity import JobKey, Reporter, TokenClaims, bound_pod, job_of, parse_claims
from finetune_operator.gateway.keys import SigningKeys
from finetune_operator.gateway.limits import SubjectLimits
from finetune_operator.gateway.pods import Reporters
from finetune_operator.gateway.refusal import Refusal, unauthenticated

# Signatures by public keys only: with HS256 allowed, a published key would serve as a secret.
ALGORITHMS = ["RS256", "RS384", "RS512", "ES256", "ES384", "ES512"]
LEEWAY_SECONDS = 10.0


class Authenticator:
    """Verifies tokens offline, and asks the API server once about each pod."""

    def __init__(
        self,
        keys: SigningKeys,
        reporters: Reporters,
        limits: SubjectLimits,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._keys = keys
        self._reporters = reporters
        self._limits = limits
        self._clock = clock

    async def authenticate(self, authorization: str | None, namespace: str, name: str) -> Reporter:
        """The reporter that an ``Authorization`` header proves.

        Raises Refusal: 401 for no valid token, 403 for another job's or no job's pod, 429 for too many pushes of one
        pod, 503 when the API server can't be asked.
        """
        claims = await self._verified(_bearer(authorization))
        bound = bound_pod(claims)
        # The pod, not the service account, is the subject: a namespace's jobs share an account.
        self._limit(bound.uid)
        job: JobKey = job_of(claims, namespace, name)
        return await self._reporters.find(bound, job)

    async def _verified(self, token: str) -> TokenClaims:
        try:
            key, issuer = await self._keys.find(jwt.get_unverified_header(token).get("kid", ""))
            return parse_claims(_decode(token, key, issuer))
        except jwt.ExpiredSignatureError:
            raise unauthenticated("the token has expired; read its file again") from None
        except jwt.PyJWTError as error:
            raise unauthenticated(f"the token is not valid: {error}") from None

    def _limit(self, subject: str) -> None:
        wait = self._limits.take(subject, self._clock())
        if wait:
            raise Refusal(HTTPStatus.TOO_MANY_REQUESTS, "this pod reports too often", retry_after=wait)


def _bearer(authorization: str | None) -> str:
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise unauthenticated("no bearer token")
    return token.strip()


def _decode(token: str, key: jwt.PyJWK, issuer: str) -> dict[str, Any]:
    # The audience names the job, so identity.job_of compares it with the URL.
    options: Any = {"verify_aud": False, "require": ["exp", "iss", "aud", "sub"]}
    return jwt.decode(token, key, algorithms=ALGORITHMS, issuer=issuer, leeway=LEEWAY_SECONDS, options=options)
