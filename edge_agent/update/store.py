"""What the disk knows of the updates of one stream: one document with a checksum, and bundles named by their hashes.

The document is written whole and on the disk before anything follows from it, so a power cut at any moment leaves the
old bundle or the new one in charge. A bundle gets its name only once it is whole and proven.
"""

from __future__ import annotations

import logging
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.files.checksum import seal, unseal
from edge_agent.files.plain import read_file, sync_folder, write_file
from edge_agent.messages.update import State
from edge_agent.update.wishes import LimitsPart, ProbationPart
from edge_agent.versions import precedence

__all__ = ["Answer", "Baseline", "BundleFile", "Probation", "Standing", "Step", "Store"]

log = logging.getLogger(__name__)

_LIMIT_BYTES = 1 << 20
_STEPS = 20
_NAMES = 50
_RESERVE_BYTES = 50_000_000
"""Stays free on the disk: the journal's room."""


class BundleFile(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle in the store, or the configured one."""

    sha256: str
    """Of the file."""
    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Step(msgspec.Struct, frozen=True, kw_only=True):
    """What became of an update, and when."""

    state: State
    time: str
    """ISO 8601."""
    reason: str = ""


class Baseline(msgspec.Struct, frozen=True, kw_only=True):
    """What the old model did, which the new one is held against."""

    scored: int = 0
    raised: int = 0
    at_limit: int = 0
    batch_us: float | None = None
    """Median time of its batches, microseconds; None if unknown."""


class Probation(msgspec.Struct, kw_only=True):
    """What decides whether a new bundle stays."""

    wanted: ProbationPart
    limits: LimitsPart
    baseline: Baseline
    scored: int = 0
    """Windows that the new model has scored, over all runs."""
    raised: int = 0
    at_limit: int = 0
    seconds: float = 0.0
    """For how long it has run."""


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a wish that needs no steps."""

    sequence: int
    state: str
    """`applied` or `refused`."""
    reason: str
    time: str


class Highest(msgspec.Struct, frozen=True, kw_only=True):
    """The highest version of a name that was switched to."""

    version: str
    sha256: str


class Standing(msgspec.Struct, kw_only=True):
    """Where the updates of a stream stand."""

    sequences: dict[str, int] = {}
    """By kind, the highest that was obeyed."""
    highest: dict[str, Highest] = {}
    """By the bundle's name."""
    active: BundleFile | None = None
    """Runs in place of the configured bundle; None if that runs."""
    configured: BundleFile | None = None
    """The file that the configuration named as `active` took its place. Another one there is the device's own word,
    and ends what came over the broker."""
    former: BundleFile | None = None
    """The last good one in the store, before `active`; None for the configured one."""
    wish: str = ""
    """The last wish for a bundle that was obeyed, as it came: signed."""
    wanted: BundleFile | None = None
    """The bundle of that wish."""
    state: State = State.NONE
    reason: str = ""
    steps: list[Step] = []
    """The last ones of that wish, oldest first."""
    probation: Probation | None = None
    is_running: bool = False
    """A run is on its way that may be rolled back. Who finds it set at a start knows that the run before ended over
    it."""
    comparison: dict[str, Any] = {}
    """What the new model did beside the old one."""
    settings: dict[str, Any] = {}
    """Keys of the `[[stream]]` in place of those of the configuration."""
    settings_wish: str = ""
    """The wish that brought them, as it came: signed."""
    threshold_for: str = ""
    """SHA-256 of the model that `settings` has limits for."""
    answers: dict[str, Answer] = {}
    """By kind."""

    def note(self, state: State, time: str, reason: str = "") -> None:
        """Where the update stands now."""
        if (state, reason) != (self.state, self.reason):
            self.steps = [*self.steps, Step(state=state, time=time, reason=reason)][-_STEPS:]
        self.state, self.reason = state, reason

    def go_back(self, time: str, reason: str) -> None:
        """Put the bundle from before in charge."""
        self.active, self.former = self.former, None
        self.is_running, self.probation = False, None
        self.note(State.ROLLED_BACK, time, reason)

    def drop_settings(self, time: str, reason: str) -> None:
        """Go on without the settings that came."""
        self.settings, self.settings_wish, self.threshold_for = {}, "", ""
        before = self.answers.get("settings")
        if before is not None:
            answer = msgspec.structs.replace(before, state="refused", reason=reason, time=time)
            self.answers = {**self.answers, "settings": answer}

    def keep(self, time: str, reason: str) -> None:
        """Leave the bundle that should go in charge, for nothing else could run; nobody judges it any more."""
        self.is_running, self.probation = False, None
        self.note(State.KEPT, time, reason)

    @property
    def used(self) -> list[str]:
        """Hashes of the bundles in the store that run, or may have to."""
        return [each.sha256 for each in (self.active, self.former) if each is not None]

    def note_highest(self, file: BundleFile) -> None:
        """The version that may only grow: that of an operator's way back to an older one changes nothing."""
        known = self.highest.get(file.name)
        if known is not None and precedence(file.version) < precedence(known.version):
            return
        kept = {name: each for name, each in self.highest.items() if name != file.name}
        kept[file.name] = Highest(version=file.version, sha256=file.sha256)
        self.highest = dict([*kept.items()][-_NAMES:])


class Store:
    """The folder of one stream.

    Args:
        state_dir: the agent's.
        stream: the stream's name.
    """

    def __init__(self, state_dir: Path, stream: str) -> None:
        # With a word in front, because a stream may be called "..".
        self._folder = state_dir / "updates" / f"stream-{stream}"
        self._file = self._folder / "standing.json"
        self._stream = stream
        self._unsaved: Standing | None = None

    @property
    def is_unsaved(self) -> bool:
        """The disk has not taken what was last written."""
        return self._unsaved is not None

    def load(self) -> Standing:
        """What is known, also where the disk has not taken it; nothing where it cannot be read, which is told."""
        if self._unsaved is not None:
            return self._unsaved
        try:
            return msgspec.json.decode(unseal(read_file(self._file, _LIMIT_BYTES)), type=Standing)
        except FileNotFoundError:
            return Standing()
        except PermissionError:
            log.warning(
                "updates over the broker are not known to this user stream=%s folder=%s", self._stream, self._folder
            )
            return Standing()
        except (OSError, ValueError) as exc:
            log.warning(
                "updates of the past are not known any more, the configured bundle runs stream=%s error=%s",
                self._stream,
                exc,
            )
            return Standing()

    def save(self, standing: Standing) -> None:
        """Write it; the disk has it then.

        Raises:
            OSError: it cannot be written, and what was there is there. `load` gives what was meant all the same.
        """
        self._unsaved = standing
        self.make()
        write_file(self._file, seal(msgspec.json.encode(standing)), mode=0o600)
        self._unsaved = None

    def path(self, sha256: str) -> Path:
        """Where a bundle lies that is whole."""
        return self._folder / f"{sha256}.edge"

    def part(self, sha256: str) -> Path:
        """Where a bundle is put together."""
        return self._folder / f"{sha256}.part"

    def make(self) -> None:
        """Make the folder.

        Raises:
            OSError: it cannot be made.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def adopt(self, sha256: str) -> Path:
        """Give a bundle that is whole and proven its name, which the disk has then.

        Raises:
            OSError: it cannot be done.
        """
        whole, part = self.path(sha256), self.part(sha256)
        if not whole.exists():
            part.replace(whole)
            sync_folder(self._folder)
        return whole

    def discard(self, sha256: str) -> None:
        """Take away a bundle that is not to be used, whole or in part."""
        for file in (self.path(sha256), self.part(sha256)):
            with suppress(OSError):
                file.unlink(missing_ok=True)

    def problem_of_room(self, size_bytes: int) -> str | None:
        """Why the disk cannot take so many bytes more; None if it can, or cannot be asked."""
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError:
            return None
        if free >= size_bytes + _RESERVE_BYTES:
            return None
        needed = (size_bytes + _RESERVE_BYTES) / 1e6
        return f"the disk has {free / 1e6:.0f} MB free and {needed:.0f} MB are needed"

    def tidy(self, keep: list[str]) -> None:
        """Take away all bundles, and parts of bundles, but those of these hashes."""
        if not self._folder.is_dir():
            return
        for file in self._folder.iterdir():
            if file.suffix in (".edge", ".part") and file.stem not in keep:
                with suppress(OSError):  # it is tried again after the next update
                    file.unlink()
