"""Files that are replaced while the agent runs are noticed."""

from __future__ import annotations

from pathlib import Path

from edge_agent.mqtt.file_watch import FileWatch


def test_a_changed_file_is_told_when_it_has_settled(tmp_path: Path) -> None:
    """A certificate and its key are replaced one after the other."""
    cert, key = tmp_path / "cert", tmp_path / "key"
    cert.write_text("1")
    key.write_text("1")
    watch = FileWatch([cert, key])
    assert not watch.changed(0)
    cert.write_text("22")
    assert not watch.changed(5)
    key.write_text("22")
    assert not watch.changed(10)
    assert not watch.changed(12)  # too early to look again
    assert watch.changed(15)
    watch.used()
    assert not watch.changed(20)
    key.unlink()
    assert not watch.changed(25)
    assert watch.changed(30)
