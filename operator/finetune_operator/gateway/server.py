"""The HTTP side: the push endpoint over TLS, and health on a plain port."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from http import HTTPStatus

from aiohttp import web
from pydantic import ValidationError

from finetune_api import names
from finetune_api.progress import MAX_BODY_BYTES, ProgressPush
from finetune_operator.gateway.auth import Authenticator
from finetune_operator.gateway.decision import Report
from finetune_operator.gateway.merge import merge
from finetune_operator.gateway.refusal import Refusal
from finetune_operator.gateway.store import ProgressStore, Verdict

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

# A body of 64 KiB takes milliseconds; whoever sends it byte by byte must not hold one of the few connections.
BODY_SECONDS = 10.0


class PushEndpoint:
    """Takes progress pushes. The answer never waits for a write to the API server."""

    def __init__(
        self,
        authenticator: Authenticator,
        store: ProgressStore,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._authenticator = authenticator
        self._store = store
        self._clock = clock

    def application(self) -> web.Application:
        """The application to serve over TLS."""
        application = web.Application(client_max_size=MAX_BODY_BYTES, middlewares=[_answer_refusals])
        application.router.add_post(names.progress_path("{namespace}", "{name}"), self.push)
        return application

    async def push(self, request: web.Request) -> web.Response:
        """Authenticates, parses, and keeps the report. Raises Refusal and aiohttp's HTTP errors."""
        namespace, name = request.match_info["namespace"], request.match_info["name"]
        reporter = await self._authenticator.authenticate(request.headers.get("Authorization"), namespace, name)
        push = _parse(await _body(request))
        try:
            progress = merge(push, reporter, self._store.latest(reporter), datetime.now(UTC))
        except ValueError as error:
            raise _bad_request(error) from None
        verdict = self._store.offer(Report(reporter, progress), self._clock())
        if verdict is not Verdict.TAKEN:
            raise Refusal(HTTPStatus.CONFLICT, verdict.value)
        return _status(HTTPStatus.OK, verdict.value)


def health_application(ready: Callable[[], bool]) -> web.Application:
    """The application to serve in the clear for the kubelet's probes."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def readyz(_: web.Request) -> web.Response:
        return web.Response(text="ok") if ready() else web.Response(status=503, text="starting")

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    return application


async def _body(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise Refusal(HTTPStatus.REQUEST_TIMEOUT, "the body did not arrive in time") from None


def _parse(body: bytes) -> ProgressPush:
    try:
        return ProgressPush.model_validate_json(body)
    except ValueError as error:
        raise _bad_request(error) from None


def _bad_request(error: ValueError) -> Refusal:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        return Refusal(HTTPStatus.BAD_REQUEST, f"{where}: {first['msg']}" if where else first["msg"])
    return Refusal(HTTPStatus.BAD_REQUEST, str(error))


@web.middleware
async def _answer_refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        # Anyone can send a bad token; only pods with a good one, which are rate-limited, may fill the log.
        level = logging.DEBUG if refusal.status is HTTPStatus.UNAUTHORIZED else logging.INFO
        log.log(level, "%s: %d %s", request.rel_url.raw_path, refusal.status, refusal.message)
        response = _status(refusal.status, refusal.message)
        if refusal.retry_after is not None:
            response.headers["Retry-After"] = str(math.ceil(refusal.retry_after))
        return response
    except web.HTTPException as error:
        return _status(HTTPStatus(error.status), error.reason)


def _status(code: HTTPStatus, message: str) -> web.Response:
    """A metav1.Status, as the API server itself answers."""
    outcome = "Success" if code is HTTPStatus.OK else "Failure"
    reason = "" if code is HTTPStatus.OK else code.phrase.title().replace(" ", "")
    body = {"kind": "Status", "apiVersion": "v1", "status": outcome, "reason": reason, "message": message}
    response = web.json_response({**body, "code": code.value}, status=code.value)
    response.force_close()  # connections are few, and the next push comes in seconds
    return response
