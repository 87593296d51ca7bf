"""The gateway's certificates: a long-lived authority, and leaves that it renews. Pure but for the random keys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

AUTHORITY_VALIDITY = timedelta(days=3650)
LEAF_VALIDITY = timedelta(days=90)
# The clock of a trainer's node may run behind the gateway's.
BACKDATED = timedelta(minutes=10)
MAX_COMMON_NAME = 64  # X.520 ub-common-name


@dataclass(frozen=True)
class Bundle:
    """An authority and the leaf that it signed, as PEM text; empty where it is missing."""

    ca_certificate: str = ""
    ca_key: str = ""
    certificate: str = ""
    key: str = ""


def refresh(bundle: Bundle, hosts: Sequence[str], now: datetime) -> Bundle:
    """The bundle to serve with: the given one if it is good, else with a new leaf, else with a new authority too.

    A leaf is renewed after two thirds of its life, and when it lacks a host. The authority is in the ConfigMap of every
    running job, so it is kept as long as it can sign.
    """
    if not _signs(bundle, now):
        authority = _make_authority(now)
    elif _serves(bundle, hosts, now):
        return bundle
    else:
        authority = (bundle.ca_certificate, bundle.ca_key)
    return Bundle(*authority, *_make_leaf(*authority, hosts, now))


def _signs(bundle: Bundle, now: datetime) -> bool:
    """Whether the authority is whole, and outlives a leaf made now."""
    try:
        authority = x509.load_pem_x509_certificate(bundle.ca_certificate.encode())
        matches = _load_key(bundle.ca_key).public_key() == authority.public_key()
    except (ValueError, TypeError):
        return False
    return matches and authority.not_valid_after_utc >= now + LEAF_VALIDITY


def _serves(bundle: Bundle, hosts: Sequence[str], now: datetime) -> bool:
    """Whether the leaf is whole, signed by the authority, made for the hosts, and young enough."""
    try:
        leaf = x509.load_pem_x509_certificate(bundle.certificate.encode())
        leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(bundle.ca_certificate.encode()))
        matches = _load_key(bundle.key).public_key() == leaf.public_key()
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except Exception:  # verify_directly_issued_by raises InvalidSignature, which is no ValueError; all mean the same
        return False
    return matches and set(hosts) <= set(names.get_values_for_type(x509.DNSName)) and now < renewal_time(leaf)


def renewal_time(leaf: x509.Certificate) -> datetime:
    """When a leaf has lived two thirds of its life."""
    return leaf.not_valid_before_utc + (leaf.not_valid_after_utc - leaf.not_valid_before_utc) * 2 / 3


def _make_authority(now: datetime) -> tuple[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("finetune-gateway-ca")
    certificate = (
        _builder(name, name, key, now, AUTHORITY_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def _make_leaf(ca_certificate: str, ca_key: str, hosts: Sequence[str], now: datetime) -> tuple[str, str]:
    authority, authority_key = x509.load_pem_x509_certificate(ca_certificate.encode()), _load_key(ca_key)
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        _builder(_name(hosts[0]), authority.subject, key, now, LEAF_VALIDITY)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts]), critical=False)
        # Python 3.13 and later refuse a leaf without it.
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    return _pem(certificate), _key_pem(key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, now: datetime, validity: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + validity)
    )


def _usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:MAX_COMMON_NAME])])


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


def _key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    encryption = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode()


def _load_key(pem: str) -> ec.EllipticCurvePrivateKey:
    key = serialization.load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise TypeError("not an EC key")
    return key
