"""The gateway's door: places, and what gives them back. Real sockets, and handlers that do nothing."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from finetune_operator.gateway import connections
from finetune_operator.gateway.connections import Door

SECONDS = 10


@asynccontextmanager
async def one_place(context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A door with one place; gives its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        accepting = asyncio.create_task(Door(listener, asyncio.Protocol, 1, context).accept())
        async with asyncio.timeout(SECONDS):
            yield listener.getsockname()[1]
        accepting.cancel()


async def is_let_in(port: int) -> bool:
    """Whether a new connection is still open when a tenth of a second has gone by."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        async with asyncio.timeout(0.1):
            await reader.read()
    except TimeoutError:
        return True
    except ConnectionError:
        return False
    finally:
        writer.close()
    return False


async def until_let_in(port: int) -> None:
    """Connects until a place is free; an endless wait ends with the door's time limit."""
    while not await is_let_in(port):
        pass


async def test_a_place_is_free_again_when_its_connection_ends() -> None:
    async with one_place() as port:
        _, holder = await asyncio.open_connection("127.0.0.1", port)
        assert not await is_let_in(port)
        holder.close()
        await until_let_in(port)


async def test_a_connection_that_outlives_a_push_is_cut_off_though_its_handler_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "LIFE_SECONDS", 0.3)
    async with one_place() as port:
        reader, holder = await asyncio.open_connection("127.0.0.1", port)
        holder.write(b"on and on")
        assert await reader.read() == b""
        await until_let_in(port)


async def test_who_does_not_speak_tls_gives_its_place_back() -> None:
    async with one_place(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)) as port:
        reader, talker = await asyncio.open_connection("127.0.0.1", port)
        talker.write(b"POST / HTTP/1.1\r\n\r\n")
        await reader.read()
        await until_let_in(port)
