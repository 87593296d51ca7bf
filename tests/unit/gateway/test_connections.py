"""The gateway's door: places, and what gives them back. Real sockets, and a handler that echoes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from finetune_operator.gateway import connections
from finetune_operator.gateway.connections import Door

SECONDS = 10


@asynccontextmanager
async def places(count: int, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A door with so many places; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepting = asyncio.create_task(Door(listener, Echo, count, context).accept())
        async with asyncio.timeout(SECONDS):
            yield listener.getsockname()[1]
        accepting.cancel()


async def is_cut_off(reader: asyncio.StreamReader) -> bool:
    """Whether a connection ends; one that stays open runs into the door's time limit."""
    with contextlib.suppress(ConnectionError):
        return await reader.read() == b""
    return True


async def answers(port: int) -> bool:
    """Whether a new connection to an echoing handler is served."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"!")
    try:
        return await reader.read(1) == b"!"
    except ConnectionError:
        return False
    finally:
        writer.close()


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        assert isinstance(self._transport, asyncio.Transport)
        self._transport.write(data)


async def test_idle_connections_keep_nobody_out_and_the_oldest_makes_room() -> None:
    async with places(3) as port:
        idle = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        assert await answers(port)
        assert await is_cut_off(idle[0][0])
        for number in (1, 2):
            idle[number][1].write(b"?")
            assert await idle[number][0].read(1) == b"?"


async def test_more_connections_than_places_never_stand_at_a_time() -> None:
    async with places(3) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        assert all([await is_cut_off(reader) for reader, _ in opened[:17]])
        for reader, writer in opened[17:]:
            writer.write(b"?")
            assert await reader.read(1) == b"?"


async def test_a_crowd_that_comes_at_once_gets_no_more_than_the_places() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        crowd = [await asyncio.open_connection(*listener.getsockname()) for _ in range(20)]
        listener.setblocking(False)
        accepting = asyncio.create_task(Door(listener, Echo, 3, None).accept())
        async with asyncio.timeout(SECONDS):
            assert all([await is_cut_off(reader) for reader, _ in crowd[:17]])
            assert await answers(listener.getsockname()[1])
        accepting.cancel()


async def test_an_unfinished_handshake_makes_room_too() -> None:
    async with places(1, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as port:
        opened = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert await is_cut_off(opened[0][0])


async def test_a_connection_that_outlives_a_push_is_cut_off_though_its_handler_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LIFE_SECONDS", 0.3)
    async with places(2) as port:
        reader, holder = await asyncio.open_connection("127.0.0.1", port)
        holder.write(b"o")
        assert await reader.read(1) == b"o"
        assert await is_cut_off(reader)
        assert await answers(port)


async def test_who_does_not_speak_tls_is_cut_off() -> None:
    async with places(2, ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as port:
        reader, talker = await asyncio.open_connection("127.0.0.1", port)
        talker.write(b"POST / HTTP/1.1\r\n\r\n")
        await reader.read()  # an alert, then the end
