"""The whole cluster: a control plane, this machine as its node, Services, and the image registry."""

import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from embedded_cluster import host, network, node_config, preflight, registry
from embedded_cluster.build import Binaries, build
from embedded_cluster.builder import find_builder
from embedded_cluster.control_plane import ControlPlane
from embedded_cluster.errors import ClusterError
from embedded_cluster.image_builds import Images
from embedded_cluster.image_content import PAUSE
from embedded_cluster.kubectl import Kubectl
from embedded_cluster.leftovers import leftovers
from embedded_cluster.lock import locked
from embedded_cluster.node import IDENTITY, Node
from embedded_cluster.ports import require_free
from embedded_cluster.process import Daemon, wait_until
from embedded_cluster.services import DNS_IDENTITY, PROXY_IDENTITY, Services
from embedded_cluster.state import State

# A container's shim ends a little after its container.
LEFTOVER_SECONDS = 10


@dataclass(frozen=True)
class Cluster:
    """One cluster a state folder; ``report`` takes a line for each phase."""

    state: State = field(default_factory=State.default)
    report: Callable[[str], None] = print

    @property
    def kubectl(self) -> Kubectl:
        return self.plane.kubectl

    @property
    def plane(self) -> ControlPlane:
        return ControlPlane(
            state=self.state,
            binaries=self._linked_binaries(),
            address=network.NODE_ADDRESS,
            identities=[IDENTITY, PROXY_IDENTITY, DNS_IDENTITY],
        )

    @property
    def node(self) -> Node:
        return Node(self.plane)

    @property
    def services(self) -> Services:
        return Services(self.plane)

    def daemons(self) -> list[Daemon]:
        node, services = self.node, self.services
        return [
            registry.daemon(self.state),
            *self.plane.daemons(),
            node.containerd(),
            node.kubelet(),
            services.proxy(),
            services.dns(),
        ]

    def is_up(self) -> bool:
        """Whether every process of the cluster lives."""
        return all(daemon.pid for daemon in self.daemons())

    def up(self) -> bool:
        """Starts what does not run and returns when pods can run and Services resolve; False when all ran already.

        Raises:
            ClusterError: something that the machine lacks, a port taken, or a component that did not become ready.
        """
        preflight.require_root(os.geteuid())
        with locked(self.state.root / "lock"):
            if self.is_up():
                self.report("the cluster is up already")
                return False
            self._start()
        return True

    def down(self) -> bool:
        """Stops and removes everything that ``up`` made but ``cache``, ``log`` and ``volumes``; False if all was gone.

        Raises:
            ClusterError: something would not end; the message lists it.
        """
        preflight.require_root(os.geteuid())
        with locked(self.state.root / "lock"):
            if not self._left():
                self.report("the cluster is down already")
                return False
            self._stop()
        return True

    def _start(self) -> None:
        with self._phase("checks"):
            preflight.check()
            endpoints = self.plane.endpoints() | node_config.ENDPOINTS
            for daemon in self.daemons():
                if daemon.pid is None:
                    require_free(daemon.name, endpoints.get(daemon.name, ()))
        with self._phase("binaries"):
            self._link_binaries(build(self.state, self.report))
        with self._phase("registry"):
            registry.start(self.state)
            Images(state=self.state, builder=find_builder(self.state), report=self.report).push(PAUSE)
        with self._phase("network"):
            host.prepare(self.state)
            network.up()
        with self._phase("control plane"):
            self.plane.start()
        with self._phase("containerd"):
            self.node.start_containerd()
        with self._phase("kubelet"):
            self.node.start_kubelet()
        with self._phase("services"):
            self.services.start()

    def _stop(self) -> None:
        with self._phase("services"):
            self.services.stop()
        with self._phase("node"):
            self.node.stop()
        with self._phase("control plane"):
            self.plane.stop()
        with self._phase("registry"):
            registry.stop(self.state)
        with self._phase("network"):
            network.down()
            host.restore(self.state)
            self._require_nothing_left()
            for path in self._left():
                _remove(path)

    def _require_nothing_left(self) -> None:
        with suppress(ClusterError):
            wait_until(lambda: not leftovers(self.state), LEFTOVER_SECONDS, "end of the cluster")
        if left := leftovers(self.state):
            raise ClusterError("still there, try again or remove by hand:\n" + "\n".join(left))

    def _left(self) -> list[Path]:
        paths = self.state.run.iterdir() if self.state.run.exists() else ()
        return [path for path in paths if path != self.state.image_references]

    def _linked_binaries(self) -> Binaries:
        """Links, so that ``down`` stops what ``up`` started even when the modules have changed since."""
        return Binaries(kubernetes=self.state.binaries, coredns=self.state.run / "coredns")

    def _link_binaries(self, built: Binaries) -> None:
        links = self._linked_binaries()
        for link, target in ((links.kubernetes, built.kubernetes), (links.coredns, built.coredns)):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.unlink(missing_ok=True)
            link.symlink_to(target)

    @contextmanager
    def _phase(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.report(f"{name:<14}{time.monotonic() - started:6.1f} s")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()
