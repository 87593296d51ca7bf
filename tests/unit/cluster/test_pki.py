"""Certificates and kubeconfigs of the embedded cluster."""

import base64
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from embedded_cluster.kubeconfig import write_kubeconfig
from embedded_cluster.pki import Identity, Pki

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KUBELET = Identity(name="kubelet", user="system:node:n", groups=["system:nodes"], hosts=["n", "10.97.0.1"])
ADMIN = Identity(name="admin", user="kubernetes-admin", groups=["system:masters"])


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    made = Pki(tmp_path / "pki")
    made.ensure([KUBELET, ADMIN], NOW)
    return made


def _certificate(path: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(path.read_bytes())


def _policy(pki: Pki, now: datetime = NOW) -> PolicyBuilder:
    return PolicyBuilder().store(Store([_certificate(pki.ca)])).time(now)


def test_a_certificate_names_the_user_and_groups_that_rbac_sees(pki: Pki) -> None:
    subject = _certificate(pki.certificate("kubelet")).subject.rfc4514_string()
    assert subject == "CN=system:node:n,O=system:nodes"


@pytest.mark.parametrize("host", [x509.DNSName("n"), x509.IPAddress(ip_address("10.97.0.1"))], ids=["name", "address"])
def test_a_serving_certificate_is_valid_for_its_hosts(pki: Pki, host: x509.DNSName | x509.IPAddress) -> None:
    _policy(pki).build_server_verifier(host).verify(_certificate(pki.certificate("kubelet")), [])


def test_a_certificate_without_hosts_serves_nothing(pki: Pki) -> None:
    with pytest.raises(VerificationError):
        _policy(pki).build_server_verifier(x509.DNSName("n")).verify(_certificate(pki.certificate("admin")), [])


@pytest.mark.parametrize("late", [timedelta(days=364), timedelta(days=366)])
def test_a_certificate_is_valid_for_a_year(pki: Pki, late: timedelta) -> None:
    verifier = _policy(pki, NOW + late).build_server_verifier(x509.DNSName("n"))

    def verify() -> object:
        return verifier.verify(_certificate(pki.certificate("kubelet")), [])

    if late < timedelta(days=365):
        verify()
    else:
        with pytest.raises(VerificationError):
            verify()


def test_keys_belong_to_their_certificates_and_only_the_owner_reads_them(pki: Pki) -> None:
    for name in ("kubelet", "admin"):
        key = load_pem_private_key(pki.key(name).read_bytes(), None)
        assert key.public_key() == _certificate(pki.certificate(name)).public_key()
        assert pki.key(name).stat().st_mode & 0o777 == 0o600
    signer = load_pem_private_key(pki.service_account_key.read_bytes(), None)
    assert signer.public_key() == load_pem_public_key(pki.service_account_public_key.read_bytes())


def test_the_authoritys_key_is_not_kept(pki: Pki) -> None:
    keys = {path.name for path in pki.folder.glob("*.key")}
    assert keys == {"kubelet.key", "admin.key", "service-account.key"}


def test_certificates_are_made_once(pki: Pki) -> None:
    before = {path: path.read_bytes() for path in pki.folder.iterdir()}
    pki.ensure([KUBELET, ADMIN], NOW + timedelta(days=1))
    assert {path: path.read_bytes() for path in pki.folder.iterdir()} == before


def test_what_a_crash_left_half_written_is_made_anew(tmp_path: Path) -> None:
    half = tmp_path / "pki.part"
    half.mkdir()
    (half / "old.key").touch()
    made = Pki(tmp_path / "pki")
    made.ensure([ADMIN], NOW)
    assert made.certificate("admin").exists()
    assert not (made.folder / "old.key").exists()


def test_a_kubeconfig_holds_all_that_a_client_needs_and_only_its_owner_reads_it(pki: Pki, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    write_kubeconfig(path, "https://10.97.0.1:6443", pki, "admin")
    config = yaml.safe_load(path.read_text())
    assert path.stat().st_mode & 0o777 == 0o600
    assert config["current-context"] == config["contexts"][0]["name"]
    assert config["clusters"][0]["cluster"]["server"] == "https://10.97.0.1:6443"

    assert base64.b64decode(config["clusters"][0]["cluster"]["certificate-authority-data"]) == pki.ca.read_bytes()
    assert base64.b64decode(config["users"][0]["user"]["client-key-data"]) == pki.key("admin").read_bytes()
