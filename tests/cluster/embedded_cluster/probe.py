"""Asks a component over HTTP whether it is ready."""

import ssl
import urllib.request

from embedded_cluster.pki import Pki

TIMEOUT_SECONDS = 2


def client_context(pki: Pki, identity: str) -> ssl.SSLContext:
    """TLS that trusts the cluster's authority only and shows the certificate of ``identity``."""
    context = ssl.create_default_context(cafile=str(pki.ca))
    context.load_cert_chain(pki.certificate(identity), pki.key(identity))
    return context


def answers(url: str, context: ssl.SSLContext | None = None) -> bool:
    """Whether a GET of ``url`` succeeds with 2xx."""
    handlers: list[urllib.request.BaseHandler] = [urllib.request.ProxyHandler({})]
    if context:
        handlers.append(urllib.request.HTTPSHandler(context=context))
    try:
        with urllib.request.build_opener(*handlers).open(url, timeout=TIMEOUT_SECONDS):
            return True
    except OSError:
        return False
