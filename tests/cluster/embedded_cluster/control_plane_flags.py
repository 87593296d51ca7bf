"""The command-line flags of the control plane's components."""

from pathlib import Path

from embedded_cluster.pki import Pki
from embedded_cluster.ports import ControlPlanePorts

LOOPBACK = "127.0.0.1"
SERVICE_CIDR = "10.96.0.0/16"
ISSUER = "https://kubernetes.default.svc"
# The components throttle themselves below what one machine can do: without these, 1,000 Jobs take minutes.
CLIENT_RATE = {"kube-api-qps": "1000", "kube-api-burst": "2000"}

Flags = dict[str, str]


def etcd(pki: Pki, ports: ControlPlanePorts, data: Path) -> Flags:
    client, peer = f"https://{LOOPBACK}:{ports.etcd}", f"https://{LOOPBACK}:{ports.etcd_peer}"
    files = {
        "cert-file": str(pki.certificate("etcd")),
        "key-file": str(pki.key("etcd")),
        "trusted-ca-file": str(pki.ca),
        "client-cert-auth": "true",
    }
    return {
        "name": "embedded",
        "data-dir": str(data),
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"embedded={peer}",
        **files,
        **{f"peer-{flag}": value for flag, value in files.items()},
        # The data is thrown away with the cluster, so it need not survive a power cut.
        "unsafe-no-fsync": "true",
        "log-level": "warn",
    }


def kube_apiserver(pki: Pki, ports: ControlPlanePorts, address: str) -> Flags:
    certificate, key = str(pki.certificate("apiserver")), str(pki.key("apiserver"))
    return {
        "bind-address": address,
        "advertise-address": address,
        "secure-port": str(ports.apiserver),
        "service-cluster-ip-range": SERVICE_CIDR,
        # The endpoints of the Service "kubernetes" can't be a loopback address.
        "endpoint-reconciler-type": "none" if address == LOOPBACK else "lease",
        "etcd-servers": f"https://{LOOPBACK}:{ports.etcd}",
        "etcd-cafile": str(pki.ca),
        "etcd-certfile": certificate,
        "etcd-keyfile": key,
        "client-ca-file": str(pki.ca),
        "tls-cert-file": certificate,
        "tls-private-key-file": key,
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "service-account-issuer": ISSUER,
        "service-account-key-file": str(pki.service_account_public_key),
        "service-account-signing-key-file": str(pki.service_account_key),
        "kubelet-certificate-authority": str(pki.ca),
        "kubelet-client-certificate": certificate,
        "kubelet-client-key": key,
        # The node's name is in no DNS, so logs and exec must go to its address.
        "kubelet-preferred-address-types": "InternalIP",
    }


def kube_controller_manager(pki: Pki, ports: ControlPlanePorts, kubeconfig: Path) -> Flags:
    return _client(pki, "controller-manager", ports.controller_manager, kubeconfig) | {
        "root-ca-file": str(pki.ca),
        "service-account-private-key-file": str(pki.service_account_key),
        "use-service-account-credentials": "true",
        "concurrent-job-syncs": "20",
        # A claim that comes before its volume is looked at again only then, and the default is 15 s.
        "pvclaimbinder-sync-period": "2s",
    }


def kube_scheduler(pki: Pki, ports: ControlPlanePorts, kubeconfig: Path) -> Flags:
    return _client(pki, "scheduler", ports.scheduler, kubeconfig)


def _client(pki: Pki, identity: str, port: int, kubeconfig: Path) -> Flags:
    return CLIENT_RATE | {
        "bind-address": LOOPBACK,
        "secure-port": str(port),
        "tls-cert-file": str(pki.certificate(identity)),
        "tls-private-key-file": str(pki.key(identity)),
        "kubeconfig": str(kubeconfig),
        # There is one of each: waiting for a lease only costs time.
        "leader-elect": "false",
    }
