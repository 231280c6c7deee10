"""A wished bundle on its way: fetched in pieces or from a URL, then proven. What the disk has is not fetched."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeError
from edge_agent.messages.update import State
from edge_agent.update.fetching import Fetch
from edge_agent.update.proving import Beside, Proven, WrongFileError, download, prove_bundle
from edge_agent.update.store import Store
from edge_agent.update.surroundings import Surroundings
from edge_agent.update.wishes import BundlePart

__all__ = ["Arrival"]

_AGAIN_S = 10.0
"""Time until something that failed is tried again."""
_LATE_PIECE_S = 10.0
_TRIES = 4
"""A piece may have changed on its way, or be of another try or of somebody else: so the whole is fetched again, each
time after twice as long."""


class Arrival:
    """Of one wish.

    Args:
        about: the agent and the stream.
        store: the stream's.
        part: what the wish says of the bundle.
    """

    def __init__(self, about: Surroundings, store: Store, part: BundlePart) -> None:
        self._about = about
        self._store = store
        self._part = part
        self._fetch: Fetch | None = None
        self._download: Beside[Path] | None = None
        self._proving: Beside[Proven] | None = None
        self._asked_mono_s: float | None = None
        """Since when the next piece is asked for; None while it is not."""
        self._again_mono_s = 0.0
        self._tries = 0
        self.waits = ""
        """What has to come first; empty where it goes on."""

    @property
    def state(self) -> State:
        """Where it stands."""
        if self._proving is not None:
            return State.PROVING
        return State.WAITING if self.waits else State.FETCHING

    @property
    def wanted_piece(self) -> tuple[str, int] | None:
        """The bundle's hash and the number of the piece that has to come next; None where none has."""
        return None if self._fetch is None else (self._part.sha256, self._fetch.next)

    @property
    def is_stuck(self) -> bool:
        """True if the next piece was asked for long enough, and does not come: another update may be asked for."""
        asked_mono_s = self._asked_mono_s
        return bool(self.waits) and asked_mono_s is not None and time.monotonic() > asked_mono_s + _LATE_PIECE_S

    def note_asked(self, refused: str | None, now_mono_s: float, *, is_new: bool) -> None:
        """The next piece is asked for, perhaps anew after pieces of other updates.

        Args:
            refused: what the broker's access rules say to that, where they do.
            now_mono_s: monotonic.
            is_new: it was not asked for until now.
        """
        if is_new or self._asked_mono_s is None:
            self._asked_mono_s = now_mono_s
        if refused is not None and self._fetch is not None:
            self.waits = f"the broker does not give piece {self._fetch.next} to this device ({refused})"

    def describe(self) -> dict[str, Any]:
        """How far it is; empty where no piece is asked for."""
        return {} if self._fetch is None else {"chunks": self._fetch.next, "of": self._part.chunks}

    def piece(self, sha256: str, number: int, payload: bytes, now_mono_s: float) -> bool:
        """Take a piece; gives whether it was the next one."""
        fetch = self._fetch
        if fetch is None or (sha256, number) != self.wanted_piece:
            return False
        if not fetch.takes(payload):
            self.waits = f"piece {number} at the broker has {len(payload)} bytes, and another length was wished for"
            return False
        try:
            fetch.add(payload)
        except OSError as exc:
            self._wait(f"piece {number} cannot be written ({exc.strerror})", now_mono_s)
            return False
        self.waits, self._asked_mono_s = "", None
        if fetch.is_whole:
            self._prove()
        return True

    def tick(self, now_mono_s: float) -> Proven | None:
        """Go on; gives the bundle once it is proven and has its name.

        Raises:
            EdgeError: it is never switched to.
        """
        if self._proving is not None:
            return self._take_proof(now_mono_s) if self._proving.is_done else None
        if self._download is not None:
            if self._download.is_done:
                self._take_download(now_mono_s)
        elif self._fetch is not None:
            asked_mono_s = now_mono_s if self._asked_mono_s is None else self._asked_mono_s
            if now_mono_s > asked_mono_s + _LATE_PIECE_S and not self.waits:
                self.waits = f"piece {self._fetch.next} is not at the broker"
        elif now_mono_s >= self._again_mono_s:
            self._begin(now_mono_s)
        return None

    def close(self) -> None:
        """Leave it as it is."""
        for work in (self._download, self._proving):
            if work is not None:
                work.stop()
        self._close_fetch()

    def _close_fetch(self) -> None:
        if self._fetch is not None:
            self._fetch.close()
            self._fetch = None

    def _wait(self, reason: str, now_mono_s: float) -> None:
        self._close_fetch()
        self.waits, self._again_mono_s = reason, now_mono_s + _AGAIN_S

    def _begin(self, now_mono_s: float) -> None:
        part, store = self._part, self._store
        try:
            store.make()
            if store.path(part.sha256).exists():
                self._prove()
                return
            room = store.problem_of_room(part.size_bytes)
            if room is not None:
                self._wait(room, now_mono_s)
                return
            self.waits, self._asked_mono_s = "", None
            file = store.part(part.sha256)
            url = part.url
            if url is not None:
                self._download = Beside(
                    lambda look: download(url, file, part.size_bytes, look), "download", self._about.wake
                )
                return
            self._fetch = Fetch(file, part)
        except OSError as exc:
            self._wait(f"the bundle cannot be written ({exc.strerror})", now_mono_s)
            return
        if self._fetch.is_whole:
            self._prove()

    def _take_download(self, now_mono_s: float) -> None:
        assert self._download is not None
        work, self._download = self._download, None
        try:
            work.result()
        except WrongFileError as exc:
            self._fetch_again(exc, now_mono_s)
        except OSError as exc:
            self._wait(f"{self._part.url}: {exc}", now_mono_s)
        else:
            self._prove()

    def _fetch_again(self, exc: WrongFileError, now_mono_s: float) -> None:
        """Throw away what came, and fetch it once more, but not for ever.

        Raises:
            WrongFileError: it came too often.
        """
        self._tries += 1
        self._store.discard(self._part.sha256)
        if self._tries >= _TRIES:
            raise exc
        self._wait(f"{exc}; it is fetched once more", now_mono_s)
        self._again_mono_s = now_mono_s + 2**self._tries

    def _prove(self) -> None:
        self._close_fetch()
        about, part = self._about, self._part
        whole, beside = self._store.path(part.sha256), self._store.part(part.sha256)
        path = whole if whole.exists() else beside
        self.waits = ""
        self._proving = Beside(
            lambda look: prove_bundle(
                path, part, section=about.section, config=about.config, keys=about.keys, look=look
            ),
            "proving",
            about.wake,
        )

    def _take_proof(self, now_mono_s: float) -> Proven | None:
        assert self._proving is not None
        work, self._proving = self._proving, None
        try:
            proven = work.result()
            path = self._store.adopt(self._part.sha256)
        except WrongFileError as exc:
            self._fetch_again(exc, now_mono_s)
            return None
        except EdgeError:
            self._store.discard(self._part.sha256)
            raise
        except OSError as exc:
            self._wait(f"{exc.strerror or exc}", now_mono_s)
            return None
        return Proven(dataclasses.replace(proven.bundle, path=path), proven.choice)
