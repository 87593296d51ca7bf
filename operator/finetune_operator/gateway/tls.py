"""The TLS context that the gateway serves with; a renewed certificate goes into it without a restart."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from finetune_operator.gateway.certificates import Bundle


class ServingContext:
    """An SSL context whose certificate can be replaced: connections made later get the new one."""

    def __init__(self, bundle: Bundle) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self._loaded: Bundle | None = None
        self.load(bundle)

    def load(self, bundle: Bundle) -> None:
        """Loads a bundle's leaf, if it isn't the one loaded."""
        if bundle == self._loaded:
            return
        # The ssl module reads certificates from files only; mkdtemp makes the folder readable by this user alone.
        with tempfile.TemporaryDirectory(prefix="gateway-") as folder:
            certificate, key = Path(folder, "tls.crt"), Path(folder, "tls.key")
            certificate.write_text(bundle.certificate)
            key.write_text(bundle.key)
            self.context.load_cert_chain(certificate, key)
        self._loaded = bundle
