"""Messages to systemd (sd_notify), without a library: one datagram to the socket in $NOTIFY_SOCKET."""

from __future__ import annotations

import logging
import math
import os
import socket
import time
from collections.abc import Mapping

__all__ = ["Notifier"]

log = logging.getLogger(__name__)

_EXTEND_INTERVAL_S = 10.0
_START_TIMEOUT_S = 180.0
"""From one sign of life of a start to the next. Loading gives none, and a provider may load for 120 s."""


class Notifier:
    """Tells the service manager what state we are in. Does nothing when there is no service manager."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        # "@" stands for the abstract namespace, whose names start with a zero byte.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        self._extended_mono_s = -math.inf
        watchdog_us = environ.get("WATCHDOG_USEC", "")
        self._watchdog_us = watchdog_us
        self.watchdog_interval_s = int(watchdog_us) / 2e6 if watchdog_us.isdigit() else 0.0
        """Half of what systemd allows between two signs of life; 0 when it does not watch."""

    @property
    def is_managed(self) -> bool:
        """Whether there is a service manager."""
        return bool(self._address)

    def ready(self, status: str) -> None:
        """Say that the agent works, with one line of status."""
        self._status = status
        limit = f"\nWATCHDOG_USEC={self._watchdog_us}" if self.watchdog_interval_s else ""
        self._send(f"READY=1\nSTATUS={status}{limit}")

    def reloading(self) -> None:
        """Say that a reload has begun. It ends with `reload_refused`, or with the `ready` of the new start."""
        # systemd takes a RELOADING without the time for one of an earlier reload, and waits for another.
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def still_reloading(self) -> None:
        """Ask for more time for a check that goes on. No sign of life, which only the loop gives."""
        if time.monotonic() >= self._extended_mono_s + _EXTEND_INTERVAL_S:
            self._extended_mono_s = time.monotonic()
            self._send(f"EXTEND_TIMEOUT_USEC={int(_START_TIMEOUT_S * 1e6)}")

    def reload_refused(self) -> None:
        """Say that the agent goes on as it was."""
        self._send("READY=1")

    def starting_anew(self) -> None:
        """Say that the program starts anew, which takes as long as any start."""
        if self.watchdog_interval_s:
            self._send(f"WATCHDOG_USEC={int(_START_TIMEOUT_S * 1e6)}")
        self._extend_timeout(_START_TIMEOUT_S)

    def status(self, status: str) -> None:
        """Show one line in `systemctl status`; nothing is sent while it stays the same."""
        if status != self._status:
            self._status = status
            self._send(f"STATUS={status}")

    def watchdog(self) -> None:
        """Give a sign of life; call it only after real progress."""
        if self.watchdog_interval_s:
            self._send("WATCHDOG=1")

    def _extend_timeout(self, seconds: float) -> None:
        """Ask for so much time from now on until we are ready; to be repeated for as long as that takes."""
        self._extended_mono_s = time.monotonic()
        # Of a start that is a reload, the watchdog counts on, as for systemd the service has been running all the time.
        alive = "\nWATCHDOG=1" if self.watchdog_interval_s else ""
        self._send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}{alive}")

    def starting(self) -> None:
        """Give a sign of life before we are ready. May be called many times a second."""
        if time.monotonic() >= self._extended_mono_s + _EXTEND_INTERVAL_S:
            self._extend_timeout(_START_TIMEOUT_S)

    def stopping(self) -> None:
        """Say that a stop has begun."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.connect(self._address)
                sock.sendall(message.encode())
        except OSError as exc:
            log.warning("service manager not reached socket=%s error=%s", self._address, exc)
