"""The operator's environment variables."""

from __future__ import annotations

import socket
from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """What an administrator sets on the operator's Deployment."""

    model_config = ConfigDict(frozen=True)

    operator_namespace: str  # profiles and the gateway's CA live here
    gateway_url: str = ""  # empty: pods report no progress
    watch_namespaces: tuple[str, ...] = ()  # empty: all
    instance: str = ""  # names this process in Events
    address: str = "0.0.0.0"  # the pod's own address, which may be of IPv6 alone
    health_port: int = 8080

    @property
    def host(self) -> str:
        """The address as a URL has it."""
        return f"[{self.address}]" if ":" in self.address else self.address

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Settings:
        """Reads OPERATOR_NAMESPACE, GATEWAY_URL, WATCH_NAMESPACES (comma-separated), POD_NAME, POD_IP and HEALTH_PORT.

        Raises ValueError when OPERATOR_NAMESPACE is missing or HEALTH_PORT is no number.
        """
        namespace = environ.get("OPERATOR_NAMESPACE", "")
        if not namespace:
            raise ValueError("OPERATOR_NAMESPACE is not set: it names the namespace that holds the profiles")
        watched = (name.strip() for name in environ.get("WATCH_NAMESPACES", "").split(","))
        return cls(
            operator_namespace=namespace,
            gateway_url=environ.get("GATEWAY_URL", "").rstrip("/"),
            watch_namespaces=tuple(name for name in watched if name),
            instance=environ.get("POD_NAME") or socket.gethostname(),
            address=environ.get("POD_IP") or "0.0.0.0",
            health_port=int(environ.get("HEALTH_PORT", "8080")),
        )
