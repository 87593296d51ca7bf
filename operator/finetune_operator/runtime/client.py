"""The connection to the API server that operator and gateway share. Objects come and go as plain dictionaries.

The client's generated classes are not used: importing CoreV1Api alone takes 90 MB and more than a second. Neither is
its own serialisation, which walks and copies every body before json does.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

from finetune_operator.runtime.resources import path

__all__ = ["API_ERRORS", "JSON", "JSON_PATCH", "MERGE_PATCH", "ApiError", "connect", "describe", "path", "request"]

JSON = "application/json"
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
# The signing keys are served as application/jwk-set+json only.
ACCEPT = f"{JSON}, */*"
# The client's own default is five minutes, in which a hung connection would hold a worker.
REQUEST_SECONDS = 15.0
# An admission webhook may take 30 s, and what the API server says of one that does not answer comes after that.
ADMISSION_SECONDS = 35.0


class ApiError(Exception):
    """The API server's refusal, with its HTTP status code, its reason, and the fields that it found invalid."""

    def __init__(self, status: int, reason: str, message: str, fields: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.fields = fields


# What a request raises when the API server refuses it, is away, or is too slow.
API_ERRORS = (ApiError, aiohttp.ClientError, OSError, TimeoutError)


async def connect() -> ApiClient:
    """A client for ``KUBECONFIG`` where that is set, else for the pod's service account, else for ~/.kube/config.

    Raises kubernetes.aio.config.ConfigException when none of them is usable.
    """
    configuration = Configuration()
    kubeconfig = os.environ.get("KUBECONFIG")
    if not kubeconfig and "KUBERNETES_SERVICE_HOST" in os.environ:
        load_incluster_config(configuration)
    else:
        await load_kube_config(config_file=kubeconfig, client_configuration=configuration, persist_config=False)
    configuration.proxy = configuration.proxy or _proxy(configuration.host)
    # aiohttp would look for a proxy in the environment at each request, in a thread: a third of a request's cost.
    configuration.client_session_kwargs = {"trust_env": False}
    return ApiClient(configuration)


def _proxy(url: str) -> str | None:
    """The proxy that the environment names for a URL (HTTPS_PROXY, NO_PROXY), if any."""
    parts = urlsplit(url)
    return None if proxy_bypass(parts.hostname or "") else getproxies().get(parts.scheme)


async def request(
    client: ApiClient,
    method: str,
    path: str,
    *,
    query: Mapping[str, str] | None = None,
    body: Any = None,
    content_type: str = JSON,
    seconds: float | None = None,
) -> dict[str, Any]:
    """Sends one request, which ends after ``seconds`` or REQUEST_SECONDS, and returns the object in the answer.

    Raises one of API_ERRORS: ApiError for an answer of status 400 and up.
    """
    url = client.configuration.host + path + (f"?{urlencode(query)}" if query else "")
    headers = {"Accept": ACCEPT, "Content-Type": content_type}
    # Asks for the token each time: a service account's is renewed while the process runs.
    for setting in (await client.configuration.auth_settings()).values():
        headers[setting["key"]] = setting["value"]
    response = await client.rest_client.request(
        method, url, headers=headers, body=body, _request_timeout=seconds or REQUEST_SECONDS
    )
    content = _content(await response.read())
    if response.status >= 400:
        causes = (content.get("details") or {}).get("causes") or []
        fields = tuple(str(one.get("field", "")) for one in causes)
        raise ApiError(response.status, content.get("reason", ""), content.get("message", ""), fields)
    return content


def _content(answer: bytes) -> dict[str, Any]:
    """A proxy, or an API server that is going down, answers with plain text."""
    try:
        content = json.loads(answer)
    except ValueError:
        return {"message": answer.decode(errors="replace")}
    return content if isinstance(content, dict) else {}


def describe(error: Exception) -> str:
    """An error in one short line."""
    if isinstance(error, ApiError):
        text = f"{error.status} {error}"
    elif isinstance(error, TimeoutError):
        text = f"no answer in time {error}"
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:200]
