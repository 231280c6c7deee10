"""What an operator asks a running agent for: small files in the state folder, which the agent takes away.

Files and not a topic, so that whoever may write to the broker can still not change a threshold.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Protocol, TypeAlias, cast

import msgspec

from edge_agent.errors import ConfigError
from edge_agent.files.plain import read_file, write_file
from edge_agent.journal.journal import Commit
from edge_agent.messages.text import decode
from edge_agent.messages.values import LATEST_TIME_S

__all__ = ["Mute", "Recommission", "Request", "Requests", "carry_out", "leave_request"]

log = logging.getLogger(__name__)

_PATTERN = "request-*.json"
_LIMIT_BYTES = 1 << 16


class Recommission(msgspec.Struct, frozen=True, kw_only=True, tag="recommission"):
    """Set thresholds anew from the readings that come now."""

    stream: str
    asset: str | None = None
    """None for all assets."""


class Mute(msgspec.Struct, frozen=True, kw_only=True, tag="mute"):
    """Tell nothing of alerts until a time."""

    stream: str
    asset: str | None = None
    """None for the whole stream."""
    until_s: Annotated[float, msgspec.Meta(ge=0, le=LATEST_TIME_S)]
    """Epoch seconds; a time that has come ends a mute."""


Request: TypeAlias = Recommission | Mute


def leave_request(state_dir: Path, request: Request) -> None:
    """Ask the agent that uses this state folder.

    Raises:
        ConfigError: the folder is not there or cannot be written.
    """
    try:
        # By their names in the order in which they were asked; readable for the agent's user, whatever root's umask is.
        file = state_dir / f"request-{time.time_ns():020d}-{secrets.token_hex(4)}.json"
        write_file(file, msgspec.json.encode(request), mode=0o644)
    except OSError as exc:
        raise ConfigError(f"[agent] state_dir = {str(state_dir)!r}: cannot be written ({exc.strerror})") from exc


class Requests:
    """The requests in one state folder, each there until what it asks for is committed.

    Whoever is killed in between finds it again, so one may be carried out twice, which does what once does.

    Args:
        state_dir: the folder.
    """

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._told: set[Path] = set()
        self._seen: set[Path] = set()
        """Given to the caller, or of no use. What cannot be taken away must not be obeyed again and again."""
        self._done: set[Path] = set()
        """Those of them that are to be taken away."""

    def take(self) -> list[Request]:
        """Those that nobody has seen yet; `ack` takes them away."""
        self._take_away()
        files = sorted(self._state_dir.glob(_PATTERN))
        for known in (self._seen, self._told, self._done):
            known.intersection_update(files)
        requests: list[Request] = []
        for file in files:
            if file in self._seen:
                continue
            self._seen.add(file)
            try:
                requests.append(decode(read_file(file, _LIMIT_BYTES), cast("type[Request]", Request)))
            except (OSError, ValueError) as exc:
                log.warning("request not readable file=%s error=%s", file, exc)
                with suppress(OSError):
                    file.unlink()
        return requests

    def ack(self) -> None:
        """What `take` gave is committed, and the disk has it."""
        self._done |= self._seen
        self._take_away()

    def _take_away(self) -> None:
        for file in self._done:
            try:
                file.unlink(missing_ok=True)
            except OSError as exc:
                if file not in self._told:
                    log.warning("request carried out and not taken away file=%s error=%s", file, exc.strerror)
                self._told.add(file)


class Obedient(Protocol):
    """A stream, of which something may be asked."""

    @property
    def name(self) -> str:
        """As in the configuration."""

    def recommission(self, asset: str | None) -> Commit:
        """Set limits anew; gives what is to be kept."""

    def mute(self, asset: str | None, until_s: float) -> Commit:
        """Tell nothing until a time; gives what is to be kept, and the event that says so."""


def carry_out(
    requests: Requests,
    streams: Sequence[Obedient],
    change: Callable[[Commit, Callable[[], None]], None],
) -> None:
    """Do what was asked for, and take it away once the disk has it.

    Args:
        requests: of the agent's state folder.
        streams: that run.
        change: writes what came of it, and calls back once the disk has them (`Batches.add`).

    Raises:
        JournalError: the disk is full or broken; what was done is held there.
    """
    named = {stream.name: stream for stream in streams}
    commit, taken = Commit(), requests.take()
    for request in taken:
        stream = named.get(request.stream)
        if stream is None:
            log.warning("request not carried out, this agent runs no such stream stream=%.80s", request.stream)
            continue
        match request:
            case Recommission():
                done = stream.recommission(request.asset)
            case Mute():
                done = stream.mute(request.asset, request.until_s)
        commit.events += done.events
        commit.since.update(done.since)
        commit.records += done.records
    if taken:
        change(commit, requests.ack)
