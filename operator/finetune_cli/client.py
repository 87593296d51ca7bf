"""The only module that talks to the API server: lists and watches FineTuneJobs, and runs a pod that reads a file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any

from kubernetes.client import ApiClient, ApiException, BatchV1Api, Configuration, CoreV1Api, CustomObjectsApi
from kubernetes.config import (
    KUBE_CONFIG_DEFAULT_LOCATION,
    ConfigException,
    list_kube_config_contexts,
    load_kube_config,
)
from kubernetes.watch import Watch
from pydantic import ValidationError

from finetune_api.job import FineTuneJob
from finetune_api.names import GROUP, PLURAL, VERSION
from finetune_cli.errors import CliError, explain_object

CONNECT_SECONDS = 5
ANSWER_SECONDS = 15
_TIMEOUTS = (CONNECT_SECONDS, ANSWER_SECONDS)


@dataclass(frozen=True)
class JobList:
    """The jobs of a list call, and the version to watch from."""

    jobs: tuple[FineTuneJob, ...]
    resource_version: str


@dataclass(frozen=True)
class JobEvent:
    """One watch event."""

    deleted: bool
    job: FineTuneJob


@dataclass(frozen=True)
class JobClient:
    """FineTuneJobs of one namespace.

    Its calls raise ApiException, or an HTTPError of urllib3 when the server can't be reached.
    """

    api: Any  # kubernetes.client.CustomObjectsApi, which is untyped
    namespace: str

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self.api.api_client.configuration.host)

    def names(self) -> list[str]:
        """The names of all jobs."""
        return [item["metadata"]["name"] for item in self._list()["items"]]

    def list(self, name: str) -> JobList:
        """The job of a name: one or none."""
        answer = self._list(field_selector=f"metadata.name={name}")
        return JobList(tuple(map(_read, answer["items"])), answer["metadata"]["resourceVersion"])

    def watch(self, name: str, resource_version: str, seconds: int) -> Iterator[JobEvent]:
        """Changes of the job after a version, for at most ``seconds``."""
        stream = Watch().stream(
            self.api.list_namespaced_custom_object,
            *self._where,
            field_selector=f"metadata.name={name}",
            resource_version=resource_version,
            timeout_seconds=seconds,
            # The server ends the watch; the client's own limit is for a connection that died silently.
            _request_timeout=(CONNECT_SECONDS, seconds + ANSWER_SECONDS),
        )
        for event in stream:
            yield JobEvent(event["type"] == "DELETED", _read(event["object"]))

    @property
    def pods(self) -> PodClient:
        """The pods of the same namespace."""
        return PodClient(self.api.api_client, self.namespace)

    @property
    def _where(self) -> tuple[str, str, str, str]:
        return GROUP, VERSION, self.namespace, PLURAL

    def _list(self, **options: Any) -> dict[str, Any]:
        timeouts = (CONNECT_SECONDS, ANSWER_SECONDS)
        answer: dict[str, Any] = self.api.list_namespaced_custom_object(
            *self._where, _request_timeout=timeouts, **options
        )
        return answer


@dataclass(frozen=True)
class PodClient:
    """Pods of one namespace, and the batch/v1 Jobs that made them, as the API server writes them.

    Its calls raise ApiException, or an HTTPError of urllib3 when the server can't be reached.
    """

    api_client: Any  # kubernetes.client.ApiClient
    namespace: str

    def create(self, pod: dict[str, Any]) -> None:
        """Creates a pod."""
        CoreV1Api(self.api_client).create_namespaced_pod(self.namespace, pod, _request_timeout=_TIMEOUTS)

    def get(self, name: str) -> dict[str, Any]:
        """A pod as it stands."""
        pod = CoreV1Api(self.api_client).read_namespaced_pod(name, self.namespace, _request_timeout=_TIMEOUTS)
        return self._document(pod)

    def log(self, name: str, container: str) -> str:
        """All that a container has printed."""
        answer = CoreV1Api(self.api_client).read_namespaced_pod_log(
            name, self.namespace, container=container, _preload_content=False, _request_timeout=_TIMEOUTS
        )
        return str(answer.data.decode("utf-8", errors="replace"))

    def delete(self, name: str) -> None:
        """Deletes a pod at once; one that isn't there is deleted."""
        try:
            CoreV1Api(self.api_client).delete_namespaced_pod(
                name, self.namespace, grace_period_seconds=0, _request_timeout=_TIMEOUTS
            )
        except ApiException as error:
            if error.status != HTTPStatus.NOT_FOUND:
                raise

    def batch_job(self, name: str) -> dict[str, Any] | None:
        """A Job; None for one that isn't there, or that the user may not see."""
        try:
            job = BatchV1Api(self.api_client).read_namespaced_job(name, self.namespace, _request_timeout=_TIMEOUTS)
        except ApiException as error:
            if error.status in (HTTPStatus.NOT_FOUND, HTTPStatus.FORBIDDEN):
                return None
            raise
        return self._document(job)

    def _document(self, found: Any) -> dict[str, Any]:
        document: dict[str, Any] = self.api_client.sanitize_for_serialization(found)
        return document


def connect(kubeconfig: Path | None, context: str | None, namespace: str | None) -> JobClient:
    """A client for a kubeconfig's context. The namespace defaults to the context's own.

    Raises CliError when the kubeconfig can't be used.
    """
    file = str(kubeconfig) if kubeconfig else None
    try:
        contexts, current = list_kube_config_contexts(config_file=file)
        chosen = _choose(contexts, current, context)
        configuration = Configuration()
        load_kube_config(
            config_file=file, context=chosen["name"], client_configuration=configuration, persist_config=False
        )
    except ConfigException as error:
        where = file or KUBE_CONFIG_DEFAULT_LOCATION
        raise CliError(f"can't use the kubeconfig {where}: {error} Set KUBECONFIG or pass --kubeconfig.") from error
    configuration.retries = False  # the caller retries, and says so
    api = CustomObjectsApi(ApiClient(configuration))
    return JobClient(api, namespace or chosen["context"].get("namespace") or "default")


def _choose(contexts: list[dict[str, Any]], current: dict[str, Any], wanted: str | None) -> dict[str, Any]:
    if wanted is None:
        return current
    for context in contexts:
        if context["name"] == wanted:
            return context
    raise CliError(f"no context {wanted!r} in the kubeconfig; there are: {', '.join(c['name'] for c in contexts)}")


def _read(item: dict[str, Any]) -> FineTuneJob:
    try:
        return FineTuneJob.model_validate(item)
    except ValidationError as error:
        metadata = item.get("metadata", {})
        raise CliError(
            explain_object(error, f"FineTuneJob {metadata.get('namespace')}/{metadata.get('name')}")
        ) from error
