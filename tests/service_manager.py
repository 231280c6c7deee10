"""The service manager's end of the notify socket, which keeps all that it is told."""

from __future__ import annotations

import socket
import threading
import time
from itertools import pairwise
from pathlib import Path

from processes import wait_until

__all__ = ["ServiceManager"]


class ServiceManager:
    """Hears messages, as systemd does.

    Args:
        folder: of the socket.
        watchdog_s: within so many seconds there has to be a sign of life; 0 asks for none.
    """

    def __init__(self, folder: Path, *, watchdog_s: float = 0.0) -> None:
        self._path = folder / "notify"
        self.messages: list[list[str]] = []
        """Each with its lines."""
        self._came_mono_s: list[float] = []
        self.environ = {"NOTIFY_SOCKET": str(self._path), "RUNTIME_DIRECTORY": str(folder / "run")}
        """What a service gets from its manager."""
        if watchdog_s:
            self.environ["WATCHDOG_USEC"] = str(int(watchdog_s * 1e6))
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self._path))
        self._thread = threading.Thread(target=self._hear, daemon=True)

    def fields(self, *names: str) -> list[str]:
        """The assignments of these names so far, in order."""
        return [line for message in list(self.messages) for line in message if line.partition("=")[0] in names]

    @property
    def status(self) -> str:
        """What `systemctl status` would show now."""
        return (self.fields("STATUS") or ["STATUS="])[-1].removeprefix("STATUS=")

    def wait_for(self, assignment: str, *, times: int = 1, timeout_s: float = 20.0) -> None:
        """Until it has come so often."""
        name = assignment.partition("=")[0]
        wait_until(lambda: self.fields(name).count(assignment) >= times, timeout_s, f"{times} times {assignment}")

    def wait_until_status(self, part: str, timeout_s: float = 20.0) -> None:
        """Until the status text has this in it."""
        wait_until(lambda: part in self.status, timeout_s, f"a status with {part!r}")

    def silent_s(self, line: str) -> float:
        """How long ago it came last."""
        return time.monotonic() - self._times(line)[-1]

    def longest_pause_s(self, line: str) -> float:
        """Between two of it."""
        return max(after - before for before, after in pairwise(self._times(line)))

    def _times(self, line: str) -> list[float]:
        pairs = zip(self._came_mono_s, list(self.messages), strict=False)
        return [came for came, message in pairs if line in message]

    @staticmethod
    def now_mono_s() -> float:
        """Of the same clock as a service's."""
        return time.monotonic()

    def _hear(self) -> None:
        while message := self._socket.recv(65536):
            self._came_mono_s.append(time.monotonic())
            self.messages.append(message.decode().splitlines())

    def __enter__(self) -> ServiceManager:
        (self._path.parent / "run").mkdir(exist_ok=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", str(self._path))
        self._thread.join(10)
        self._socket.close()
