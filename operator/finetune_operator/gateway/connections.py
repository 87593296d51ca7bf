"""Who may hold the gateway's memory: so many connections at a time, each for so long, whatever it sends.

Anybody in the cluster may connect, and aiohttp by itself counts no connections. Whoever comes while all places are
taken gets the oldest's: a push or a probe is over in milliseconds, so that what is old is mostly idle, and idle
connections keep nobody out.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiohttp import web

log = logging.getLogger(__name__)

HANDSHAKE_SECONDS = 5.0
# A push is answered sooner; who reads no answer, or sends on and on, is cut off.
LIFE_SECONDS = 30.0
GOODBYE_SECONDS = 2.0
# A push has seven header fields, a token less than 2 KiB. A head of this size costs the parser 0.2 MiB.
MAX_FIELDS, MAX_FIELD_BYTES = 16, 4096
RETRY_SECONDS = 1.0
TELL_SECONDS = 60.0


@dataclass(frozen=True)
class Bounds:
    """At most so many connections, and so many seconds until one has sent the head of its request."""

    connections: int
    head_seconds: float


@dataclass
class _Place:
    """One connection's."""

    connection: socket.socket | None  # until its task has begun
    task: asyncio.Task[None] | None = None
    given_up: bool = False


class Door:
    """Lets connections in to an HTTP handler; while all places are taken, each new one ends the oldest."""

    def __init__(
        self,
        listener: socket.socket,
        handler: Callable[[], asyncio.Protocol],
        places: int,
        context: ssl.SSLContext | None,
    ) -> None:
        self._listener = listener
        self._handler = handler
        self._places = places
        self._context = context
        self._taken: list[_Place] = []  # oldest first
        self._told = -TELL_SECONDS

    async def accept(self) -> None:
        """Accepts until cancelled; requests in work go on then."""
        loop = asyncio.get_running_loop()
        async with asyncio.TaskGroup() as group:
            while True:
                try:
                    connection, _ = await loop.sock_accept(self._listener)
                except OSError as error:  # the client is gone already, or there is no file descriptor left
                    log.warning("A connection could not be accepted: %s", error)
                    await asyncio.sleep(RETRY_SECONDS)
                    continue
                if len(self._taken) >= self._places:
                    self._give_up(self._taken.pop(0), loop.time())
                place = _Place(connection)
                self._taken.append(place)
                place.task = group.create_task(self._serve(connection, place))

    async def _serve(self, connection: socket.socket, place: _Place) -> None:
        place.connection = None
        loop = asyncio.get_running_loop()
        lost = loop.create_future()
        seconds = (HANDSHAKE_SECONDS, GOODBYE_SECONDS) if self._context else (None, None)
        transport: asyncio.BaseTransport | None = None
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: _Watched(self._handler(), lost),
                connection,
                ssl=self._context,
                ssl_handshake_timeout=seconds[0],
                ssl_shutdown_timeout=seconds[1],
            )
            await asyncio.wait([lost], timeout=LIFE_SECONDS)
            _abort(transport)
        except asyncio.CancelledError:
            if not place.given_up:
                raise  # the process ends: a request in work is answered
            _abort(transport)
        except Exception as error:  # a failed handshake, mostly; no client may end the process
            log.debug("A connection failed: %s", error)
        finally:
            if place in self._taken:
                self._taken.remove(place)

    def _give_up(self, place: _Place, now: float) -> None:
        place.given_up = True
        if place.connection:  # many came at once
            place.connection.close()
        if place.task:
            place.task.cancel()
        self._tell(now)

    def _tell(self, now: float) -> None:
        if now - self._told >= TELL_SECONDS:
            self._told = now
            log.warning("All %d connections are taken; each new one ends the oldest", self._places)


def _abort(transport: asyncio.BaseTransport | None) -> None:
    if isinstance(transport, asyncio.WriteTransport):
        transport.abort()


class _Watched(asyncio.Protocol):
    """A handler whose connection's end is told; asyncio tells it to nobody else."""

    def __init__(self, handler: asyncio.Protocol, lost: asyncio.Future[None]) -> None:
        self._handler = handler
        self._lost = lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._handler.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        self._handler.data_received(data)

    def eof_received(self) -> bool | None:
        return self._handler.eof_received()

    def pause_writing(self) -> None:
        self._handler.pause_writing()

    def resume_writing(self) -> None:
        self._handler.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._handler.connection_lost(exc)
        if not self._lost.done():
            self._lost.set_result(None)


@asynccontextmanager
async def listening(
    application: web.Application, address: str, port: int, bounds: Bounds, context: ssl.SSLContext | None = None
) -> AsyncIterator[Door]:
    """A door to an application, for as long as the block runs; after it, requests in work are answered."""
    runner = web.AppRunner(
        application,
        access_log=None,
        keepalive_timeout=bounds.head_seconds,  # aiohttp counts it from the connection's begin, too
        max_headers=MAX_FIELDS,
        max_field_size=MAX_FIELD_BYTES,
    )
    await runner.setup()
    try:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.create_server((address, port), family=family, backlog=128) as listener:
            listener.setblocking(False)
            assert runner.server is not None  # after setup
            yield Door(listener, runner.server, bounds.connections, context)
    finally:
        await runner.cleanup()
