"""Requests to a running agent are obeyed once."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.requests import Recommission, leave_request, take_requests


def test_a_request_is_taken_once(tmp_path: Path) -> None:
    """It is gone from the folder then."""
    leave_request(tmp_path, Recommission(stream="pump", asset="a1"))
    assert take_requests(tmp_path) == [Recommission(stream="pump", asset="a1")]
    assert take_requests(tmp_path) == []
    assert [*tmp_path.iterdir()] == []


def test_a_request_that_cannot_be_taken_away_is_not_obeyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a disk that has become read-only, it would recommission the asset again and again, and keep it silent."""
    leave_request(tmp_path, Recommission(stream="pump"))

    def fails(_: Path) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as disk:
        disk.setattr(Path, "unlink", fails)
        assert take_requests(tmp_path) == []
    assert take_requests(tmp_path) == [Recommission(stream="pump")]


def test_what_is_no_request_is_taken_away(tmp_path: Path) -> None:
    """Told once, not with every look."""
    (tmp_path / "request-1.json").write_bytes(b"{")
    assert take_requests(tmp_path) == []
    assert [*tmp_path.iterdir()] == []
