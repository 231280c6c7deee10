"""A power cut at any moment of the journal's work, simulated on its files.

The simulation stands on what a disk promises: what was synced is there; of what was written since, any part may be, in
sectors of 512 bytes and in any order. `Journal.sync` syncs the log, SQLite log and database at a checkpoint, and the
header of a log that begins anew before its first page. So for every statement of a workload the files before and after
it are kept, and from each pair come files as a power cut may have left them.
"""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from fakes import outgoing
from plan import SEED
from rig import Report

from edge_agent.journal.journal import Commit, Journal

SECTOR = 512
LOG_HEADER = 32
VARIANTS = 6
"""Power cuts for each write."""


@dataclass(frozen=True)
class Files:
    """The journal's two files."""

    database: bytes
    log: bytes

    @classmethod
    def of(cls, path: Path) -> Files:
        """As they are now."""
        log = path.with_name(path.name + "-wal")
        return cls(path.read_bytes(), log.read_bytes() if log.exists() else b"")

    def write(self, path: Path) -> None:
        """As another journal."""
        path.write_bytes(self.database)
        path.with_name(path.name + "-wal").write_bytes(self.log)


def torn(before: bytes, after: bytes, chance: random.Random) -> bytes:
    """Any part of a write: cut off anywhere, or with any of its sectors."""
    if chance.random() < 0.5:
        # A file that was cut keeps what lay beyond the cut before.
        cut = chance.randint(0, len(after))
        return after[:cut] + before[cut:]
    mixed = bytearray(before[: len(after)].ljust(len(after), b"\0"))
    for start in range(0, len(after), SECTOR):
        if chance.random() < 0.5:
            mixed[start : start + SECTOR] = after[start : start + SECTOR]
    return bytes(mixed)


def torn_log(before: bytes, after: bytes, chance: random.Random) -> bytes:
    """Any part of what was added to the log. One that begins anew has its new header synced before anything else."""
    if before and before[:LOG_HEADER] != after[:LOG_HEADER]:
        renewed = after[:LOG_HEADER] + before[LOG_HEADER:]
        return chance.choice([before, renewed, torn(renewed, after, chance)])
    return torn(before, after, chance)


class Rehearsal:
    """A journal at work, and what a power cut must not take."""

    def __init__(self, folder: Path, chance: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = folder / "journal.db"
        self.journal = Journal(self.path)
        # Small, so that there are many checkpoints.
        self.journal._db.execute("PRAGMA wal_autocheckpoint = 40")
        self.cuts = self.checkpoints = 0
        self._folder = folder
        self._chance = chance
        self._must: set[bytes] = set()
        """Events of commits that have returned, and that nobody has deleted."""
        self._may: set[bytes] = set()
        """Those, and the deleted ones: a power cut may bring them back."""
        self._number = 0
        self._synced = False
        self._flush = 0
        """Commits of windows so far."""
        monkeypatch.setattr(os, "fdatasync", self._sync)

    def _sync(self, file: int) -> None:
        """What the journal asks of the system; it is believed that the system does it."""
        self._synced = os.fstat(file).st_ino == self.path.with_name("journal.db-wal").stat().st_ino

    def step(self, *, events: int) -> None:
        """One write of the journal, with power cuts in it and after it."""
        before = Files.of(self.path)
        if events == 0 and self._chance.random() < 0.5:
            self._delete()
        else:
            self._commit(events)
        is_synced, self._synced = self._synced, False
        after = Files.of(self.path)
        checkpoint = before.database != after.database
        self.checkpoints += checkpoint
        for _ in range(VARIANTS):
            if checkpoint:
                # The log was synced before the first page went into the database, and is whole until that is synced.
                self._cut(Files(torn(before.database, after.database, self._chance), after.log))
            elif is_synced:
                break
            else:
                self._cut(Files(after.database, torn_log(before.log, after.log, self._chance)))
        self._cut(after)

    def _commit(self, events: int) -> None:
        payloads = [b"event %d " % (self._number + i) + b"x" * self._chance.randint(0, 900) for i in range(events)]
        self._number += events
        record = b"newest %d" % (self._number - 1)
        commit = Commit(delivered=self._chance.randbytes(512))
        if events:
            commit.events.extend(("edge/g1/alerts/pump/a1", payload) for payload in payloads)
            commit.records.append(("pump", "a1", record))
        before = Files.of(self.path)
        self.journal.commit(commit)
        if events:
            # Cut in the middle of the commit: what was acknowledged before it is there, and it is whole or not at all.
            after = Files.of(self.path)
            if before.database == after.database:
                for _ in range(VARIANTS):
                    self._cut(Files(after.database, torn_log(before.log, after.log, self._chance)), may_have=payloads)
            self.journal.sync()
            assert self._synced
        self._must.update(payloads)
        self._may.update(payloads)

    def hold(self) -> None:
        """A commit of what was held: the rows of many assets' windows and the keys of their messages, not synced."""
        self._flush += 1
        rows = b"%08d" % self._flush * 40
        records = [("pump", f"w{number}", rows) for number in range(20)]
        before = Files.of(self.path)
        self.journal.commit(Commit(records=records, delivered=rows))
        after = Files.of(self.path)
        if before.database == after.database:
            for _ in range(VARIANTS):
                self._cut(Files(after.database, torn_log(before.log, after.log, self._chance)))
        self._cut(after)

    def _delete(self) -> None:
        first = outgoing(self.journal, 0, self._chance.randint(1, 20))
        self._must.difference_update(event.payload for event in first)
        self.journal.forget(first)

    def _cut(self, files: Files, may_have: list[bytes] | None = None) -> None:
        """Open what a power cut left, with the journal's own code."""
        self.cuts += 1
        folder = self._folder / "cut"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        files.write(folder / "journal.db")
        journal = Journal(folder / "journal.db")
        try:
            there = [event.payload for event in outgoing(journal, 0, 1_000_000)]
            records = dict(journal.records("pump"))
            keys = journal.delivered()
        finally:
            journal.close()
        assert not list(folder.glob("*.aside*")), "the journal was set aside"
        # Set aside, it would be empty; so it is the same file, and quick_check has found it good.
        missing = self._must.difference(there)
        assert not missing, f"{len(missing)} acknowledged events are gone after power cut {self.cuts}"
        assert [payload for payload in there if payload not in self._may] in ([], may_have)
        newest = there[-1].split()[1] if there else None
        rows = {record for asset, record in records.items() if asset.startswith("w")}
        assert len(rows) <= 1, "some windows have rows of a commit that others have not"
        assert all(found in b"".join(keys) for found in rows), (
            "windows have rows of messages that would be scored again"
        )
        if newest is not None:
            assert records["a1"] == b"newest " + newest, "an asset's record is not that of its newest event"


@pytest.mark.timeout(1800)
def test_power_cut(full: bool, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal as a power cut may leave it at any write: it opens whole, and no acknowledged alert is missing."""
    chance = random.Random(SEED)
    # The cuts are simulated, so the files may lie in memory, where a sync takes no time.
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        rehearsal = Rehearsal(Path(folder), chance, monkeypatch)
        steps = 6000 if full else 200
        for _ in range(steps):
            rehearsal.step(events=chance.choice([0, 0, 1, 2, 7]))
            if chance.random() < 0.2:
                rehearsal.hold()
        rehearsal.journal.close()
    report(writes=steps, checkpoints=rehearsal.checkpoints, power_cuts=rehearsal.cuts)
    assert rehearsal.checkpoints > steps / 50
