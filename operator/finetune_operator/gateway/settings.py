"""The gateway's settings, from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

Port = Annotated[int, Field(ge=1, le=65535)]


class Settings(BaseModel):
    """Each field is the environment variable of its alias."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    namespace: Annotated[str, Field(alias="OPERATOR_NAMESPACE", min_length=1)]
    service: Annotated[str, Field(alias="GATEWAY_SERVICE")] = "finetune-gateway"
    extra_hosts: Annotated[str, Field(alias="GATEWAY_EXTRA_HOSTS")] = ""  # DNS names, separated by commas
    address: Annotated[str, Field(alias="GATEWAY_ADDRESS")] = "0.0.0.0"
    port: Annotated[Port, Field(alias="GATEWAY_PORT")] = 8443
    health_port: Annotated[Port, Field(alias="GATEWAY_HEALTH_PORT")] = 8080
    flush_seconds: Annotated[float, Field(alias="GATEWAY_FLUSH_SECONDS", gt=0, le=3600)] = 5.0
    writes_per_second: Annotated[float, Field(alias="GATEWAY_WRITES_PER_SECOND", gt=0, le=1000)] = 30.0
    max_jobs: Annotated[int, Field(alias="GATEWAY_MAX_JOBS", ge=1, le=1_000_000)] = 10_000
    pushes_per_second: Annotated[float, Field(alias="GATEWAY_PUSHES_PER_SECOND", gt=0, le=1000)] = 1.0
    # A port each. With TLS, asyncio's buffer and the longest head a connection takes 0.5 MiB, without TLS 0.2 MiB: with
    # the process's own 75 MiB, all of them stay below the container's limit of 256Mi.
    max_connections: Annotated[int, Field(alias="GATEWAY_MAX_CONNECTIONS", ge=1, le=100_000)] = 192
    head_seconds: Annotated[float, Field(alias="GATEWAY_HEAD_SECONDS", gt=0, le=3600)] = 10.0
    renewal_seconds: Annotated[float, Field(alias="GATEWAY_RENEWAL_CHECK_SECONDS", gt=0, le=86_400)] = 600.0

    @property
    def hosts(self) -> list[str]:
        """The DNS names under which pods reach the gateway."""
        service = f"{self.service}.{self.namespace}.svc"
        extra = [host.strip() for host in self.extra_hosts.split(",") if host.strip()]
        return [service, f"{service}.cluster.local", *extra]


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Reads the settings. Raises ValueError with one line that names the variable."""
    try:
        return Settings.model_validate(environment)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise ValueError(f"environment variable {first['loc'][0]}: {first['msg']}") from None
