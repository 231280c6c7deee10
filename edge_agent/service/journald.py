"""Log lines for the systemd journal, by its native protocol: with priorities, and with their facts as fields.

systemd's own library for it needs a compiler on the device. The protocol is one datagram for a line, whose fields are
`NAME=value`, or the name, a length and any bytes: https://systemd.io/JOURNAL_NATIVE_PROTOCOL/
"""

from __future__ import annotations

import array
import errno
import fcntl
import logging
import os
import socket
import struct
from contextlib import suppress
from typing import TextIO

from edge_agent.service.facts import facts_of

__all__ = ["JOURNAL_SOCKET", "JournalHandler", "priority_of"]

JOURNAL_SOCKET = "/run/systemd/journal/socket"
_TIMEOUT_S = 1.0
"""A journal that takes nothing for so long is passed over for a line."""
_PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))
_DEBUG = 7
_NAME_CHARACTERS = 64
_OWN = {"MESSAGE", "MESSAGE_ID", "PRIORITY", "CODE_FILE", "CODE_LINE", "CODE_FUNC", "ERRNO", "INVOCATION_ID", "LOGGER"}
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE | fcntl.F_SEAL_SEAL


class JournalHandler(logging.Handler):
    """Sends log lines to the journal; to a stream that leads there, with a prefix, where that cannot be done.

    Args:
        stream: leads to the journal.
        path: of the journal's socket.
    """

    def __init__(self, stream: TextIO, path: str = JOURNAL_SOCKET) -> None:
        super().__init__()
        self._stream = stream
        self._path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(_TIMEOUT_S)

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            text = self.format(record)
            fields = {
                "MESSAGE": text,
                "PRIORITY": str(priority_of(record.levelno)),
                "SYSLOG_IDENTIFIER": "edge-agent",
                "LOGGER": record.name,
                "CODE_FILE": record.pathname,
                "CODE_LINE": str(record.lineno),
                "CODE_FUNC": record.funcName or "",
                **_named(facts_of(record)),
            }
            try:
                self._send(b"".join(_encoded(*field) for field in fields.items()))
            except OSError:
                self._write(text, priority_of(record.levelno))
        except Exception:  # noqa: BLE001 - the outer edge of a handler: no line may end the program
            self.handleError(record)

    def close(self) -> None:
        """See `logging.Handler`."""
        self._socket.close()
        super().close()

    def _send(self, datagram: bytes) -> None:
        try:
            self._socket.sendto(datagram, self._path)
        except OSError as exc:
            if exc.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_memory(datagram)

    def _send_memory(self, datagram: bytes) -> None:
        """Send what is too large for a datagram in memory that cannot be changed any more."""
        memory = os.memfd_create("edge-agent-log", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(memory, "wb", closefd=False) as file:
                file.write(datagram)
            fcntl.fcntl(memory, fcntl.F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]).tobytes())
            self._socket.sendmsg([], [rights], 0, self._path)
        finally:
            os.close(memory)

    def _write(self, text: str, priority: int) -> None:
        # Each line by itself is one of the journal.
        with suppress(OSError, ValueError):
            self._stream.write("".join(f"<{priority}>{line}\n" for line in text.splitlines()))
            self._stream.flush()


def priority_of(level: int) -> int:
    """The priority of syslog(3) for a level of `logging`."""
    return next((priority for least, priority in _PRIORITIES if level >= least), _DEBUG)


def _named(facts: dict[str, str]) -> dict[str, str]:
    """Facts under names of the journal, but for those that have a meaning of their own there."""
    named = {name.upper()[:_NAME_CHARACTERS]: value for name, value in facts.items() if name.isascii()}
    return {name: value for name, value in named.items() if name not in _OWN and not name.startswith("SYSLOG_")}


def _encoded(name: str, value: str) -> bytes:
    content = value.encode(errors="backslashreplace")
    if b"\n" not in content:
        return b"%s=%s\n" % (name.encode(), content)
    return b"%s\n%s%s\n" % (name.encode(), struct.pack("<Q", len(content)), content)
