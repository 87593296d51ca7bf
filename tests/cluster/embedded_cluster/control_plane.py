"""etcd, kube-apiserver, kube-controller-manager and kube-scheduler: alone for API tests, or as part of the cluster."""

import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from embedded_cluster import control_plane_flags as flags
from embedded_cluster.build import Binaries, build
from embedded_cluster.kubeconfig import write_kubeconfig
from embedded_cluster.kubectl import Kubectl
from embedded_cluster.pki import Identity, Pki
from embedded_cluster.ports import ControlPlanePorts, Endpoint, require_free
from embedded_cluster.probe import answers, client_context
from embedded_cluster.process import Daemon, wait_until
from embedded_cluster.state import State

API_SERVICE_ADDRESS = "10.96.0.1"
CLUSTER_DOMAIN = "cluster.local"
START_SECONDS = 60


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """A control plane whose data lies below ``state.run``.

    ``address`` is where the API server listens and what it tells pods; the others listen on the loopback only.
    ``controllers`` and ``scheduler`` say whether those run. With ``dies_with_parent`` all end with the thread that
    started them. ``identities`` are further certificates to issue, each with a kubeconfig.
    """

    state: State
    binaries: Binaries
    ports: ControlPlanePorts = field(default_factory=ControlPlanePorts)
    address: str = flags.LOOPBACK
    controllers: bool = True
    scheduler: bool = True
    dies_with_parent: bool = False
    identities: Sequence[Identity] = ()

    @property
    def server(self) -> str:
        """The API server's URL."""
        return f"https://{self.address}:{self.ports.apiserver}"

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.state.kubeconfig

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.binaries["kubectl"], self.kubeconfig)

    @property
    def pki(self) -> Pki:
        return Pki(self.state.run / "pki")

    def kubeconfig_of(self, identity: str) -> Path:
        return self.state.run / "kubeconfigs" / identity

    def start(self) -> None:
        """Starts what does not run yet and returns when all of it is ready; starting twice does nothing.

        Raises:
            ClusterError: a port is taken, or a component died or was not ready in time.
        """
        etcd, apiserver, *clients = daemons = self.daemons()
        for daemon in daemons:
            if daemon.pid is None:
                require_free(daemon.name, self.endpoints()[daemon.name])
        self._write_credentials()
        context = client_context(self.pki, "admin")
        _start(etcd, f"https://{flags.LOOPBACK}:{self.ports.etcd}/health", context)
        _start(apiserver, f"{self.server}/readyz", context)
        for client in clients:
            client.start()
        for client in clients:
            [(host, port)] = self.endpoints()[client.name]
            _start(client, f"https://{host}:{port}/healthz", context)
        # The API server makes it just after it says that it is ready.
        namespace = f"{self.server}/api/v1/namespaces/default"
        wait_until(lambda: answers(namespace, context), START_SECONDS, "creation of the namespace default")

    def stop(self) -> None:
        """Stops what runs, clients before servers; stopping twice does nothing."""
        for daemon in reversed(self.daemons()):
            daemon.stop()

    def daemons(self) -> list[Daemon]:
        """In the order in which they depend on each other."""
        pki, ports, run = self.pki, self.ports, self.state.run
        components = {
            "etcd": flags.etcd(pki, ports, run / "etcd"),
            "kube-apiserver": flags.kube_apiserver(pki, ports, self.address),
        }
        if self.controllers:
            kubeconfig = self.kubeconfig_of("controller-manager")
            components["kube-controller-manager"] = flags.kube_controller_manager(pki, ports, kubeconfig)
        if self.scheduler:
            components["kube-scheduler"] = flags.kube_scheduler(pki, ports, self.kubeconfig_of("scheduler"))
        return [self._daemon(name, each) for name, each in components.items()]

    def endpoints(self) -> dict[str, list[Endpoint]]:
        """Where each component listens; only the API server is meant for others than the control plane."""
        ports = self.ports
        return {
            "etcd": [(flags.LOOPBACK, ports.etcd), (flags.LOOPBACK, ports.etcd_peer)],
            "kube-apiserver": [(self.address, ports.apiserver)],
            "kube-controller-manager": [(flags.LOOPBACK, ports.controller_manager)],
            "kube-scheduler": [(flags.LOOPBACK, ports.scheduler)],
        }

    def _daemon(self, name: str, component_flags: flags.Flags) -> Daemon:
        return Daemon(
            name=name,
            command=[str(self.binaries[name]), *(f"--{flag}={value}" for flag, value in component_flags.items())],
            run_dir=self.state.run,
            log_dir=self.state.log,
            dies_with_parent=self.dies_with_parent,
        )

    def _write_credentials(self) -> None:
        loopback = ("localhost", flags.LOOPBACK)
        service = ("kubernetes", "kubernetes.default", "kubernetes.default.svc")
        apiserver = (*loopback, self.address, API_SERVICE_ADDRESS, *service, f"{service[-1]}.{CLUSTER_DOMAIN}")
        clients = (
            Identity(name="admin", user="kubernetes-admin", groups=["system:masters"]),
            Identity(name="controller-manager", user="system:kube-controller-manager", hosts=loopback),
            Identity(name="scheduler", user="system:kube-scheduler", hosts=loopback),
            *self.identities,
        )
        servers = (
            Identity(name="etcd", user="etcd", hosts=loopback),
            Identity(name="apiserver", user="kube-apiserver", groups=["system:masters"], hosts=apiserver),
        )
        self.pki.ensure([*servers, *clients], datetime.now(UTC))
        for client in clients:
            write_kubeconfig(self.kubeconfig_of(client.name), self.server, self.pki, client.name)
        write_kubeconfig(self.kubeconfig, self.server, self.pki, "admin")


def _start(daemon: Daemon, url: str, context: ssl.SSLContext) -> None:
    daemon.start()
    daemon.wait_until_ready(lambda: answers(url, context), START_SECONDS)


@contextmanager
def temporary_control_plane(
    *, controllers: bool = False, scheduler: bool = False, report: Callable[[str], None] = print
) -> Iterator[ControlPlane]:
    """A control plane on free ports in a temporary folder, gone at the end of the ``with`` block or of this process.

    It runs beside any other. The binaries come from the default state folder and are built if they are missing.
    Without ``controllers`` no Job makes a pod and no namespace gets its default ServiceAccount.

    Raises:
        ClusterError: as ``build`` and ``ControlPlane.start`` do.
    """
    binaries = build(State.default(), report)
    root = Path(tempfile.mkdtemp(prefix="embedded-control-plane-"))
    plane = ControlPlane(
        state=State(root),
        binaries=binaries,
        ports=ControlPlanePorts.free(),
        controllers=controllers,
        scheduler=scheduler,
        dies_with_parent=True,
    )
    try:
        plane.start()
        yield plane
    finally:
        plane.stop()
        shutil.rmtree(root)
