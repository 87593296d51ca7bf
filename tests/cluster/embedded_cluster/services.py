"""What makes Services and names work: kube-proxy, and CoreDNS behind the Service kube-dns."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded_cluster import network, node_config
from embedded_cluster.command import run
from embedded_cluster.control_plane import API_SERVICE_ADDRESS, ControlPlane
from embedded_cluster.kubeconfig import CONTEXT
from embedded_cluster.pki import Identity
from embedded_cluster.ports import accepts_connections
from embedded_cluster.probe import answers
from embedded_cluster.process import Daemon

PROXY_IDENTITY = Identity(name="proxy", user="system:kube-proxy")
DNS_IDENTITY = Identity(name="coredns", user="system:coredns")
# Behind both stand processes of the host, so that a connection shows that kube-proxy has written its rules.
SERVICE_ENDPOINTS = ((node_config.DNS_SERVICE_ADDRESS, 53), (API_SERVICE_ADDRESS, 443))
READY_SECONDS = 30
# kube-proxy's own clean-up leaves this one, because kubelet may share it; ours makes none.
SHARED_CHAIN = "KUBE-FIREWALL"

Object = Mapping[str, object]


@dataclass(frozen=True)
class Services:
    plane: ControlPlane

    def proxy(self) -> Daemon:
        return self._daemon("kube-proxy", f"--config={self._proxy_config}")

    def dns(self) -> Daemon:
        return self._daemon("coredns", "-conf", str(self._corefile))

    def start(self) -> None:
        """Starts both if they do not run, and waits until a Service is reachable by its address."""
        self._proxy_config.write_text(node_config.kube_proxy(self.plane.kubeconfig_of(PROXY_IDENTITY.name)))
        self._corefile.write_text(node_config.corefile(self.plane.kubeconfig_of(DNS_IDENTITY.name), CONTEXT))
        self.plane.kubectl.apply([*_dns_access(), _dns_service(), _dns_endpoints()])
        proxy, dns = self.proxy(), self.dns()
        proxy.start()
        dns.start()
        dns.wait_until_ready(
            lambda: answers(f"http://{node_config.LOOPBACK}:{node_config.DNS_READY_PORT}/ready"), READY_SECONDS
        )
        proxy.wait_until_ready(lambda: all(map(accepts_connections, SERVICE_ENDPOINTS)), READY_SECONDS)

    def stop(self) -> None:
        """Stops both and removes kube-proxy's rules."""
        self.dns().stop()
        self.proxy().stop()
        if self._proxy_config.exists():
            run(str(self.plane.binaries["kube-proxy"]), "--cleanup")
            network.remove_chain(SHARED_CHAIN)

    @property
    def _proxy_config(self) -> Path:
        return self.plane.state.run / "kube-proxy.yaml"

    @property
    def _corefile(self) -> Path:
        return self.plane.state.run / "Corefile"

    def _daemon(self, name: str, *arguments: str) -> Daemon:
        state = self.plane.state
        command = [str(self.plane.binaries[name]), *arguments]
        return Daemon(name=name, command=command, run_dir=state.run, log_dir=state.log)


def _dns_access() -> list[Object]:
    name = DNS_IDENTITY.user
    rules = [
        {"apiGroups": [""], "resources": ["services", "namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    user = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": name}
    return [
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": name},
            "rules": rules,
        },
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": role,
            "subjects": [user],
        },
    ]


def _dns_service() -> Object:
    """Without a selector: CoreDNS is a process of the host and no pod."""
    ports = [{"name": f"dns-{protocol.lower()}", "port": 53, "protocol": protocol} for protocol in ("UDP", "TCP")]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "kube-dns", "namespace": "kube-system", "labels": {"k8s-app": "kube-dns"}},
        "spec": {"clusterIP": node_config.DNS_SERVICE_ADDRESS, "ports": ports},
    }


def _dns_endpoints() -> Object:
    ports = [
        {"name": f"dns-{protocol.lower()}", "port": node_config.DNS_PORT, "protocol": protocol}
        for protocol in ("UDP", "TCP")
    ]
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kube-dns-host",
            "namespace": "kube-system",
            "labels": {"kubernetes.io/service-name": "kube-dns"},
        },
        "addressType": "IPv4",
        "endpoints": [{"addresses": [network.NODE_ADDRESS], "conditions": {"ready": True}}],
        "ports": ports,
    }
