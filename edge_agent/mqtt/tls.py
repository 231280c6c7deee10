"""The TLS context of a connection, made anew for every connection from the files as they are then."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from edge_agent.errors import BrokerError

if TYPE_CHECKING:
    from edge_agent.mqtt.settings import BrokerSettings

__all__ = ["make_context"]


def make_context(settings: BrokerSettings) -> ssl.SSLContext:
    """Make a context that checks the broker's certificate and host name, unless the settings switch that off.

    Raises:
        BrokerError: a file cannot be read or used; the text begins with the setting that names the file.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if settings.insecure:
        context.check_hostname = False
    if settings.insecure_skip_certificate_check:
        context.verify_mode = ssl.CERT_NONE
    elif settings.ca_file is None:
        context.load_default_certs()
    else:
        try:
            context.load_verify_locations(settings.ca_file)
        except OSError as exc:
            raise BrokerError(f"ca_file = {settings.ca_file!r}: cannot be used ({_text(exc)})") from exc
    if settings.cert_file is not None:
        try:
            # Without the password, OpenSSL would wait for somebody at a terminal where a key is encrypted.
            context.load_cert_chain(settings.cert_file, settings.key_file, password="")
        except OSError as exc:
            files = f"cert_file = {settings.cert_file!r} with key_file = {settings.key_file!r}"
            raise BrokerError(f"{files}: cannot be used ({_text(exc)})") from exc
    return context


def _text(exc: OSError) -> str:
    if isinstance(exc, ssl.SSLError):
        names = {
            "KEY_VALUES_MISMATCH": "the key is not that of the certificate",
            None: "not PEM, or the key is encrypted",
        }
        return names.get(exc.reason, (exc.reason or "").lower().replace("_", " "))
    return exc.strerror or str(exc)
