"""The loop's order of commit, publication, synchronisation and acknowledgement."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.agent.loop import Daemon, _Batch
from edge_agent.agent.systemd import Notifier
from edge_agent.journal.journal import Commit, Journal
from edge_agent.sources.repeats import Repeats

ALERT = Commit(events=[("edge/g1/alerts/s/a", b"raise")], records=[("s", "a", b"raised")])
FIRST_HIGH_SCORE = Commit(records=[("s", "a", b"one more to confirm")])
NORMAL = Commit()


class Order:
    """A daemon with a journal of its own; everything else only notes what is asked of it."""

    def __init__(self, path: Path) -> None:
        self.done: list[str] = []
        self.journal = Journal(path)
        self.journal.sync()
        synchronise = self.journal.sync

        def noted() -> None:
            self.done.append("sync")
            synchronise()

        self.journal.sync = noted  # type: ignore[method-assign]
        config: Any = SimpleNamespace(agent=SimpleNamespace(id="g1"))
        make: Any = Daemon
        self._daemon = make(config, [], Notifier({}))
        self._daemon._journal = self.journal
        self._daemon._repeats = Repeats()
        self._daemon._publisher = SimpleNamespace(events_added=lambda: None, pump=lambda: self.done.append("publish"))
        self._daemon._alerts = SimpleNamespace(flush=lambda: None)

    def commit(self, commit: Commit) -> None:
        """One batch."""
        source: Any = SimpleNamespace(ack=lambda _: self.done.append("ack"))
        self._daemon._commit(_Batch(source, [], commit))


@pytest.mark.parametrize(
    ("before", "order"),
    [
        ([], ["publish", "sync", "ack"]),
        ([NORMAL, NORMAL], ["publish", "sync", "ack"]),
        ([ALERT], ["publish", "sync", "ack"]),
        ([ALERT, FIRST_HIGH_SCORE], ["sync", "ack"]),
        ([FIRST_HIGH_SCORE, NORMAL], ["sync", "ack"]),
    ],
)
def test_an_alert_leaves_before_the_disk_has_it_where_a_power_cut_could_not_undo_it(
    tmp_path: Path, before: list[Commit], order: list[str]
) -> None:
    """Readings that come again give the same alert only if what was acknowledged before them is on the disk.

    Otherwise the loop publishes it in the same step, after the acknowledgement.
    """
    daemon = Order(tmp_path / "journal.db")
    for commit in before:
        daemon.commit(commit)
    daemon.done.clear()
    daemon.commit(ALERT)
    assert daemon.done == order
    daemon.journal.close()
