"""Certificates: when they are made anew, and that clients accept them."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from finetune_operator.gateway.certificates import AUTHORITY_VALIDITY, Bundle, refresh
from finetune_operator.gateway.settings import read_settings
from finetune_operator.gateway.tls import ServingContext

NOW = datetime.now(UTC)
HOSTS = read_settings({"OPERATOR_NAMESPACE": "finetune-system", "GATEWAY_EXTRA_HOSTS": "localhost"}).hosts
BUNDLE = refresh(Bundle(), HOSTS, NOW)
OTHER = refresh(Bundle(), HOSTS, NOW)


def leaf(bundle: Bundle) -> x509.Certificate:
    return x509.load_pem_x509_certificate(bundle.certificate.encode())


async def served(context: ssl.SSLContext, authority: str, host: str) -> x509.Certificate:
    """Shakes hands with a server of that context over the loopback; returns the certificate that it showed."""
    client = ssl.create_default_context(cadata=authority)
    client.verify_flags |= ssl.VERIFY_X509_STRICT  # the default from Python 3.13 on
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    async with server:
        port = server.sockets[0].getsockname()[1]
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client, server_hostname=host)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.close()
    return x509.load_der_x509_certificate(shown)


@pytest.mark.parametrize("host", ["finetune-gateway.finetune-system.svc", HOSTS[1], "localhost"])
async def test_a_strict_client_accepts_the_leaf_for_each_host(host: str) -> None:
    assert await served(ServingContext(BUNDLE).context, BUNDLE.ca_certificate, host) == leaf(BUNDLE)


async def test_a_client_refuses_another_host() -> None:
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        await served(ServingContext(BUNDLE).context, BUNDLE.ca_certificate, "elsewhere.svc")


async def test_a_client_of_another_authority_refuses_the_leaf() -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        await served(ServingContext(BUNDLE).context, OTHER.ca_certificate, "localhost")


async def test_a_renewed_leaf_is_served_by_the_same_context() -> None:
    serving = ServingContext(BUNDLE)
    renewed = refresh(replace(BUNDLE, certificate=""), HOSTS, NOW)
    serving.load(renewed)
    assert await served(serving.context, BUNDLE.ca_certificate, "localhost") == leaf(renewed) != leaf(BUNDLE)


@pytest.mark.parametrize("days", [0, 59])
def test_a_young_bundle_is_kept(days: int) -> None:
    assert refresh(BUNDLE, HOSTS, NOW + timedelta(days=days)) is BUNDLE


def test_a_leaf_is_renewed_after_two_thirds_of_its_life_under_the_same_authority() -> None:
    renewed = refresh(BUNDLE, HOSTS, NOW + timedelta(days=60))
    assert (renewed.ca_certificate, renewed.ca_key) == (BUNDLE.ca_certificate, BUNDLE.ca_key)
    assert leaf(renewed).not_valid_after_utc > leaf(BUNDLE).not_valid_after_utc


def test_a_leaf_is_renewed_for_a_new_host() -> None:
    renewed = refresh(BUNDLE, [*HOSTS, "gateway.example.org"], NOW)
    assert renewed.ca_certificate == BUNDLE.ca_certificate
    assert renewed.certificate != BUNDLE.certificate


def test_an_authority_that_would_end_before_its_leaf_is_replaced() -> None:
    assert refresh(BUNDLE, HOSTS, NOW + AUTHORITY_VALIDITY).ca_certificate != BUNDLE.ca_certificate


@pytest.mark.parametrize("field", ["ca_certificate", "ca_key"])
@pytest.mark.parametrize("text", ["", "garbage"])
def test_a_damaged_authority_is_replaced(field: str, text: str) -> None:
    mended = refresh(replace(BUNDLE, **{field: text}), HOSTS, NOW)
    assert refresh(mended, HOSTS, NOW) is mended


@pytest.mark.parametrize(
    "damage",
    [{"certificate": ""}, {"key": "garbage"}, {"certificate": OTHER.certificate, "key": OTHER.key}, {"key": OTHER.key}],
)
def test_a_damaged_or_foreign_leaf_is_replaced_under_the_same_authority(damage: dict[str, str]) -> None:
    mended = refresh(replace(BUNDLE, **damage), HOSTS, NOW)
    assert mended.ca_certificate == BUNDLE.ca_certificate
    assert refresh(mended, HOSTS, NOW) is mended


def test_a_key_that_does_not_match_the_authority_is_noticed() -> None:
    mended = refresh(replace(BUNDLE, ca_key=OTHER.ca_key), HOSTS, NOW)
    assert mended.ca_certificate != BUNDLE.ca_certificate


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({}, "environment variable OPERATOR_NAMESPACE: Field required"),
        ({"OPERATOR_NAMESPACE": "a", "GATEWAY_PORT": "https"}, "environment variable GATEWAY_PORT: Input should be"),
        ({"OPERATOR_NAMESPACE": "a", "GATEWAY_FLUSH_SECONDS": "0"}, "GATEWAY_FLUSH_SECONDS: Input should be greater"),
    ],
)
def test_a_wrong_setting_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_settings(environment)
