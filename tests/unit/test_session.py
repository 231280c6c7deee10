"""Topics of earlier configurations, which the broker's session still has."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_agent.agent.handover import former_topics
from edge_agent.journal.journal import Commit, Journal


def test_topics_of_every_earlier_run_are_known(tmp_path: Path) -> None:
    """Each run gets those that are not its own any more."""
    journal = Journal(tmp_path / "journal.db")
    assert former_topics(journal, ["a/+", "b/+"]) == []
    assert former_topics(journal, ["b/+"]) == ["a/+"]
    assert former_topics(journal, ["c/+"]) == ["a/+", "b/+"]
    assert former_topics(journal, ["a/+", "c/+"]) == ["b/+"]
    journal.close()


def test_a_damaged_list_is_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A bit that changed may make what is no topic, with which every connection would end."""
    journal = Journal(tmp_path / "journal.db")
    former_topics(journal, ["a/+"])
    ((key, record),) = journal.records("")
    journal.commit(Commit(records=[("", key, record.replace(b"+", b"#/+"))]))
    with caplog.at_level(logging.WARNING):
        assert former_topics(journal, ["b/+"]) == []
    assert "not known any more" in caplog.text
    assert former_topics(journal, ["c/+"]) == ["b/+"]
    journal.close()
