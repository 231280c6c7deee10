"""Waves, halts and rows of a fleet, without a broker."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import FleetError, UsageError
from edge_agent.messages.text import iso_time
from edge_agent.update.wishes import CHUNK_BYTES
from edgetool.fleet.choosing import refuse_unfit
from edgetool.fleet.deployment import Ask, Asked, Deployment, Seen, Standing, Target
from edgetool.fleet.parcel import Parcel
from edgetool.fleet.plan import FleetPlan, Halts, OnHalt, make_plan, matching, read_plan, wave_sizes
from edgetool.fleet.roster import NO_HEALTH, Roster
from edgetool.fleet.told import Answer, BundleFile, Update
from edgetool.fleet.wishes import Sent, Wisher, next_sequence, wish_topic
from edgetool.signing import PrivateKey
from edgetool.subscription import Message

NEW = BundleFile("pump", "1.1.0", "a" * 64)
OLD = BundleFile("pump", "1.0.0", "0" * 64)


def plan(**changes: Any) -> FleetPlan:
    given = {"bundle": "pump-1.1.0.edge", "stream": "pump", "to": ["*"], "key": "k", "soak": "30s", **changes}
    return make_plan("test", given)


def told(state: str, sequence: int = 1, *, running: BundleFile = OLD, **more: Any) -> Update:
    bundle = None if state == "none" else NEW
    return Update(agent="g", stream="pump", sequence=sequence, state=state, bundle=bundle, running=running, **more)


class World:
    """A deployment, and agents that say what a test lets them say."""

    def __init__(self, count: int, **changes: Any) -> None:
        self.deployment = Deployment(plan(**changes), NEW.sha256, [Target(f"g{number}") for number in range(count)])
        self.seen = {target.agent: Seen(online=True, update=told("none", 0)) for target in self.deployment.targets}
        self.asks: list[tuple[str, Ask]] = []
        self.now_s = 1000.0

    def look(self, after_s: float = 1.0) -> list[tuple[str, Ask]]:
        """Time goes on; gives whom it asks what."""
        self.now_s += after_s
        asks = []
        for target, ask in self.deployment.look(self.seen, self.now_s):
            seen = self.seen[target.agent]
            sequence = 1 if ask is Ask.BUNDLE else 2
            self.deployment.ask(target, Asked(ask, sequence, self.now_s, seen.open_alerts), online=seen.online)
            asks.append((target.agent, ask))
        self.asks += asks
        return asks

    def say(self, name: str, state: str, sequence: int = 1, *, alerts: int = 0, new: bool = False) -> None:
        update = told(state, sequence, running=NEW if new else OLD)
        self.seen[name] = Seen(online=True, update=update, open_alerts=alerts)

    def settle(self, *names: str) -> None:
        for name in names:
            self.say(name, "settled", new=True)

    def leave(self, name: str) -> None:
        self.seen[name] = Seen(online=False, update=self.seen[name].update)


# Plans --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("waves", "count", "sizes"),
    [
        (("1", "10%", "100%"), 40, [1, 4, 40]),
        (("1", "10%", "100%"), 3, [1, 3]),
        (("1", "10%", "100%"), 1, [1]),
        (("5%",), 30, [2, 30]),
        (("33.3%", "66.6%"), 3, [1, 2, 3]),
        (("50",), 10, [10]),
        (("1",), 0, []),
    ],
)
def test_waves_end_with_all(waves: tuple[str, ...], count: int, sizes: list[int]) -> None:
    """A share is rounded up, so that no wave is empty."""
    assert wave_sizes(waves, count) == sizes


@given(st.sets(st.integers(1, 100), min_size=1, max_size=6), st.integers(1, 2000))
def test_waves_grow(shares: set[int], count: int) -> None:
    """Whatever is written, each adds somebody, and the last one is all."""
    sizes = wave_sizes(tuple(f"{share}%" for share in sorted(shares)), count)
    assert sizes == sorted({*sizes})
    assert sizes[-1] == count


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"waves": ["0"]}, "--waves '0': expected numbers of agents or shares of all"),
        ({"waves": ["1.5"]}, "--waves '1.5': "),
        ({"waves": ["101%"]}, "--waves '101%': "),
        (
            {"waves": ["2", "1"]},
            "--waves '1': it is how many have been asked after the wave, so more than after the one",
        ),
        ({"waves": ["5", "5", "100%"]}, "--waves '5': it is how many have been asked after the wave"),
        ({"waves": ["1", "50%", "10%"]}, "--waves '10%': it is how many have been asked after the wave"),
        ({"soak": "soon"}, "--soak 'soon': expected a number with s, m, h or d, such as 30m"),
        ({"halt_on": ["alert=3x"]}, "--halt-on 'alert=3x': expected rollback, alerts=3x or offline=60s"),
        ({"halt_on": ["alerts=3"]}, "--halt-on 'alerts=3': "),
        ({"on_halt": "leave"}, "test: Invalid enum value 'leave' - at `$.on_halt`"),
        ({"stream": 5}, "test: Expected `str`, got `int` - at `$.stream`"),
        ({"shadow": {"readings": -1}}, "test: Expected `int` >= 0 - at `$.shadow.readings`"),
        ({"probation": {"readings": 10**12}}, "test: Expected `int` <= 1000000000 - at `$.probation.readings`"),
        ({"limits": {"alerts": math.inf}}, "test: Expected `float` <= 1000000.0 - at `$.limits.alerts`"),
        ({"limits": {"latency": math.nan}}, "at `$.limits.latency`"),
        ({"url": "ftp://plant/pump.edge"}, "at `$.url`"),
        ({"expires": "0s"}, "--expires '0s': expected a time above 0 and of at most 3650d"),
        ({"expires": "99999999999d"}, "--expires '99999999999d': expected a time above 0"),
        ({"shadow": {"reading": 2}}, "test: shadow has no 'reading'; it has readings, minutes"),
        ({"wave": ["1"]}, "test: a plan has no 'wave'; it has bundle, stream, to, "),
    ],
)
def test_what_cannot_be_meant_is_told(changes: dict[str, Any], problem: str) -> None:
    """By the option or the key."""
    with pytest.raises(UsageError) as caught:
        plan(**changes)
    assert problem in str(caught.value)


def test_what_a_plan_lacks_is_told_by_its_option() -> None:
    """All of it at once."""
    with pytest.raises(UsageError, match="missing: stream, to, key; give --stream --to --key, or a --plan"):
        make_plan("test", {"bundle": "pump-1.1.0.edge"})


def test_words_may_be_one_text() -> None:
    """As on a command line."""
    found = plan(to="press-*,line-1", waves="1,100%", halt_on="alerts=2.5x,offline=10s")
    assert (found.to, found.waves) == (("press-*", "line-1"), ("1", "100%"))
    assert Halts.of(found.halt_on) == Halts(rollback=False, alerts=2.5, offline_s=10.0)
    assert matching(found.to, ["press-1", "line-1", "line-12", "Press-2"]) == ["press-1", "line-1"]


# Waves --------------------------------------------------------------------------------------------------------------


def test_a_wave_comes_once_all_of_the_one_before_were_well_for_so_long() -> None:
    """And none of it is waited for any more once all have it."""
    world = World(4, waves=["1", "50%", "100%"])
    assert world.look() == [("g0", Ask.BUNDLE)]
    world.say("g0", "probation", new=True)
    assert world.look(100) == []
    world.settle("g0")
    assert world.look() == []
    assert world.look(29) == []
    assert world.look() == [("g1", Ask.BUNDLE)]
    world.settle("g1")
    world.look()
    assert world.look(30) == [("g2", Ask.BUNDLE), ("g3", Ask.BUNDLE)]
    assert not world.deployment.is_over
    world.settle("g2", "g3")
    world.look()
    assert world.deployment.is_over
    assert world.deployment.counts() == {Standing.SETTLED: 4}
    assert world.deployment.halted == ""


def test_what_an_agent_said_of_an_earlier_wish_is_none_of_ours() -> None:
    """Only the sequence tells."""
    world = World(2, waves=["1", "100%"])
    world.say("g0", "rolled_back", sequence=0)
    assert world.look() == [("g0", Ask.BUNDLE)]
    world.look()
    assert world.deployment.halted == ""
    assert world.deployment.targets[0].standing is Standing.ASKED


def test_an_agent_that_starts_anew_for_the_new_bundle_is_not_away() -> None:
    """It says goodbye and comes back within a minute."""
    world = World(1)
    world.look()
    world.say("g0", "switched")
    world.look()
    world.leave("g0")
    world.look(30)
    assert not world.deployment.is_over
    world.settle("g0")
    world.look()
    assert world.deployment.is_over
    assert world.deployment.missing == []


def test_who_was_away_from_the_beginning_is_asked_and_not_waited_for() -> None:
    """But once it is here, it counts."""
    world = World(2, waves=["100%"])
    world.leave("g1")
    assert len(world.look()) == 2
    world.settle("g0")
    world.look(1000)
    assert world.deployment.is_over
    assert world.deployment.missing == ["g1"]
    assert world.deployment.halted == ""
    world.say("g1", "fetching")
    world.look()
    assert not world.deployment.is_over


# Halts --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["refused", "rolled_back", "given_up", "kept"])
def test_one_that_does_not_do_well_stops_it(state: str) -> None:
    """Those that were asked are taken back, by what their state allows."""
    world = World(5, waves=["4", "100%"])
    world.look()
    world.say("g0", state)
    world.say("g1", "shadow")
    world.say("g2", "probation", new=True)
    world.settle("g3")
    assert world.look() == [("g1", Ask.CANCEL), ("g2", Ask.CANCEL), ("g3", Ask.ROLLBACK)]
    assert world.deployment.halted.startswith("g0 has ")
    assert not world.deployment.is_over
    world.say("g1", "given_up", 2)
    world.say("g2", "rolled_back", 2)
    assert world.look() == []
    assert not world.deployment.is_over
    world.say("g3", "rolled_back", 2)
    world.look(1000)
    assert world.deployment.is_over
    assert world.deployment.targets[4].asked is None


def test_one_that_obeys_another_operator_stops_it_and_is_let_be() -> None:
    """Two deploy at once: the later wish counts, and the one that lost neither undoes nor waits for it."""
    other = BundleFile("pump", "1.2.0", "b" * 64)
    world = World(3, waves=["2", "100%"])
    world.look()
    update = Update(agent="g", stream="pump", sequence=7, state="shadow", bundle=other, running=OLD)
    world.seen["g0"] = Seen(online=True, update=update)
    world.say("g1", "shadow")
    assert world.look() == [("g1", Ask.CANCEL)]
    assert "g0 obeys another wish" in world.deployment.halted
    assert world.deployment.counts()["replaced"] == 1
    world.say("g1", "given_up", 2)
    world.look()
    assert world.deployment.is_over
    assert world.deployment.missing == []


def test_one_that_failed_is_no_reason_to_wait_where_it_was_to_stop_nothing() -> None:
    """Without `rollback` in --halt-on, the others have it, and it is told in the end."""
    world = World(2, waves=["1", "100%"], halt_on=["offline"], soak="1s")
    world.look()
    world.say("g0", "rolled_back")
    world.look()
    assert world.look(2) == [("g1", Ask.BUNDLE)]
    world.settle("g1")
    world.look()
    assert world.deployment.is_over
    assert world.deployment.counts() == {"failed": 1, "settled": 1}


def test_the_one_that_is_waited_for_longest_is_known() -> None:
    """So that a deployment which waits says for whom."""
    world = World(2, waves=["1", "100%"], soak="1s")
    assert world.deployment.longest_under_way is None
    world.look()
    assert world.deployment.longest_under_way == (world.deployment.targets[0], Asked(Ask.BUNDLE, 1, world.now_s))
    world.settle("g0")
    world.look()
    assert world.deployment.longest_under_way is None


def test_a_halt_can_leave_those_that_have_it() -> None:
    """By the plan's word."""
    world = World(4, waves=["100%"], on_halt="keep")
    world.look()
    world.say("g0", "rolled_back")
    world.say("g1", "shadow")
    world.say("g2", "probation", new=True)
    world.settle("g3")
    assert world.look() == [("g1", Ask.CANCEL)]
    world.say("g1", "given_up", 2)
    world.settle("g2")
    world.look()
    assert world.deployment.is_over


def test_who_settled_before_a_cancel_came_goes_back_by_a_wish_of_its_own() -> None:
    """The cancel of a settled bundle does nothing, and its agent says so or says nothing."""
    world = World(2, waves=["100%"])
    world.look()
    world.say("g0", "refused")
    world.say("g1", "probation", new=True)
    assert world.look() == [("g1", Ask.CANCEL)]
    world.settle("g1")
    assert world.look() == [("g1", Ask.ROLLBACK)]


@pytest.mark.parametrize("state", ["refused", "kept"])
def test_who_cannot_go_back_is_no_agent_that_was_taken_back(state: str) -> None:
    """It has the new bundle, whatever it was asked for; nobody waits for it."""
    world = World(3, waves=["100%"])
    world.look()
    world.say("g0", "refused")
    world.settle("g1")
    world.say("g2", "probation", new=True)
    world.look()
    world.say("g1", state, 2, new=True)
    world.say("g2", "kept", 2, new=True)
    world.look()
    assert world.deployment.is_over
    assert world.deployment.counts() == {"failed": 3}


def test_who_rolled_back_by_itself_before_a_cancel_came_is_not_waited_for() -> None:
    """It never answers the cancel."""
    world = World(2, waves=["100%"])
    world.look()
    world.say("g0", "refused")
    world.say("g1", "probation", new=True)
    world.look()
    world.say("g1", "rolled_back", 1)
    world.look()
    assert world.deployment.is_over


@pytest.mark.parametrize(("before", "now", "stops"), [(0, 3, False), (0, 4, True), (4, 12, False), (4, 13, True)])
def test_alerts_stop_it_beyond_a_multiple(before: int, now: int, stops: bool) -> None:
    """Of what agents that have switched had before; of one where they had none."""
    world = World(2, waves=["1", "100%"], halt_on=["alerts=3x"])
    world.say("g0", "none", 0, alerts=before)
    world.look()
    world.say("g0", "probation", alerts=now, new=True)
    world.look()
    assert bool(world.deployment.halted) is stops


def test_offline_and_silence_stop_it() -> None:
    """The one after the time of the plan, the other where an agent that is online does not take the wish up."""
    gone = World(1, halt_on=["offline=10s"])
    gone.look()
    gone.leave("g0")
    gone.look()
    assert gone.deployment.halted == ""
    gone.look(10)
    assert gone.deployment.halted == "g0 is offline for 10 s"
    silent = World(1, halt_on=[], answer_within="20s")
    silent.look()
    silent.look(20)
    assert (
        silent.deployment.halted
        == "g0 says nothing of its wish for 20 s; does it trust this key, and is its clock right?"
    )


def test_a_run_of_before_goes_on_with_who_was_asked() -> None:
    """Nobody is asked twice, and the wave is the one that it was."""
    targets = [Target("g0", Asked(Ask.BUNDLE, 1, 1000.0), Standing.ASKED), Target("g1"), Target("g2")]
    deployment = Deployment(plan(waves=["1", "100%"], soak="0s"), NEW.sha256, targets)
    seen = {name: Seen(online=True, update=told("none", 0)) for name in ("g1", "g2")}
    seen["g0"] = Seen(online=True, update=told("shadow"))
    assert deployment.look(seen, 1001.0) == []
    seen["g0"] = Seen(online=True, update=told("settled", running=NEW))
    assert [(target.agent, ask) for target, ask in deployment.look(seen, 1002.0)] == [
        ("g1", Ask.BUNDLE),
        ("g2", Ask.BUNDLE),
    ]


# Whom it is for -----------------------------------------------------------------------------------------------------

PARCEL = Parcel(b"x" * (2 * CHUNK_BYTES + 1), NEW.name, NEW.version, NEW.sha256)


def test_the_last_piece_is_the_rest() -> None:
    """And a whole number of pieces has none."""
    assert PARCEL.chunks == 3
    assert Parcel(b"x" * CHUNK_BYTES, "", "", "").chunks == 1


@pytest.mark.parametrize(
    ("update", "changes", "problem"),
    [
        (None, {}, "it tells nothing of updates"),
        (told("none"), {}, None),
        (told("none", running=BundleFile("pump", "1.1.0", "b" * 64)), {}, "1.1.0 is not above 1.1.0"),
        (told("none", running=BundleFile("pump", "2.0.0", "b" * 64)), {}, "1.1.0 is not above 2.0.0"),
        (told("none", running=BundleFile("pump", "2.0.0", "b" * 64)), {"older": True}, None),
        (told("none", highest={"pump": "1.10.0"}), {}, "1.1.0 is not above 1.10.0"),
        (told("none", highest={"fan": "9.0.0"}), {}, None),
        (told("rolled_back", highest={"pump": "1.1.0"}), {}, None),
        (told("none", running=BundleFile("pump", "first", "b" * 64)), {}, None),
        (told("none", running=BundleFile("fan", "1.0.0", "b" * 64)), {}, "it runs fan, and this is pump"),
        (told("none", running=BundleFile("fan", "1.0.0", "b" * 64)), {"other_model": True}, None),
        (
            Update(agent="g", stream="pump", sequence=1, state="shadow", bundle=BundleFile("pump", "1.0.9", "c" * 64)),
            {},
            "another update is under way there (shadow 1.0.9)",
        ),
    ],
)
def test_what_an_agent_would_refuse_is_not_sent(
    update: Update | None, changes: dict[str, Any], problem: str | None
) -> None:
    """As far as it can be known from what it tells."""
    chosen = {"g0": Seen(online=True, update=update)}
    if problem is None:
        refuse_unfit(plan(**changes), PARCEL, chosen)
        return
    with pytest.raises(FleetError) as caught:
        refuse_unfit(plan(**changes), PARCEL, chosen)
    assert caught.value.lines[0].startswith(f"pump-1.1.0.edge for g0: {problem}")
    assert caught.value.lines[-1] == "nothing was sent"


def test_a_sequence_is_above_all_that_went_before() -> None:
    """Also where an operator's clock was in the future."""
    assert next_sequence("bundle", told("settled", 4 * 10**12), None) == 4 * 10**12 + 1
    assert next_sequence("bundle", told("settled", 1), Sent(4 * 10**12 + 7)) == 4 * 10**12 + 8
    assert next_sequence("bundle", None, Sent(10**15)) < 10**13, "no agent takes that one"
    assert 10**12 < next_sequence("bundle", None) < 10**15


@pytest.mark.parametrize("number", [10**15, (1 << 62) - 2, 10**30])
def test_no_sequence_is_signed_above_one_that_somebody_makes_up(number: int) -> None:
    """An agent that obeyed it would take only higher ones ever after, and there might be none."""
    settings = Answer(sequence=number, state="applied")
    assert next_sequence("bundle", told("settled", number)) < 10**13
    assert next_sequence("settings", told("settled", 1, settings=settings)) < 10**13
    agents = {"g0": Seen(online=True, update=told("settled", number))}
    with pytest.raises(FleetError, match=rf"g0: it tells of a wish {number}, which no clock .* in its name"):
        refuse_unfit(plan(), Parcel(b"x", "pump", "1.1.0", "a" * 64), agents)


@pytest.mark.parametrize(
    ("kind", "what", "why"),
    [
        ("bundle", {}, "it wishes for a bundle and names none"),
        ("bundle", {"rollback": True, "sequence": 10**15}, "its sequence 1000000000000000 is of no clock"),
        ("bundle", {"rollback": True, "limits": {"alerts": math.inf}}, "Expected `float`, got `null`"),
        ("settings", {"settings": {"x": "a" * 70_000}}, "bytes, at most 65536 are read"),
    ],
)
def test_nothing_is_signed_that_no_agent_would_take(kind: str, what: dict[str, Any], why: str) -> None:
    """It would say nothing of it, as of what anybody may send."""
    wisher = Wisher("pump", PrivateKey(Ed25519PrivateKey.generate()), time.time() + 60)
    with pytest.raises(UsageError, match=why):
        wisher.make("g1", kind, what.get("sequence", 7), what)


def test_a_wish_counts_on_its_own_topic_alone() -> None:
    """Whoever may only write to the broker can put a good one for another agent, stream or kind there."""
    key = PrivateKey(Ed25519PrivateKey.generate())
    wisher = Wisher("pump", key, time.time() + 60)
    message = wisher.make("g1", "bundle", 7, {"rollback": True})
    read = wisher.read(wish_topic("g1", "pump", "bundle"), message)
    assert read is not None
    assert (read.sequence, read.takes_back, read.holds) == (7, True, True)
    for topic in (
        wish_topic("g2", "pump", "bundle"),
        wish_topic("g1", "fan", "bundle"),
        "edge/g1/wishes/pump/settings",
    ):
        assert wisher.read(topic, message) is None
    late = Wisher("pump", key, time.time() - 1)
    found = late.read(wish_topic("g1", "pump", "bundle"), late.make("g1", "bundle", 8, {"cancel": True}))
    assert found is not None
    assert not found.holds, "nobody obeys it any more"


# Rows ---------------------------------------------------------------------------------------------------------------


def hear(roster: Roster, topic: str, document: object) -> None:
    roster.take(Message(topic, json.dumps(document).encode(), is_retained=True))


def online(roster: Roster, name: str, state: str = "online") -> None:
    status = {"state": state, "reason": "connected", "session": "s", "time": iso_time(1.7e9), "version": "0.1.0"}
    hear(roster, f"edge/{name}/status", status)


def healthy(roster: Roster, name: str, readings: int, at_s: float, **more: Any) -> None:
    streams = {"pump": {"readings": readings, "model": {"name": "pump", "version": "1.0.0"}, **more}}
    health = {"agent": name, "time": iso_time(at_s), "uptime_s": 120.0, "streams": streams}
    hear(roster, f"edge/{name}/health", health)


def test_readings_a_minute_are_those_of_the_last_interval() -> None:
    """Of an agent that was heard once, the average since its start."""
    roster = Roster()
    healthy(roster, "g1", 240, 1.7e9)
    assert roster.rows()[0].streams[0].readings_per_minute == 120.0
    healthy(roster, "g1", 240, 1.7e9)
    assert roster.rows()[0].streams[0].readings_per_minute == 120.0
    healthy(roster, "g1", 250, 1.7e9 + 10)
    assert roster.rows()[0].streams[0].readings_per_minute == 60.0


def test_who_needs_a_person_comes_first() -> None:
    """Gone, not told for long, an update that went wrong, alerts, an update under way, and all others by name."""
    roster, now_s = Roster(), time.time()
    changes: dict[str, Callable[[str], None]] = {
        "f-well": lambda _: None,
        "e-updated": lambda name: hear(roster, f"edge/{name}/updates/pump", say(name, "shadow")),
        "d-alert": lambda name: healthy(roster, name, 1, now_s, active_alerts=2),
        "c-rolled-back": lambda name: hear(roster, f"edge/{name}/updates/pump", say(name, "rolled_back")),
        "b-stuck": lambda name: healthy(roster, name, 1, 1.7e9),
        "a-gone": lambda name: online(roster, name, "offline"),
    }
    for name, change in changes.items():
        online(roster, name)
        healthy(roster, name, 1, now_s)
        change(name)
    assert [row.agent for row in roster.rows()] == [*reversed(changes)]
    assert roster.rows()[1].problems[0].startswith("health: last told ")


def test_an_agent_of_which_only_the_status_came_is_a_problem() -> None:
    """Of thousands, a broker gives a subscriber only a part of what it keeps, and a row without streams looks well."""
    roster = Roster()
    online(roster, "g1")
    assert roster.rows()[0].problems == (NO_HEALTH,)
    healthy(roster, "g1", 1, time.time())
    assert roster.rows()[0].problems == ()
    online(roster, "g2", "offline")
    assert roster.rows()[0].problems == ()


def test_nobody_knows_when_an_agent_was_lost_while_we_were_away() -> None:
    """The broker gives what it kept of the loss, which is no news of now."""
    roster, now_s = Roster(), time.time()
    online(roster, "g1")
    healthy(roster, "g1", 1, now_s - 3600)
    roster.connected_anew()
    status = {"state": "offline", "reason": "connection lost", "time": iso_time(now_s - 7200), "session": "s"}
    roster.take(Message("edge/g1/status", json.dumps(status).encode(), is_retained=True))
    assert roster.rows()[0].last_seen == iso_time(now_s - 3600)


def test_an_update_is_believed_on_its_own_topic_only() -> None:
    """And forgotten as its topic is emptied; rubbish says nothing."""
    roster = Roster()
    hear(roster, "edge/g1/updates/pump", say("g2", "settled"))
    roster.take(Message("edge/g1/updates/pump", b"{", is_retained=True))
    assert roster.updates == {}
    hear(roster, "edge/g1/updates/pump", say("g1", "settled"))
    assert roster.updates["g1", "pump"].is_final
    roster.take(Message("edge/g1/updates/pump", b"", is_retained=True))
    assert roster.updates == {}


def say(name: str, state: str) -> dict[str, Any]:
    bundle = {"name": "pump", "version": "1.1.0", "sha256": "a" * 64}
    return {"agent": name, "stream": "pump", "sequence": 1, "state": state, "bundle": bundle}


def test_a_plan_of_a_file_is_that_of_the_options(tmp_path: Path) -> None:
    """But for its paths, which begin at its folder; options win."""
    file = tmp_path / "plan.toml"
    file.write_text('bundle = "pump-1.1.0.edge"\nstream = "pump"\nto = ["*"]\nkey = "/k"\nsoak = "1h"\n')
    found = read_plan(file, {"soak": "30s"})
    assert found == plan(bundle=f"{tmp_path}/pump-1.1.0.edge", key="/k")
    assert found.on_halt is OnHalt.ROLLBACK
