"""A certificate authority for tests, by the openssl command."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

__all__ = ["Authority"]


class Authority:
    """Signs certificates that are good for a day, or were.

    Args:
        folder: for all files; `ca.pem` is the authority's own certificate.
        name: what it calls itself.
    """

    def __init__(self, folder: Path, name: str = "another authority") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self.file = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl(
            "req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.file, "-subj", f"/CN={name}", "-days", "2"
        )

    def issue(self, name: str, *, host: str = "127.0.0.1", days: int = 1) -> tuple[Path, Path]:
        """A certificate and its key, for a host as well as for a client.

        Args:
            name: its common name, and that of its files.
            host: the address or name that it is for.
            days: how long it is good; below 0 it has expired.
        """
        certificate, key, request, extensions = (self._folder / f"{name}.{end}" for end in ("pem", "key", "csr", "ext"))
        kind = "IP" if host[0].isdigit() else "DNS"
        extensions.write_text(f"subjectAltName={kind}:{host}\n")
        _openssl("req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", f"/CN={name}")
        signing = ("-CA", self.file, "-CAkey", self._key, "-CAcreateserial", "-days", days, "-extfile", extensions)
        _openssl("x509", "-req", "-in", request, *signing, "-out", certificate)
        return certificate, key


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def _openssl(*arguments: object) -> None:
    # The machine's own settings may ask for more than a test certificate has.
    environ = {**os.environ, "OPENSSL_CONF": "/dev/null"}
    command = ["openssl", *map(str, arguments)]
    subprocess.run(command, check=True, capture_output=True, timeout=30, env=environ)
