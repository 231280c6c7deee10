"""What the dashboard keeps in memory and on the disk: bounded, whatever is sent, and no more than can be believed."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import make_alert

from edge_agent.errors import DataError
from edge_agent.messages.event import AlertEvent, ChannelShare, DroppedEvent
from edge_agent.messages.status import Status
from edge_agent.messages.text import iso_time
from edgetool.monitoring.alerts import ENDED, OPEN, UNSEEN
from edgetool.monitoring.fleet import Fleet
from edgetool.monitoring.heard import Health, Mark, Score
from edgetool.monitoring.history import History
from edgetool.monitoring.intake import Intake
from edgetool.monitoring.live import Live, TooManyViewersError
from edgetool.monitoring.questions import alert_story, curve, restored
from edgetool.monitoring.shown import Changes
from edgetool.subscription import Message

NOW_S = 1_763_700_000.0


@pytest.fixture
def history(tmp_path: Path) -> Iterator[History]:
    with History(tmp_path / "history.db", days=7, limit_mb=100) as opened:
        yield opened


@pytest.fixture
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture
def intake(fleet: Fleet, history: History) -> Intake:
    return Intake(fleet, history)


def make_score(asset: str = "a1", highest: float = 2.0, *, at: float = NOW_S, **more: Any) -> Score:
    channels = [ChannelShare("c1", 1.0, 2.5)]
    document: dict[str, Any] = {
        "agent": "g1",
        "stream": "pump",
        "asset": asset,
        "time": iso_time(at),
        "channels": channels,
    }
    return Score(**{**document, "score": highest, "highest": highest, "threshold": 9.0, **more})


def make_evidence() -> dict[str, Any]:
    rows = [["2026-11-21T10:16:00Z", 1.0]]
    place = {"id": "x", "agent": "g1", "stream": "pump", "asset": "a1"}
    return {**place, "channels": ["c1"], "rows": rows, "part": 1, "parts": 1}


def send(intake: Intake, topic: str, document: object, *, is_retained: bool = False) -> None:
    payload = document if isinstance(document, bytes) else msgspec.json.encode(document)
    intake.take(Message(topic, payload, is_retained))


def send_alert(intake: Intake, **changes: Any) -> AlertEvent:
    event = make_alert(agent="g1", **changes)
    send(intake, f"edge/g1/alerts/{event.stream}/{event.asset}", event)
    return event


def health(number: int, active: int, *, waiting: int = 0) -> dict[str, Any]:
    streams = {"pump": {"active_alerts": active}}
    return {"agent": "g1", "time": iso_time(NOW_S + number), "queue_depth": waiting, "streams": streams}


def whole(fleet: Fleet) -> Changes:
    with fleet.lock:
        return fleet.whole({})


def changes(fleet: Fleet) -> Changes:
    with fleet.lock:
        return fleet.changes({})


def test_an_alert_is_made_of_its_events(intake: Intake, fleet: Fleet) -> None:
    """Its worst score and the sensors of it; an event that comes again changes nothing."""
    send_alert(intake, score=7.0, channels=[ChannelShare("flow", 0.9, 1.0)])
    send_alert(
        intake, event="update", score=9.0, time="2026-11-21T10:16:00Z", channels=[ChannelShare("heat", 0.8, 2.0)]
    )
    send_alert(intake, score=7.0, channels=[ChannelShare("flow", 0.9, 1.0)])
    (alert,) = whole(fleet).alerts
    assert (alert.state, alert.score, alert.worst, alert.channels[0].name) == (OPEN, 9.0, 9.0, "heat")
    end = {"event": "clear", "score": 1.0, "time": "2026-11-21T10:17:00Z", "duration_s": 89.75, "worst": 9.5}
    send_alert(intake, **end, channels=[ChannelShare("calm", 1.0, 0.0)])
    (alert,) = whole(fleet).alerts
    assert (alert.state, alert.worst, alert.duration_s, alert.channels[0].name) == (ENDED, 9.5, 89.75, "heat")
    assert alert.said == "worst score 9.5 (limit 3.2)"


def test_an_end_that_was_not_heard_is_told_by_two_healths(intake: Intake, fleet: Fleet) -> None:
    """Made while none of the agent's events waited; the same one, which the broker keeps, counts once."""
    send_alert(intake)
    for number, waiting in ((1, 1), (2, 1), (3, 0), (3, 0)):
        send(intake, "edge/g1/health", health(number, 0, waiting=waiting))
    send(intake, "edge/g1/health", health(4, 1))
    send(intake, "edge/g1/health", health(5, 0))
    assert whole(fleet).alerts[0].state == OPEN
    send(intake, "edge/g1/health", health(6, 0))
    assert whole(fleet).alerts[0].state == UNSEEN


def test_alerts_that_only_health_knows_of_are_counted_when_it_comes(intake: Intake, fleet: Fleet) -> None:
    """Of what comes later only events tell: an alert that has just ended is not one more that is open."""
    send_alert(intake)
    send(intake, "edge/g1/health", health(1, 3))
    assert whole(fleet).agents[0].unheard == {"pump": 2}
    send_alert(intake, event="clear", time="2026-11-21T10:16:00Z")
    send(intake, "edge/g1/health", health(1, 3))  # the same one, of a new connection
    assert whole(fleet).agents[0].unheard == {"pump": 2}
    send(intake, "edge/g1/health", health(2, 0))
    assert whole(fleet).agents[0].unheard == {}


def test_a_flapping_alert_says_so(intake: Intake, fleet: Fleet) -> None:
    """It is open while the score may be low. What becomes of it is told as of any other."""
    send_alert(intake, event="flapping")
    assert whole(fleet).alerts[0].said == "goes on and off, score 7.9 (limit 3.2)"
    send_alert(intake, event="update", time="2026-11-21T10:16:00Z")
    assert whole(fleet).alerts[0].said == "score 7.9 (limit 3.2)"


def test_pauses_between_scores_are_learned(intake: Intake, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """As they come, so that an asset that tells once an hour is not missed after minutes; an outage is forgotten."""
    at = 1_000.0
    monkeypatch.setattr("edgetool.monitoring.fleet.time.time", lambda: at)
    for wait_s, expected in ((0.0, 0.0), (3_600.0, 3_600.0), (5.0, 3_240.0), (5.0, 2_916.0)):
        at += wait_s
        send(intake, "edge/g1/scores/pump/a1", make_score(at=at))
        send_alert(intake)
        (asset,) = whole(fleet).assets
        assert asset.scored == at
        assert asset.pause_s == pytest.approx(expected)


def test_when_an_agent_was_lost_is_when_its_last_will_came(
    intake: Intake, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was written with the connection. Where it is there before us, nobody here knows when."""
    monkeypatch.setattr("edgetool.monitoring.fleet.time.time", lambda: NOW_S)
    birth = {"state": "online", "reason": "connected", "session": "s", "time": "2025-01-01T00:00:00Z", "version": "1"}
    will = {**birth, "state": "offline", "reason": "connection lost"}
    send(intake, "edge/g1/status", birth)
    assert whole(fleet).agents[0].since == birth["time"]
    send(intake, "edge/g1/status", will)
    assert whole(fleet).agents[0].since == iso_time(NOW_S)
    send(intake, "edge/g1/status", birth)
    send(intake, "edge/g1/status", {**will, "reason": "stopped", "time": "2025-01-02T00:00:00Z"})
    assert whole(fleet).agents[0].since == "2025-01-02T00:00:00Z"
    send(intake, "edge/g2/status", will)
    send(intake, "edge/g1/status", birth)
    fleet.connected_anew()  # a new connection, which brings what the broker kept meanwhile
    send(intake, "edge/g1/status", will)
    assert [agent.since for agent in whole(fleet).agents] == ["", ""]


def test_a_clock_that_is_hours_wrong_is_told(intake: Intake, fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an alert of now seems to be of the morning. A message that the broker kept is old and tells nothing."""
    at = NOW_S
    monkeypatch.setattr("edgetool.monitoring.fleet.time.time", lambda: at)
    for made, expected in ((-7_200, 0.0), (-7_190, -7_190.0), (7_200, 7_200.0), (100, 0.0), (-100, 0.0)):
        send(intake, "edge/g1/health", health(made, 0))
        assert whole(fleet).agents[0].skew_s == pytest.approx(expected)
    fleet.connected_anew()  # a new connection
    send(intake, "edge/g1/health", health(-7_000, 0))
    assert whole(fleet).agents[0].skew_s == 0.0
    send(intake, "edge/g1/health", {"agent": "g1", "time": "x"})
    assert whole(fleet).agents[0].skew_s == 0.0


def test_an_agent_that_was_retired_has_no_open_alerts(intake: Intake, fleet: Fleet, history: History) -> None:
    """Nobody will tell of their end any more. Its retained messages are gone then."""
    send(intake, "edge/g1/status", {"state": "online", "reason": "", "session": "", "time": "", "version": ""})
    send_alert(intake, id="x1")
    send(intake, "edge/g1/status", b"")
    found = whole(fleet)
    assert (found.agents, found.assets, [alert.state for alert in found.alerts]) == ([], [], [UNSEEN])
    history.commit()
    assert [alert.state for alert in restored(history.file)[1]] == [UNSEEN]


@pytest.mark.parametrize("table", ["alerts", "marks"])
def test_a_damaged_row_is_told_as_that(intake: Intake, history: History, table: str) -> None:
    """SQLite finds no fault in it. And the alert begins anew with its next event."""
    send_alert(intake)
    send(intake, "edge/g1/marks/x", Mark(agent="g1", id="x", time="2026-11-30T13:00:00Z"))
    history.commit()
    database = sqlite3.connect(history.file)
    database.execute(f"UPDATE {table} SET body = ?", (b'{"agent": "g',))
    database.commit()
    database.close()
    for ask in (restored, lambda file: curve(file, "g1", "pump", "a1", length_s=0, end=None)):
        with pytest.raises(DataError, match=r"cannot be read as a history .*; it may be damaged; move it away"):
            ask(history.file)
    if table == "alerts":
        assert history.alert("g1", "x") is None


def test_texts_of_an_alert_are_shortened(intake: Intake, fleet: Fleet) -> None:
    """Thousands of alerts are in memory, and a sender chooses their length."""
    send_alert(
        intake, level="l" * 9_000, provider="p" * 9_000, time="t" * 9_000, channels=[ChannelShare("c" * 9_000, 1, 1)]
    )
    assert len(msgspec.json.encode(whole(fleet).alerts[0])) < 2_000


def test_an_old_last_will_ends_no_new_connection(intake: Intake, fleet: Fleet) -> None:
    """It may come late; its session is that of the old one."""
    status = {"state": "online", "reason": "connected", "session": "new", "time": "", "version": "1"}
    will = {**status, "state": "offline", "reason": "connection lost", "session": "old"}
    send(intake, "edge/g1/status", status, is_retained=True)
    send(intake, "edge/g1/status", will)
    assert whole(fleet).agents[0].state == "online"
    send(intake, "edge/g1/status", {**will, "session": "new"})
    assert whole(fleet).agents[0].state == "offline"
    send(intake, "edge/g1/scores/pump/a1", make_score())
    send(intake, "edge/g1/status", b"")
    assert (whole(fleet).agents, whole(fleet).assets) == ([], [])


@pytest.mark.parametrize(
    ("topic", "document", "is_retained"),
    [
        ("edge/g1/evidence/pump/a1", {**make_evidence(), "rows": [["x", 1.0]]}, False),
        ("edge/g1/evidence/pump/a1", {**make_evidence(), "rows": [["2026-11-21T10:16:00Z", "1.0"]]}, False),
        ("edge/g1/evidence/pump/a1", {**make_evidence(), "rows": [["2026-11-21T10:16:00Z"]]}, False),
        ("edge/g1/scores/pump/a1", make_score(), True),
        ("edge/g2/scores/pump/a1", make_score(), False),
        ("edge/g1/scores/fan/a1", make_score(), False),
        ("edge/g1/scores/pump/a2", make_score(), False),
        ("edge/g1/scores/pump/a1", b'{"agent": "g1"}', False),
        ("edge/g1/scores/pump/a1", b"[" * 100_000, False),
        ("edge/g1/scores/pump/a1", b"\xff", False),
        ("edge/g2/health", health(1, 0), True),
        ("edge/g1/health", {"agent": "g1", "queue_depth": "many"}, True),
        ("edge/g1/status", {"state": 1}, True),
        ("edge/g1/marks/x", {"agent": "g1", "id": "y"}, True),
        ("edge/g1/marks/x", {"agent": "g1", "id": "x", "verdict": "maybe"}, True),
        ("edge/g1/marks/x", {"agent": "g1", "id": "x", "note": "n" * 3000}, True),
        (
            "edge/g1/evidence/pump/a1",
            {"id": "x", "agent": "g1", "stream": "pump", "asset": "a1", "channels": ["c"], "rows": [[]]},
            False,
        ),
        ("edge/g1/alerts/pump/a1", make_alert(agent="g2"), False),
        ("edge/g1/alerts/pump/a1", make_alert(agent="g1"), True),
        (f"edge/g1/alerts/pump/{'a' * 2000}", make_alert(agent="g1"), False),
        ("edge/g1/evidence/pump/a1", {**make_evidence(), "rows": [[1.0, 1.0]]}, False),
        ("edge/g1/scores/pump/a1", msgspec.structs.replace(make_score(), time="yesterday"), False),
        ("edge/g1/scores/pump/a1", make_score(channels=[ChannelShare("c" * 20_000, 1.0, 1.0)]), False),
        ("edge/g1/health", {**health(1, 0), "journal_problem": "x" * 600_000}, True),
        ("edge/g1/alerts/pump/a1", make_alert(agent="g1", id="x" * 300), False),
        ("edge/g1/else", b"{}", False),
        ("edge", b"{}", False),
    ],
)
def test_what_is_not_believed_changes_nothing(
    intake: Intake, fleet: Fleet, topic: str, document: object, is_retained: bool
) -> None:
    """But for a count, and for an event of an alert a notice."""
    send(intake, topic, document, is_retained=is_retained)
    found = whole(fleet)
    assert (found.agents, found.assets, found.alerts) == ([], [], [])
    assert sum(intake.doubted.values()) == 1


def test_a_flood_of_names_stays_within_bounds(intake: Intake, fleet: Fleet) -> None:
    """Of assets, agents, alerts and notices; those that came last are kept, and pages are told which have gone."""
    for number in range(12_000):
        fleet.take_score(make_score(f"a{number}"))
    assert len(whole(fleet).assets) == 10_000
    assert whole(fleet).assets[0].asset == "a2000"
    told = changes(fleet)
    assert (len(told.assets), len(told.gone)) == (10_000, 2_000)
    for number in range(3_000):
        fleet.take_status(f"g{number}", Status(state="online", reason="", session="", time="", version=""))
        send_alert(intake, id=f"id{number}", since=f"2026-11-21T10:{number // 60 % 60:02}:{number % 60:02}Z")
    dropped = DroppedEvent(id="d", agent="g1", stream="pump", count=1, time="", since="")
    for number in range(100):
        send(intake, "edge/g1/alerts/pump/stream", msgspec.structs.replace(dropped, id=f"d{number}"))
    found = whole(fleet)
    assert (len(found.agents), len(found.alerts), len(found.notices)) == (1_000, 2_000, 30)
    told = changes(fleet)
    assert told.gone_alerts == [f"g1/id{number}" for number in range(1_000)]
    assert {alert.id for alert in told.alerts} == {f"id{number}" for number in range(1_000, 3_000)}
    for number in range(3_000):
        fleet.take_mark(Mark(agent="g1", id=f"m{number}"))
    assert len(fleet._alerts.marks) == 2_000


def make_mark(note: str, at: float = NOW_S) -> Mark:
    return Mark(agent="g1", id="x", note=note, time=iso_time(at))


def test_the_newer_of_two_marks_counts(intake: Intake, fleet: Fleet, history: History) -> None:
    """Whichever comes first; one with a time far ahead would be the newest for ever, and is not believed."""
    send_alert(intake, id="x")
    for mark in (make_mark("second", NOW_S + 1), make_mark("first"), make_mark("forged", time.time() + 90_000)):
        send(intake, "edge/g1/marks/x", mark, is_retained=True)
    assert fleet.mark_of("g1", "x").note == "second"
    assert intake.doubted == {"marks": 1}
    history.commit()
    assert [mark.note for mark in restored(history.file)[2]] == ["second"]
    assert curve(history.file, "g1", "pump", "a1", length_s=0, end=None)["alerts"][0].mark.note == "second"


def test_lost_marks_are_those_that_the_broker_does_not_have(intake: Intake, fleet: Fleet) -> None:
    """Or has an older one of; of agents that it knows, and each once."""
    status = {"state": "online", "reason": "", "session": "", "time": "", "version": ""}
    for alert_id in ("has", "older", "lost"):
        mark = Mark(agent="g1", id=alert_id, time=iso_time(NOW_S))
        send(intake, f"edge/g1/marks/{alert_id}", mark)
        send(intake, f"edge/g2/marks/{alert_id}", msgspec.structs.replace(mark, agent="g2"))
    assert fleet.lost_marks(9) == []
    send(intake, "edge/g1/status", status)
    fleet.connected_anew()
    assert fleet.lost_marks(9) == []
    send(intake, "edge/g1/status", status, is_retained=True)
    send(intake, "edge/g1/marks/has", Mark(agent="g1", id="has", time=iso_time(NOW_S)), is_retained=True)
    send(intake, "edge/g1/marks/older", Mark(agent="g1", id="older", time=iso_time(NOW_S - 1)), is_retained=True)
    assert {mark.key for mark in fleet.lost_marks(9)} == {"g1/older", "g1/lost"}
    assert fleet.lost_marks(9) == []


def test_a_lost_mark_that_may_not_be_written_is_not_tried_at_once(
    intake: Intake, fleet: Fleet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broker may end the connection for it, and the next one would do the same; in an hour the rules may differ."""

    def connect_anew() -> list[str]:
        fleet.connected_anew()
        send(intake, "edge/g1/status", {"state": "online", "reason": "", "session": "", "time": "", "version": ""})
        return [mark.id for mark in fleet.lost_marks(9)]

    send(intake, "edge/g1/marks/x", make_mark("seen"))
    assert connect_anew() == ["x"]
    assert connect_anew() == []
    then = time.monotonic() + 3_600
    monkeypatch.setattr(time, "monotonic", lambda: then)
    assert connect_anew() == ["x"]
    send(intake, "edge/g1/marks/x", make_mark("seen"))
    assert connect_anew() == ["x"]


def test_an_event_of_long_ago_adds_to_its_alert(intake: Intake, fleet: Fleet, history: History) -> None:
    """Also where the alert is in the history only: what it was at its worst is not lost."""
    send_alert(intake, id="old", score=99.0)
    send_alert(intake, id="old", event="clear", time="2026-11-21T10:17:00Z")
    for number in range(200):
        for name in ("raise", "clear"):
            send_alert(intake, id=f"x{number}", event=name)
    history.commit()
    assert not fleet.has_alert("g1", "old")
    send_alert(intake, id="old", event="update", time="2026-11-21T10:16:00Z")
    history.commit()
    found = history.alert("g1", "old")
    assert found is not None
    assert (found.state, found.worst) == (ENDED, 99.0)


def test_a_page_is_told_each_point_once(fleet: Fleet) -> None:
    """And only of what has changed."""
    fleet.take_score(make_score("a1", 1.0))
    fleet.take_score(make_score("a1", 2.0))
    fleet.take_score(make_score("a2", 3.0))
    assert [(each.asset, each.spark) for each in changes(fleet).assets] == [("a1", [1.0, 2.0]), ("a2", [3.0])]
    fleet.take_score(make_score("a1", 4.0))
    told = changes(fleet)
    assert [(each.asset, each.spark) for each in told.assets] == [("a1", [4.0])]
    assert told.of_asset("g1/pump/a2").assets == []
    assert whole(fleet).assets[0].spark == [3.0]
    assert whole(fleet).assets[1].spark == [1.0, 2.0, 4.0]


def test_a_curve_has_its_highest_points_however_long_it_is(history: History) -> None:
    """As many as a screen shows, and with the sensors of each."""
    for number in range(20_000):
        history.add_score(
            make_score(highest=100.0 if number == 12_345 else number % 7, at=NOW_S + number), NOW_S + number
        )
    history.commit()
    found = curve(history.file, "g1", "pump", "a1", length_s=0, end=None)
    assert found["thinned"] is True
    assert 1_400 <= len(found["time"]) <= 1_502
    assert max(found["highest"]) == 100.0
    assert found["time"][found["highest"].index(100.0)] == NOW_S + 12_345
    assert found["time"] == sorted(found["time"])
    near = curve(history.file, "g1", "pump", "a1", length_s=60, end=NOW_S + 12_350)
    assert (near["thinned"], len(near["time"]), near["from"]) == (False, 61, NOW_S + 12_290)
    assert bytes(near["channels"][0]) == b'[["c1",1.0,2.5]]'
    none = curve(history.file, "g1", "pump", "none", length_s=60, end=None)
    assert (none["time"], none["alerts"]) == ([], [])


def test_a_time_of_the_future_bounds_no_curve(intake: Intake, history: History) -> None:
    """Nor what is shown after a restart; alerts of such a time are in every list, and bound nothing either."""
    late = iso_time(4_070_908_800)
    for at in (NOW_S, NOW_S + 5, 4_070_908_800.0, 253_402_300_799.0):
        send(intake, "edge/g1/scores/pump/a1", make_score(highest=at % 7, at=at))
    send_alert(intake, id="early", since=iso_time(NOW_S - 60), time=iso_time(NOW_S - 50), event="clear")
    send_alert(intake, id="late", since=late, time=late)
    history.commit()
    for length_s, since in ((0.0, NOW_S - 60), (10.0, NOW_S - 5)):
        found = curve(history.file, "g1", "pump", "a1", length_s=length_s, end=None)
        assert (found["from"], found["to"], found["ahead"]) == (since, NOW_S + 5, 2)
        assert found["time"] == [NOW_S, NOW_S + 5]
        assert [alert.id for alert in found["alerts"]] == ["late", "early"][: 2 if length_s == 0 else 1]
    assert [(asset.at, len(points)) for asset, points in restored(history.file)[0]] == [(NOW_S + 5, 2)]


def test_readings_that_came_first_stay(intake: Intake, history: History) -> None:
    """What comes later by the name of the same alert does not take their place, and adds no part to them."""
    first = {**make_evidence(), "parts": 2}
    send_alert(intake)
    send(intake, "edge/g1/evidence/pump/a1", first)
    send(intake, "edge/g1/evidence/pump/a1", {**first, "rows": [["2026-11-21T10:16:00Z", 7.0]]})
    send(intake, "edge/g1/evidence/pump/a1", {**first, "parts": 3, "part": 2})
    send(intake, "edge/g1/evidence/pump/a2", {**first, "asset": "a2", "part": 2})
    send(intake, "edge/g1/evidence/pump/a1", {**first, "part": 3})
    history.commit()
    story = alert_story(history.file, "g1", "x")
    assert story is not None
    assert (story["evidence"]["rows"], story["evidence"]["missing"]) == ([["2026-11-21T10:16:00Z", 1.0]], 1)
    send(intake, "edge/g1/evidence/pump/a1", {**first, "rows": [["2026-11-21T10:16:01Z", 2.0]], "part": 2})
    history.commit()
    story = alert_story(history.file, "g1", "x")
    assert story is not None
    assert [row[1] for row in story["evidence"]["rows"]] == [1.0, 2.0]
    assert intake.doubted == {"evidence": 1}


def test_a_history_stays_within_its_bytes(tmp_path: Path) -> None:
    """The oldest points go first; alerts and their events stay."""
    with History(tmp_path / "history.db", days=7, limit_mb=3) as history:
        intake = Intake(Fleet(), history)
        event = send_alert(intake)
        sizes = []
        for number in range(60_000):
            history.add_score(make_score(f"a{number % 50}", at=NOW_S + number), NOW_S + number)
            if number % 200 == 199:
                history.commit()
                sizes.append(history.size_bytes)
        assert max(sizes) < 3_500_000
        assert (tmp_path / "history.db").stat().st_size < 4_000_000
        newest = curve(history.file, "g1", "pump", "a49", length_s=0, end=None)
        assert newest["to"] == NOW_S + 59_999
        assert newest["first"] > NOW_S + 10_000
        assert alert_story(history.file, "g1", event.id) is not None


def test_a_history_forgets_what_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By when it came, not by the readings' times, which may be of last year; an open alert stays."""
    with History(tmp_path / "history.db", days=1, limit_mb=100) as history:
        intake = Intake(Fleet(), history)
        send_alert(intake, id="open")
        for name in ("raise", "clear"):
            send_alert(intake, id="ended", event=name)
        history.add_mark(Mark(agent="g1", id="ended"))
        history.add_score(make_score("old"), NOW_S)
        history.commit()
    then = time.time() + 2 * 86_400
    monkeypatch.setattr(time, "time", lambda: then)
    with History(tmp_path / "history.db", days=1, limit_mb=100) as history:
        history.add_score(make_score("new", at=1.0), 1.0)
        history.commit()
        rows = sqlite3.connect(history.file)
        assert rows.execute("SELECT asset FROM series").fetchall() == [("new",)]
        assert rows.execute("SELECT id FROM alerts").fetchall() == [("open",)]
        assert rows.execute("SELECT count(*) FROM marks").fetchone() == (0,)
        rows.close()


def test_a_history_that_cannot_be_written_says_so_and_goes_on(history: History) -> None:
    """What waits is written as soon as that is possible."""
    history.add_score(make_score(), NOW_S)
    other = sqlite3.connect(history.file)
    history._database.execute("PRAGMA busy_timeout = 1")
    other.execute("BEGIN IMMEDIATE")
    history.commit()
    assert history.problem == "database is locked"
    other.rollback()
    other.close()
    history.commit()
    assert history.problem == ""
    assert curve(history.file, "g1", "pump", "a1", length_s=0, end=None)["time"] == [NOW_S]


def test_many_rows_are_written_before_their_time(history: History) -> None:
    """Else a flood of scores would lose some, though nothing is wrong with the disk."""
    for number in range(20_000):
        history.add_score(make_score(at=number), float(number))
        history.commit_if_due()
    assert len(history._waiting) < 5_001
    assert history.dropped == 0


def test_rows_that_cannot_be_written_are_bounded(history: History) -> None:
    """The oldest are dropped, and counted."""
    for number in range(60_000):
        history.add_score(make_score(at=number), float(number))
    assert len(history._waiting) == 50_000
    assert history.dropped == 10_001


def test_what_was_shown_is_shown_again(intake: Intake, fleet: Fleet, history: History) -> None:
    """Assets with their last points, open alerts, marks."""
    for number in range(100):
        send(intake, "edge/g1/scores/pump/a1", make_score(highest=float(number), at=NOW_S + number))
    send_alert(intake, id="x1")
    send(intake, "edge/g1/marks/x1", Mark(agent="g1", id="x1", note="seen"))
    history.commit()
    assets, alerts, marks = restored(history.file)
    assert [(asset.key, points) for asset, points in assets] == [
        ("g1/pump/a1", [float(number) for number in range(40, 100)])
    ]
    assert (assets[0][0].highest, assets[0][0].threshold) == (99.0, 9.0)
    assert [alert.key for alert in alerts] == ["g1/x1"]
    assert [mark.note for mark in marks] == ["seen"]
    send(intake, "edge/g1/marks/x1", b"")
    history.commit()
    assert restored(history.file)[2] == []
    assert whole(fleet).alerts[0].mark is None


def test_a_file_of_another_kind_is_no_history(tmp_path: Path) -> None:
    """It is left as it is."""
    file = tmp_path / "other.db"
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE orders (id INTEGER)")
    other.close()
    before = file.read_bytes()
    with pytest.raises(DataError, match="is no history of this version's dashboard"):
        History(file, days=1, limit_mb=1)
    assert file.read_bytes() == before


async def read_some(live: Live, count: int) -> list[bytes]:
    stream = live.stream(None)
    found = [await anext(stream)]
    while len(found) < count:
        live.tell()
        found.append(await anext(stream))
    await stream.aclose()  # type: ignore[attr-defined]
    return found


def test_a_page_begins_with_the_whole(fleet: Fleet) -> None:
    """And is told of changes from then on."""
    fleet.take_score(make_score())
    found = asyncio.run(read_some(Live(fleet, dict), 3))
    assert found[0] == b"retry: 2000\n\n"
    first, second = (msgspec.json.decode(each.removeprefix(b"data: ")) for each in found[1:])
    assert (first["whole"], len(first["assets"])) == (True, 1)
    assert (second["whole"], second["assets"]) == (False, [])


async def be_slow(live: Live, fleet: Fleet) -> list[dict[str, Any]]:
    stream = live.stream(None)
    await anext(stream)
    for number in range(1_000):
        fleet.take_score(make_score(highest=float(number)))
        live.tell()
    found = []
    (viewer,) = live._viewers
    while viewer.waiting:
        found.append(msgspec.json.decode((await anext(stream)).removeprefix(b"data: ")))
    await stream.aclose()  # type: ignore[attr-defined]
    return found


def test_a_page_that_is_too_slow_is_told_the_whole_anew(fleet: Fleet) -> None:
    """In place of a queue that grows."""
    found = asyncio.run(be_slow(Live(fleet, dict), fleet))
    assert len(found) <= 9
    assert found[0]["whole"] is True
    told = [*found[0]["assets"][0]["spark"], *(point for each in found[1:] for point in each["assets"][0]["spark"])]
    assert told[-60:] == [float(number) for number in range(940, 1000)]


async def open_many(live: Live) -> int:
    streams = [live.stream(None) for _ in range(101)]
    count = 0
    try:
        for stream in streams:
            await anext(stream)
            count += 1
    except TooManyViewersError:
        pass
    for stream in streams:
        await stream.aclose()  # type: ignore[attr-defined]
    return count


def test_no_more_than_a_hundred_pages_are_told(fleet: Fleet) -> None:
    """And those that have gone are forgotten."""
    live = Live(fleet, dict)
    assert asyncio.run(open_many(live)) == 100
    assert live.viewers == 0


def test_a_node_of_sparkplug_that_has_no_connection_is_a_problem_of_its_agent() -> None:
    """Its connection is one of its own, so the agent's may be good."""
    node = b'{"state": "waiting", "problem": "identifier rejected", "devices": 3, "rebirths": 0}'
    health = msgspec.json.decode(b'{"agent": "g1", "sparkplug_node": ' + node + b"}", type=Health)
    assert health.problems() == ["sparkplug: identifier rejected"]
    assert msgspec.json.decode(b'{"agent": "g1"}', type=Health).problems() == []
