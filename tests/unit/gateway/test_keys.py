"""The cluster's token keys, from an API server that can fall silent: how old may what was read be?"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus

import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm
from kubernetes.aio.client import ApiClient, Configuration

from finetune_operator.gateway.keys import (
    DISCOVERY,
    KEYS,
    REFRESH_SECONDS,
    SHORTEST_REFRESH,
    TRUSTED_SECONDS,
    SigningKeys,
)
from finetune_operator.gateway.refusal import Refusal

PUBLIC = RSAAlgorithm.to_jwk(rsa.generate_private_key(public_exponent=65537, key_size=2048).public_key(), as_dict=True)


@dataclass
class Cluster:
    """What publishes keys, and the time."""

    published: list[str] = field(default_factory=lambda: ["one"])
    answers: bool = True
    asked: int = 0
    now: float = 1000.0

    async def discovery(self, _: web.Request) -> web.Response:
        self.asked += 1
        return web.json_response({"issuer": "https://cluster"}, status=200 if self.answers else 500)

    async def keys(self, _: web.Request) -> web.Response:
        return web.json_response({"keys": [{**PUBLIC, "kid": name, "alg": "RS256"} for name in self.published]})


@asynccontextmanager
async def signing_keys(cluster: Cluster) -> AsyncIterator[SigningKeys]:
    application = web.Application()
    application.router.add_get(DISCOVERY, cluster.discovery)
    application.router.add_get(KEYS, cluster.keys)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    host = "http://{}:{}".format(*runner.addresses[0][:2])
    async with ApiClient(Configuration(host=host)) as api:
        yield SigningKeys(api, lambda: cluster.now)
    await runner.cleanup()


async def refusal(keys: SigningKeys, name: str) -> HTTPStatus:
    with pytest.raises(Refusal) as caught:
        await keys.find(name)
    return caught.value.status


async def test_a_withdrawn_key_is_trusted_no_longer_than_its_time_while_the_cluster_is_silent() -> None:
    cluster = Cluster()
    async with signing_keys(cluster) as keys:
        assert (await keys.find("one"))[1] == "https://cluster"
        cluster.published, cluster.answers = ["two"], False
        begin = cluster.now
        while cluster.now - begin <= TRUSTED_SECONDS:  # a failed look-up makes no key younger
            await keys.find("one")
            cluster.now += SHORTEST_REFRESH + 1
        assert await refusal(keys, "one") is HTTPStatus.SERVICE_UNAVAILABLE
        cluster.answers, cluster.now = True, cluster.now + SHORTEST_REFRESH + 1
        assert await refusal(keys, "one") is HTTPStatus.UNAUTHORIZED
        assert (await keys.find("two"))[1] == "https://cluster"


async def test_keys_are_read_again_before_their_time_is_over() -> None:
    cluster = Cluster()
    async with signing_keys(cluster) as keys:
        await keys.find("one")
        cluster.published, cluster.now = ["two"], cluster.now + REFRESH_SECONDS + 1
        assert await refusal(keys, "one") is HTTPStatus.UNAUTHORIZED


async def test_made_up_keys_do_not_make_the_gateway_ask_without_end() -> None:
    cluster = Cluster()
    async with signing_keys(cluster) as keys:
        for number in range(50):
            assert await refusal(keys, f"made-up-{number}") is HTTPStatus.UNAUTHORIZED
        assert cluster.asked == 1
        cluster.published, cluster.now = ["one", "new"], cluster.now + SHORTEST_REFRESH + 1
        await keys.find("new")
        assert cluster.asked == 2


async def test_without_any_keys_the_sender_is_told_to_come_again() -> None:
    cluster = Cluster(answers=False)
    async with signing_keys(cluster) as keys:
        assert await refusal(keys, "one") is HTTPStatus.SERVICE_UNAVAILABLE
