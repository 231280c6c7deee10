"""`edgetool watch` runs for weeks, so nothing in it grows; and it believes no more than a message can prove."""

from __future__ import annotations

import threading
from typing import Any

import msgspec
import pytest
from fakes import make_alert

from edge_agent.messages.event import DroppedEvent, MutedEvent, SetAsideEvent, StormEvent
from edgetool._cli.watch import render
from edgetool.believed import Doubt, Judge, Told, WatchedEvent
from edgetool.subscription import Message, Subscription

TOPIC = "edge/press-7/alerts/pump/a1"


def watched(**changes: Any) -> WatchedEvent:
    return WatchedEvent(make_alert(**changes), "press-7", "pump", "a1")


def numbered(number: int) -> Message:
    return Message(TOPIC, b"%d" % number, is_retained=False)


def look_at(judge: Judge, topic: str = TOPIC, *, is_retained: bool = False, **changes: Any) -> WatchedEvent:
    found = judge.look_at(Message(topic, msgspec.json.encode(make_alert(**changes)), is_retained))
    assert found is not None
    return found


def test_events_are_told_once_and_old_ones_are_forgotten() -> None:
    """An event comes again soon after a lost connection, or never; names may be of any length."""
    told = Told()
    assert all(told.is_new(watched(id=f"id-{number}" + "x" * 1000)) for number in range(30_000))
    assert not any(told.is_new(watched(id=f"id-{number}" + "x" * 1000)) for number in range(20_000, 30_000))
    assert len(told._keys) == 10_000


def test_a_forgery_hides_no_event() -> None:
    """Though it has the event's id, name and time: it came from elsewhere, or is in doubt."""
    told = Told()
    assert told.is_new(WatchedEvent(make_alert(), "press-8", "pump", "a1", (Doubt.AGENT,)))
    assert told.is_new(WatchedEvent(make_alert(), "press-7", "pump", "a1", (Doubt.RETAINED,)))
    assert told.is_new(watched())
    assert not told.is_new(watched())


def put_all(arrived: Subscription) -> None:
    for number in range(1000):
        arrived.put(numbered(number))


def test_what_arrives_waits_for_room_and_not_for_ever() -> None:
    """A viewer that stands still fills no memory; when watching ends, whoever waits goes on."""
    with Subscription([""]) as arrived:
        arrived.put(Message(TOPIC, b"x" * (2 << 20), is_retained=False))
        assert arrived.get() is None
        waiting = threading.Thread(target=put_all, args=(arrived,))
        waiting.start()
        assert [arrived.get() for _ in range(50)] == [numbered(number) for number in range(50)]
        assert waiting.is_alive()
        assert arrived._queue.qsize() <= 100
    waiting.join(5)
    assert not waiting.is_alive()


@pytest.mark.parametrize(
    ("topic", "is_retained", "doubts"),
    [
        (TOPIC, False, []),
        (TOPIC, True, ["retained"]),
        ("edge/press-8/alerts/pump/a1", False, ["agent"]),
        ("edge/press-7/alerts/fan/a1", False, ["stream"]),
        ("edge/press-7/alerts/pump/a2", False, ["asset"]),
        ("edge/press-8/alerts/fan/a2", True, ["retained", "agent", "stream", "asset"]),
    ],
)
def test_an_event_is_held_against_its_topic(topic: str, is_retained: bool, doubts: list[str]) -> None:
    """Whoever may write to one topic only, cannot speak for another one."""
    found = look_at(Judge(), topic, is_retained=is_retained)
    assert found.is_ordinary is (not doubts)
    shown = found.describe()
    assert (shown["topic"], shown["doubts"], shown["id"], shown["agent"]) == (topic, doubts, "x", "press-7")


def test_what_was_dropped_is_held_against_its_topic_too() -> None:
    """A number of lost events is no less worth forging."""
    dropped = msgspec.json.encode(DroppedEvent(id="y", agent="press-7", stream="pump", count=17, time="t", since="s"))
    found = [
        Judge().look_at(Message(f"edge/press-7/alerts/pump/{asset}", dropped, is_retained=False))
        for asset in ("stream", "a1")
    ]
    assert [each.doubts for each in found if each is not None] == [(), (Doubt.ASSET,)]


def test_what_was_set_aside_is_shown() -> None:
    """With the topic of the message, and held against the topic of the alerts like any event."""
    aside = SetAsideEvent(
        id="aside-1", agent="press-7", stream="pump", asset="a1", topic="sensors/a1/pump", payload_bytes=57, time="t"
    )
    found = Judge().look_at(Message(TOPIC, msgspec.json.encode(aside), is_retained=False))
    assert found is not None
    assert found.is_ordinary
    line = "two runs ended over a message of 57 bytes on sensors/a1/pump; it is not read any more"
    assert render(found).plain == f"SET_ASIDE press-7/pump/a1  t  {line}"


def test_storms_and_mutes_are_shown() -> None:
    """In words, with the first names and how many more there are."""
    storm = StormEvent(
        id="s", agent="press-7", stream="pump", phase="begins", new_assets=False, count=380, open=379,
        assets=["a20", "a21"], time="t", since="s",
    )  # fmt: skip
    muted = MutedEvent(
        id="m", agent="press-7", stream="pump", asset="a1", scope="asset", until="u", known=False, time="t"
    )
    whole = MutedEvent(
        id="m", agent="press-7", stream="pump", asset="stream", scope="stream", until="t", known=True, time="t"
    )
    line = "begins: 380 alerts since s were not told one by one, 379 open, such as a20, a21"
    lines = []
    for event in (storm, muted, whole):
        topic = f"edge/press-7/alerts/pump/{event.asset}"
        found = Judge().look_at(Message(topic, msgspec.json.encode(event), is_retained=False))
        assert found is not None
        assert found.is_ordinary
        lines.append(render(found).plain)
    assert lines == [
        f"STORM  press-7/pump/stream  t  {line}",
        "MUTED  press-7/pump/a1  t  a1: no alert is told until u, though nothing was heard of it yet",
        "MUTED  press-7/pump/stream  t  the stream as a whole: no longer muted",
    ]


def test_an_id_of_two_agents_is_told_of_both() -> None:
    """Which of them is right, nobody can tell; a message that is in doubt anyhow takes no id."""
    judge = Judge()
    other = "edge/press-8/alerts/pump/a1"
    assert look_at(judge, other, is_retained=True, agent="press-8").doubts == (Doubt.RETAINED,)
    assert look_at(judge).doubts == ()
    assert look_at(judge, event="update").doubts == ()
    assert look_at(judge, other, agent="press-8").doubts == (Doubt.SHARED_ID,)
    assert look_at(judge, event="clear").doubts == (Doubt.SHARED_ID,)
    assert look_at(judge, id="z").doubts == ()
    for number in range(20_000):
        look_at(judge, id=str(number))
    assert len(judge._owners) == 10_000


def test_what_is_no_event_or_on_no_topic_of_alerts_is_passed_over() -> None:
    """Whatever a broker sends; JSON that is nested deeply ended `edgetool watch` with a traceback."""
    deep = b'{"x": ' + b"[" * 5000 + b"]" * 5000 + b"}"
    for topic, payload in (
        (TOPIC, b"{}"),
        (TOPIC, deep),
        (TOPIC, b"\xff"),
        (f"{TOPIC}/x", msgspec.json.encode(make_alert())),
        ("x", b"1"),
    ):
        assert Judge().look_at(Message(topic, payload, is_retained=False)) is None


@pytest.mark.parametrize(
    ("topic", "changes", "line"),
    [
        (
            TOPIC,
            {"delayed": True},
            "RAISE  press-7/pump/a1  2026-11-21T10:15:30.250Z  score 7.9 (limit 3.2)  flow = 9.5 (75%)  delayed",
        ),
        (
            "edge/press-8/alerts/pump/a2",
            {"event": "clear", "time": "now", "channels": []},
            "DOUBT  press-8/pump/a2  names agent 'press-7'; names asset 'a1'  (clear  now  score 7.9 (limit 3.2))",
        ),
    ],
)
def test_a_line_begins_with_what_is_sure(topic: str, changes: dict[str, Any], line: str) -> None:
    """What does not fit its topic never looks like an alert."""
    assert render(look_at(Judge(), topic, **changes)).plain == line


def test_a_name_of_any_length_is_a_line_of_some_length() -> None:
    """Escaped, and cut."""
    found = watched(event="e\x1b\n" * 9999, level="l\u202e" * 9999, time="t\x9b" * 9999, channels=[])
    line = render(found).plain
    assert line.isprintable()
    assert len(line) < 2000
    assert "E\\x1b\\nE\\x1b\\n" in line


def test_an_id_of_two_agents_is_shown_behind_the_alert() -> None:
    """It stays an alert."""
    line = render(WatchedEvent(make_alert(channels=[]), "press-7", "pump", "a1", (Doubt.SHARED_ID,))).plain
    assert line.startswith("RAISE  press-7/pump/a1  2026")
    assert line.endswith("(limit 3.2)  another agent's alert has this id")
