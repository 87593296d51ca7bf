"""The connection to the API server that operator and gateway share."""

from __future__ import annotations

import os
from typing import Any

import aiohttp
from kubernetes.aio.client import ApiClient, ApiException, Configuration
from kubernetes.aio.config import load_incluster_config, load_kube_config

# The client's own default is five minutes, in which a hung connection would hold a worker.
REQUEST_SECONDS = 15.0

# What a request raises when the API server refuses it, is away, or is too slow.
API_ERRORS = (ApiException, aiohttp.ClientError, OSError, TimeoutError)


class BoundedApiClient(ApiClient):  # type: ignore[misc]
    """An ApiClient whose requests end after REQUEST_SECONDS unless the call says otherwise."""

    async def call_api(self, *args: Any, _request_timeout: Any = None, **kwargs: Any) -> Any:
        timeout = _request_timeout or REQUEST_SECONDS
        return await super().call_api(*args, _request_timeout=timeout, **kwargs)


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
    return BoundedApiClient(configuration)


def describe(error: Exception) -> str:
    """An error in one short line; an ApiException's own text has all headers and the body."""
    text = f"{error.status} {error.reason}" if isinstance(error, ApiException) else f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:200]
