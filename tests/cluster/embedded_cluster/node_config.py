"""The configuration files of containerd, its network plugins, kubelet, kube-proxy and CoreDNS."""

import json
from pathlib import Path

import yaml

from embedded_cluster.network import BRIDGE, NODE_ADDRESS, POD_CIDR
from embedded_cluster.pki import Pki
from embedded_cluster.ports import Endpoint
from embedded_cluster.state import State

NODE_NAME = "embedded"
CLUSTER_DOMAIN = "cluster.local"
DNS_SERVICE_ADDRESS = "10.96.0.10"
PAUSE_IMAGE = "127.0.0.1:5000/pause:1"
LOOPBACK = "127.0.0.1"
CRI_STREAM_PORT = 10010
KUBELET_PORT = 10250
KUBELET_HEALTH_PORT = 10248
PROXY_METRICS_PORT = 10249
PROXY_HEALTH_PORT = 10256
DNS_PORT = 10053
DNS_READY_PORT = 10054
ENDPOINTS: dict[str, list[Endpoint]] = {
    "containerd": [(LOOPBACK, CRI_STREAM_PORT)],
    "kubelet": [(NODE_ADDRESS, KUBELET_PORT), (LOOPBACK, KUBELET_HEALTH_PORT)],
    "kube-proxy": [(LOOPBACK, PROXY_METRICS_PORT), (LOOPBACK, PROXY_HEALTH_PORT)],
    "coredns": [(NODE_ADDRESS, DNS_PORT), (LOOPBACK, DNS_READY_PORT)],
}


def containerd(state: State) -> str:
    """TOML. Images stay in ``cache``; all else, network namespaces too, lies in ``run`` and goes with it."""
    run = state.run
    return f"""\
version = 2
root = "{containerd_root(state)}"
state = "{run / "containerd"}"
oom_score = 0
# Other snapshotters only complain in the log; "opt" makes a folder in /opt.
disabled_plugins = [
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.aufs",
  "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs",
  "io.containerd.tracing.processor.v1.otlp",
]

[grpc]
address = "{containerd_socket(state)}"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE_IMAGE}"
disable_apparmor = true
stream_server_address = "{LOOPBACK}"
stream_server_port = "{CRI_STREAM_PORT}"
# Without it no pod starts where CAP_SYS_RESOURCE is missing.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{run / "cni"}"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
SystemdCgroup = false
Root = "{run / "runc"}"
"""


def containerd_root(state: State) -> Path:
    """Images and snapshots; they survive ``down``."""
    return state.cache / "containerd"


def containerd_socket(state: State) -> Path:
    return state.run / "containerd.sock"


def pod_logs(state: State) -> Path:
    return state.log / "pods"


def cni(state: State) -> str:
    """JSON: every pod gets a port of the bridge and an address of the pod network."""
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isGateway": True,
        "hairpinMode": True,
        "ipam": {
            "type": "host-local",
            "ranges": [[{"subnet": POD_CIDR, "gateway": NODE_ADDRESS}]],
            "routes": [{"dst": "0.0.0.0/0"}],
            "dataDir": str(state.run / "cni-addresses"),
        },
    }
    return json.dumps({"cniVersion": "1.0.0", "name": "embedded", "plugins": [bridge]}, indent=2)


def kubelet(state: State, pki: Pki) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "address": NODE_ADDRESS,
            "port": KUBELET_PORT,
            "healthzBindAddress": LOOPBACK,
            "healthzPort": KUBELET_HEALTH_PORT,
            "authentication": {"anonymous": {"enabled": False}, "x509": {"clientCAFile": str(pki.ca)}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": str(pki.certificate("kubelet")),
            "tlsPrivateKeyFile": str(pki.key("kubelet")),
            "clusterDomain": CLUSTER_DOMAIN,
            "clusterDNS": [DNS_SERVICE_ADDRESS],
            "containerRuntimeEndpoint": f"unix://{containerd_socket(state)}",
            "cgroupDriver": "cgroupfs",
            "failCgroupV1": False,
            "failSwapOn": False,
            # Lowering either takes CAP_SYS_RESOURCE, which a container that serves as the machine may lack.
            "oomScoreAdj": 0,
            "maxOpenFiles": 20000,
            # kube-proxy makes the chains that it needs.
            "makeIPTablesUtilChains": False,
            "podLogsDir": str(pod_logs(state)),
            "volumePluginDir": str(state.run / "kubelet/volume-plugins"),
            # A developer's disk is often fuller than a node's: images stay, and pods run to the last percent.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "100Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
            },
        }
    )


def kube_proxy(kubeconfig: Path) -> str:
    return yaml.safe_dump(
        {
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "mode": "iptables",
            "clientConnection": {"kubeconfig": str(kubeconfig)},
            "clusterCIDR": POD_CIDR,
            "hostnameOverride": NODE_NAME,
            "metricsBindAddress": f"{LOOPBACK}:{PROXY_METRICS_PORT}",
            "healthzBindAddress": f"{LOOPBACK}:{PROXY_HEALTH_PORT}",
            # Leave the host's connection table and its loopback routing as they are.
            "conntrack": {"maxPerCore": 0, "min": 0},
            "iptables": {"localhostNodePorts": False},
        }
    )


def corefile(kubeconfig: Path, context: str, resolv_conf: Path = Path("/etc/resolv.conf")) -> str:
    """Names of the cluster are answered from the API server, others by the host's resolver where there is one."""
    forward = f"forward . {resolv_conf}" if has_nameserver(resolv_conf) else ""
    return f"""\
.:{DNS_PORT} {{
    bind {NODE_ADDRESS}
    errors
    ready {LOOPBACK}:{DNS_READY_PORT}
    cache 5
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig} {context}
        fallthrough in-addr.arpa ip6.arpa
    }}
    {forward}
}}
"""


def has_nameserver(resolv_conf: Path) -> bool:
    return resolv_conf.exists() and any(line.startswith("nameserver") for line in resolv_conf.read_text().splitlines())
