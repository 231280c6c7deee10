"""What an operator asks for is there until it is done, and is done once."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge_agent.agent.batch import Batches
from edge_agent.agent.requests import Mute, Recommission, Requests, carry_out, leave_request
from edge_agent.errors import JournalError
from edge_agent.journal.journal import Commit, Journal


def test_a_request_is_there_until_it_is_carried_out(tmp_path: Path) -> None:
    """Whoever comes after a crash finds it; it is given once in a run."""
    leave_request(tmp_path, Recommission(stream="pump", asset="a1"))
    assert Requests(tmp_path).take() == [Recommission(stream="pump", asset="a1")]
    requests = Requests(tmp_path)
    assert requests.take() == [Recommission(stream="pump", asset="a1")]
    assert requests.take() == []
    requests.ack()
    assert [*tmp_path.iterdir()] == []


def test_requests_are_carried_out_in_the_order_in_which_they_were_asked(tmp_path: Path) -> None:
    """Who corrects a mute, or ends it, within one look of the agent must not get the first one."""
    asked = [Mute(stream="pump", until_s=float(number)) for number in range(20)]
    for each in asked:
        leave_request(tmp_path, each)
    assert Requests(tmp_path).take() == asked


def test_the_agents_user_can_read_what_root_asks_for(tmp_path: Path) -> None:
    """Whatever root's umask is: the service has a user of its own, and nobody else gets into its folder."""
    before = os.umask(0o077)
    try:
        leave_request(tmp_path, Mute(stream="pump", until_s=1.0))
    finally:
        os.umask(before)
    (file,) = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o644


def test_a_request_that_cannot_be_taken_away_is_not_obeyed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a disk that has become read-only, it would recommission the asset again and again, and keep it silent."""
    leave_request(tmp_path, Recommission(stream="pump"))
    requests = Requests(tmp_path)
    assert requests.take() == [Recommission(stream="pump")]

    def fails(_: Path, **_options: bool) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", fails)
        requests.ack()
        assert requests.take() == []
    requests.ack()
    assert [*tmp_path.iterdir()] == []


@pytest.mark.timeout(20)
def test_what_is_no_request_is_taken_away(tmp_path: Path) -> None:
    """Told once, not with every look; a pipe is not waited for."""
    (tmp_path / "request-1.json").write_bytes(b"{")
    (tmp_path / "request-2.json").write_bytes(b"\xff" * 200_000)
    os.mkfifo(tmp_path / "request-3.json")
    (tmp_path / "request-4.json").write_bytes(b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}")
    (tmp_path / "request-5.json").write_bytes(b'{"type": "mute", "stream": "pump", "until_s": 1e300}')
    assert Requests(tmp_path).take() == []
    assert [*tmp_path.iterdir()] == []


class Pump:
    """One commissioned stream, with a journal behind its batches."""

    name = "pump"

    def __init__(self, path: Path) -> None:
        self.asked: list[str | None] = []
        self.journal = Journal(path / "journal.db")
        unused: Any = SimpleNamespace(events_added=lambda: None)
        self.batches = Batches(self.journal, unused, unused, clock=lambda: 0.0)
        self._requests = Requests(path)

    def recommission(self, asset: str | None) -> Commit:
        """See `Obedient.recommission`."""
        self.asked.append(asset)
        return Commit(records=[("pump", "a1", b"new")] if asset == "a1" else [])

    def mute(self, asset: str | None, until_s: float) -> Commit:
        """See `Obedient.mute`."""
        self.asked.append(f"{asset} until {until_s:g}")
        return Commit(events=[("edge/x/alerts/pump/a1", b"{}")])

    def obey(self) -> None:
        """As the loop does now and then."""
        carry_out(self._requests, [self], self.batches.add)


def test_a_request_outlives_a_commit_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a full journal nothing is done yet; it is done once, and synchronised, when the journal takes it."""
    leave_request(tmp_path, Recommission(stream="pump", asset="a1"))
    agent = Pump(tmp_path)
    synced: list[bool] = []
    monkeypatch.setattr(agent.journal, "sync", lambda: synced.append(bool([*tmp_path.glob("request-*")])))

    def full(_: object) -> None:
        raise JournalError("full")

    with monkeypatch.context() as disk:
        disk.setattr(agent.journal, "commit", full)
        with pytest.raises(JournalError):
            agent.obey()
    assert [*tmp_path.glob("request-*")]
    agent.batches.finish()
    assert (agent.journal.records("pump"), agent.asked, synced) == ([("a1", b"new")], ["a1"], [True])
    assert not [*tmp_path.glob("request-*")]
    agent.journal.close()


def test_a_request_that_concerns_nothing_is_taken_away(tmp_path: Path) -> None:
    """There is nothing to commit."""
    leave_request(tmp_path, Recommission(stream="pump", asset="never"))
    agent = Pump(tmp_path)
    agent.obey()
    assert agent.asked == ["never"]
    assert not [*tmp_path.glob("request-*")]
    agent.journal.close()


def test_a_request_for_a_stream_that_is_not_there_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The configuration may have it, and this agent has not been started again since."""
    leave_request(tmp_path, Recommission(stream="fan"))
    agent = Pump(tmp_path)
    agent.obey()
    assert "request not carried out, this agent runs no such stream stream=fan" in caplog.text
    assert not [*tmp_path.glob("request-*")]
    agent.journal.close()


def test_a_mute_is_written_with_its_event(tmp_path: Path) -> None:
    """The event waits for the broker in the journal before the request is taken away."""
    leave_request(tmp_path, Mute(stream="pump", until_s=50.0))
    agent = Pump(tmp_path)
    agent.obey()
    assert (agent.asked, agent.journal.waiting()) == (["None until 50"], 1)
    assert not [*tmp_path.glob("request-*")]
    agent.journal.close()
