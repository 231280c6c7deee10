"""The numbers by which a Sparkplug host knows whose death it hears."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.agent.handover import birth_record, former_birth, keep_birth
from edge_agent.journal.journal import Commit, Journal
from edge_agent.messages.protobuf import read_fields
from edge_agent.mqtt.message import Message
from edge_agent.outputs.sparkplug import EdgeNode


def node(former: int | None) -> EdgeNode:
    return EdgeNode("plant", "g1", version="1", former=former, clock=lambda: 1_763_700_000.0)


def birth_number(message: Message) -> int:
    """Of its first metric."""
    payload = message.payload
    (metric, *_) = [value for number, value in read_fields(payload, 0, len(payload)) if number == 2]
    assert isinstance(metric, tuple)
    fields = dict(read_fields(payload, *metric))
    name, value = fields[1], fields[11]
    assert isinstance(name, tuple)
    assert isinstance(value, int)
    assert payload[slice(*name)] == b"bdSeq"
    return value


def test_the_birth_number_grows_with_each_connect_and_with_nothing_else() -> None:
    """From 255 to 0. An attempt that reached no broker has sent no CONNECT, and its number goes to the next one."""
    agent = node(former=253)
    assert birth_number(agent.will("one", "")) == 254
    assert birth_number(agent.will("two", "")) == 254
    assert birth_number(agent.birth("two")) == 254
    assert birth_number(agent.will("three", "two")) == 255
    # The new connection could not be made: the present one goes on, and ends, with its own number.
    assert birth_number(agent.birth("two")) == birth_number(agent.death("two")) == 254
    assert birth_number(agent.will("four", "two")) == 255
    assert birth_number(agent.birth("four")) == 255
    # Ended by the broker before its birth.
    assert birth_number(agent.will("five", "four")) == 0
    assert birth_number(agent.will("six", "five")) == 1
    assert agent.last == 1


def test_a_run_that_knows_of_none_before_does_not_begin_with_0() -> None:
    """Each would, and the death of the last one might come late."""
    assert birth_number(node(former=None).will("one", "")) == 1_763_700_000 % 256 + 1


def test_the_journal_keeps_the_number(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """For the next run; one that a changed bit has spoilt is told, and is none."""
    path = tmp_path / "journal.db"
    journal = Journal(path)
    assert former_birth(journal) is None
    keep_birth(journal, 7)
    keep_birth(journal, 8)
    journal.close()
    journal = Journal(path)
    assert former_birth(journal) == 8
    stream, asset, record = birth_record(8)
    journal.commit(Commit(records=[(stream, asset, b"9" + record[1:])]))
    assert former_birth(journal) is None
    assert "the last bdSeq is not known any more" in caplog.text
    journal.close()
