"""Configuration files of the embedded node."""

import json
import tomllib
from pathlib import Path

import yaml

from embedded_cluster import node_config
from embedded_cluster.pki import Pki
from embedded_cluster.state import State

STATE = State(Path("/state"))


def test_containerd_keeps_images_in_the_cache_and_all_else_where_down_removes_it() -> None:
    config = tomllib.loads(node_config.containerd(STATE))
    cri = config["plugins"]["io.containerd.grpc.v1.cri"]
    assert config["root"] == "/state/cache/containerd"
    for path in (config["state"], config["grpc"]["address"], cri["cni"]["conf_dir"]):
        assert path.startswith("/state/run/")
    assert cri["netns_mounts_under_state_dir"] is True


def test_pods_get_addresses_of_the_bridges_network() -> None:
    (bridge,) = json.loads(node_config.cni(STATE))["plugins"]
    (((addresses,),),) = [bridge["ipam"]["ranges"]]
    assert addresses == {"subnet": "10.97.0.0/16", "gateway": "10.97.0.1"}
    assert bridge["ipam"]["dataDir"].startswith("/state/run/")


def test_kubelet_refuses_anonymous_callers() -> None:
    config = yaml.safe_load(node_config.kubelet(STATE, Pki(Path("/pki"))))
    assert config["authentication"]["anonymous"] == {"enabled": False}
    assert config["authorization"] == {"mode": "Webhook"}


def test_names_outside_the_cluster_are_asked_of_the_hosts_resolver(tmp_path: Path) -> None:
    resolv_conf = tmp_path / "resolv.conf"
    resolv_conf.write_text("search example.com\nnameserver 192.0.2.1\n")
    corefile = node_config.corefile(Path("/kubeconfig"), "embedded", resolv_conf)
    assert f"forward . {resolv_conf}" in corefile
    assert "kubeconfig /kubeconfig embedded" in corefile


def test_a_host_without_a_resolver_still_gets_the_clusters_names(tmp_path: Path) -> None:
    """CoreDNS refuses to start when it is told to forward to nobody."""
    empty = tmp_path / "resolv.conf"
    empty.write_text("search example.com\n")
    for resolv_conf in (empty, tmp_path / "missing"):
        corefile = node_config.corefile(Path("/kubeconfig"), "embedded", resolv_conf)
        assert "forward" not in corefile
        assert "kubernetes cluster.local" in corefile
