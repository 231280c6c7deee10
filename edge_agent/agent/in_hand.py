"""Which messages are being worked on, in memory that outlives the process: none may end the agent a third time.

A message that makes the process crash, hang until the watchdog ends it, or use up the memory is not acknowledged, so
the broker sends it again to the next process. What is in hand stands in a memory-mapped file of the runtime folder:
nothing is written to the device for it. What a process finds there, its predecessor ended over:

    in hand when a process ended        what the next ones do
    a batch                             its messages are suspects: each is worked on alone
    one suspect                         it is set aside unread: rejected, told by an event, acknowledged

So the second end names the message. It stays set aside for whoever sends it again. Any end counts, because none of
these can be told from a kill by hand; two of those at the same message would set it aside, too.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import mmap
import os
import stat
import struct
from array import array
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.agent.set_aside import name_of
from edge_agent.messages.delivery import Delivery, fingerprints

__all__ = ["InHand", "is_writable_folder", "runtime_file"]

log = logging.getLogger(__name__)

_KEYS = 4096
"""Most messages of a batch that are noted. A broker's are at most 512; the last lines of a pipe may be more."""
_ASIDE = 64
"""Messages that stay set aside; of more, those set aside last."""
_FORMAT = 2
_NOTHING, _BATCH, _ALONE = 0, 1, 2
_HEAD = struct.Struct("=II")
"""`state` and `count`, which are written for each batch; numpy takes ten times as long for two numbers."""
_NOTE = np.dtype(
    [
        ("format", "u4"),
        ("state", "u4"),
        ("count", "u4"),  # of `keys`
        ("turns", "u4"),  # how many were set aside so far
        ("keys", "u8", _KEYS),  # fingerprints of what is in hand; of suspects the lower half is noted
        ("alone", "u8"),  # name of the one message in hand
        ("suspects", "u4", _KEYS),
        ("aside", "u8", _ASIDE),  # names
        ("aside_keys", "u4", _ASIDE),
    ]
)

_HEAD_AT, _KEYS_AT = (_NOTE.fields[name][1] for name in ("state", "keys"))  # type: ignore[index]
_KEY_BYTES = 8


def runtime_file(runtime_dir: str | None, state_dir: Path, what: str = "in-hand") -> Path | None:
    """A file on no disk, kept from one process to the next: what an agent has in hand, or how it is.

    Args:
        runtime_dir: of the configuration. Where it is None, or nothing can be written there, it is the service
            manager's, the user's, or the shared memory's folder.
        state_dir: the agent's own, so that two agents have two files.
        what: end of the file's name.

    Returns:
        The file; None if the system has no such folder that we may write to.
    """
    name = f"edge-agent-{sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]}.{what}"
    of_service = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
    # In a folder that all may write to, the file must be ours; see `_open`.
    for folder in (runtime_dir, of_service, os.environ.get("XDG_RUNTIME_DIR", ""), "/dev/shm"):  # noqa: S108
        if folder and is_writable_folder(folder):
            return Path(folder) / name
    return None


def is_writable_folder(path: str) -> bool:
    """Whether a file can be made there by this process's user."""
    return os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK)  # noqa: PTH112 - is_dir() raises where a folder above is not ours to read


class InHand:
    """Notes what is in hand, and knows over what earlier processes ended.

    Args:
        file: see `runtime_file`; None remembers nothing.
    """

    def __init__(self, file: Path | None = None) -> None:
        self._memory = _open(file)
        self._file = file if isinstance(self._memory, mmap.mmap) else None
        """None if it is not ours to take away."""
        note: Any = np.ndarray((), dtype=_NOTE, buffer=self._memory)
        if note["format"] != _FORMAT:
            note[...] = 0
            note["format"] = _FORMAT
        self._note = note
        self._suspects: set[int] = {*note["suspects"][note["suspects"] > 0].tolist()}
        count = min(int(note["count"]), _KEYS)
        keys = note["keys"][:count] & 0xFFFFFFFF
        if note["state"] == _BATCH:
            self._suspects |= {*keys.tolist()}
            log.error("the last run ended over a batch, its messages are worked on one by one count=%d", count)
        elif note["state"] == _ALONE:
            place = int(note["turns"]) % _ASIDE
            note["aside"][place], note["aside_keys"][place] = note["alone"], keys[0]
            note["turns"] += 1
            self._suspects.discard(int(keys[0]))
            log.error("the last run ended over a message that an earlier run ended over, and it is set aside")
        note["state"] = _NOTHING
        suspects = sorted(self._suspects)[:_KEYS]
        note["suspects"] = 0
        note["suspects"][: len(suspects)] = suspects
        self._aside = {*note["aside"][note["aside"] > 0].tolist()}
        self._aside_keys = {*note["aside_keys"][note["aside"] > 0].tolist()}

    def sift(self, deliveries: list[Delivery]) -> tuple[list[Delivery], list[Delivery]]:
        """The messages that may be worked on, and those that are set aside; both in order of arrival."""
        if not self._aside:
            return deliveries, []
        found = [self._is_aside(*pair) for pair in zip(deliveries, _keys(deliveries), strict=True)]
        pairs = list(zip(deliveries, found, strict=True))
        return [each for each, aside in pairs if not aside], [each for each, aside in pairs if aside]

    def parts(self, deliveries: list[Delivery], contents: list[int] | None = None) -> Iterator[list[Delivery]]:
        """The same messages in parts, each noted as in hand until the next is asked for; usually there is one.

        Args:
            deliveries: a batch.
            contents: its fingerprints; None if they are not known yet.
        """
        if self._suspects:
            yield from self._careful_parts(deliveries)
        else:
            self._take(_BATCH, _packed(fingerprints(deliveries) if contents is None else contents))
            yield deliveries
        _HEAD.pack_into(self._memory, _HEAD_AT, _NOTHING, 0)

    def _careful_parts(self, deliveries: list[Delivery]) -> Iterator[list[Delivery]]:
        keys = _keys(deliveries)
        start = 0
        for at, key in enumerate(keys):
            if key not in self._suspects:
                continue
            if start < at:
                self._take(_BATCH, _packed(keys[start:at]))
                yield deliveries[start:at]
            self._note["alone"] = name_of(deliveries[at])
            self._take(_ALONE, _packed([key]))
            yield deliveries[at : at + 1]
            self._acquit(key)
            start = at + 1
        if start < len(deliveries):
            self._take(_BATCH, _packed(keys[start:]))
            yield deliveries[start:]

    def close(self) -> None:
        """An end in good order: leave a file only where the next process needs it."""
        if self._file is not None and not self._note["state"] and not self._suspects and not self._aside:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)

    def _take(self, state: int, keys: bytes) -> None:
        noted = keys[: _KEY_BYTES * _KEYS]
        self._memory[_KEYS_AT : _KEYS_AT + len(noted)] = noted
        _HEAD.pack_into(self._memory, _HEAD_AT, state, len(noted) // _KEY_BYTES)

    def _acquit(self, key: int) -> None:
        self._note["state"] = _NOTHING
        self._suspects.discard(key)
        self._note["suspects"][self._note["suspects"] == key] = 0

    def _is_aside(self, delivery: Delivery, key: int) -> bool:
        return key in self._aside_keys and name_of(delivery) in self._aside


def _keys(deliveries: list[Delivery]) -> list[int]:
    """The lower half of each message's fingerprint; other messages may have the same."""
    return [content & 0xFFFFFFFF for content in fingerprints(deliveries)]


def _packed(keys: list[int]) -> bytes:
    return array("Q", keys).tobytes()


def _open(file: Path | None) -> mmap.mmap | bytearray:
    """The file's memory; memory of this process alone, if the file cannot be used."""
    if file is None:
        log.warning("what is in hand is not noted, give a folder on no disk as [agent] runtime_dir")
    else:
        try:
            return _map(file)
        except OSError as exc:
            log.warning("what is in hand is not noted file=%s error=%s", file, exc.strerror)
    return bytearray(_NOTE.itemsize)


def _map(file: Path) -> mmap.mmap:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(file, flags, 0o600)
    try:
        facts = os.fstat(descriptor)
        if not stat.S_ISREG(facts.st_mode) or facts.st_uid != os.geteuid():
            raise PermissionError(errno.EPERM, "it is not a plain file of ours")
        # Two containers may share the folder, and each have a state folder of this name. The memory keeps the lock.
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as exc:
            raise BlockingIOError(exc.errno, "another agent uses it, give each a runtime_dir of its own") from exc
        # All of it now: a write to memory for which there is no room ends the process.
        os.posix_fallocate(descriptor, 0, _NOTE.itemsize)
        return mmap.mmap(descriptor, _NOTE.itemsize)
    finally:
        os.close(descriptor)
