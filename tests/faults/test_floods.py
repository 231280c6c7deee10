"""Floods by somebody who may publish: of names, of false alarms, and of readings that are ahead of their time."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fakes import write_bundle
from plan import Plan
from processes import Sender, wait_until
from rig import Report, Rig, hooked, rig

ENDLESS = 10_000_000
QUIET, HIGH = {"c1": 0.0, "c2": 0.0}, {"c1": 9.0, "c2": 0.0}
ALL = "[stream.storm]\nraises = 0"
"""Tells every alert by itself."""
MOST_WAITING = 2000
"""Messages that a flooder has on its way to the broker."""
ROOM = 2998
"""Assets of two channels and a window of two readings that fit into 8 MB."""


class Flood:
    """A sender that is told what to send as fast as the broker takes it."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self.sent = 0

    def send(self, topic: str, payload: dict[str, float]) -> None:
        self._sender.send(topic, payload)
        self.sent += 1
        while self._sender.waiting > MOST_WAITING:
            time.sleep(0.01)


@contextmanager
def flooding(at: Rig) -> Iterator[Flood]:
    with Sender(at.broker.port, "flooder") as sender:
        yield Flood(sender)
        sender.drain()


@pytest.mark.timeout(600)
def test_names_without_end(tmp_path: Path, full: bool, report: Report) -> None:
    """A new name with every reading, beside good readings: memory, journal and log stay bounded, none good is lost."""
    names = 60_000 if full else 6000
    with rig(tmp_path, Plan(readings=ENDLESS), stream="max_state_mb = 8", inflight=1000) as at:
        before = at.subscriber.health["memory_bytes"]
        sending = at.sending(200)
        with flooding(at) as flood:
            for number in range(names):
                flood.send(f"sensors/x{number}/pump", QUIET)
        wait_until(lambda: at.subscriber.stream("pump").get("forgotten", 0) >= names - ROOM, 60, "the names")
        at.end_of(sending)
        verdict = at.verdict()
        lane = at.subscriber.stream("pump")
        growth_mib = (at.subscriber.health["memory_bytes"] - before) / 2**20
        state_mb = sum(file.stat().st_size for file in (tmp_path / "state").iterdir()) / 1e6
        log_kb = at.agent.log.stat().st_size / 1e3
        facts = {"names": names, "assets": lane["assets"], "forgotten": lane["forgotten"]}
        sizes = {"growth_mib": round(growth_mib, 1), "state_mb": round(state_mb, 1), "log_kb": round(log_kb, 1)}
        report(**facts, **sizes, **at.facts(verdict))
        assert verdict.problems == []
        assert (lane["assets"], lane["most_assets"]) == (ROOM, ROOM)
        assert growth_mib < 24  # 8 MB of assets, and notes about topics, which have a bound of their own
        assert state_mb < 16
        assert log_kb < 20


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["names", "one"])
def test_false_alarms_beside_a_true_one(tmp_path: Path, full: bool, report: Report, kind: str) -> None:
    """Thousands of false alarms, of new names or of one asset, then a true one of a known asset: it does not wait."""
    pairs = 30_000 if full else 3000
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    with rig(tmp_path, Plan(readings=0), bundle=bundle, inflight=1000, stream=ALL) as at, flooding(at) as flood:
        stopped = threading.Event()

        def live() -> None:
            while not stopped.wait(0.05):
                at.sender.send("sensors/true/pump", QUIET)

        living = threading.Thread(target=live, daemon=True)
        living.start()
        wait_until(lambda: at.subscriber.stream("pump")["readings"] > 0)
        for number in range(pairs):
            topic = f"sensors/{f'x{number}' if kind == 'names' else 'x'}/pump"
            flood.send(topic, HIGH)
            flood.send(topic, QUIET)
        stopped.set()
        living.join()
        began = time.monotonic()
        at.sender.send("sensors/true/pump", HIGH)
        wait_until(lambda: "true" in at.subscriber.newest, 120, "the true alarm")
        true_s, before = time.monotonic() - began, len(at.subscriber.alerts)
        wait_until(lambda: len(at.subscriber.alerts) > 2 * pairs, 240, "all alarms")
        all_s = time.monotonic() - began
        report(false=2 * pairs, true_out_after_s=round(true_s, 2), before_it=before, all_out_after_s=round(all_s, 1))
        assert before < 2 * pairs * 0.9
        assert len(at.subscriber.alerts) == 2 * pairs + 1


@pytest.mark.timeout(600)
def test_a_storm_of_made_up_names(tmp_path: Path, full: bool, report: Report) -> None:
    """It is told as one, and hides no alarm of an asset that was there before."""
    names = 9000 if full else 900
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    storm = "[stream.storm]\nraises = 20\nwindow_s = 2"
    with rig(tmp_path, Plan(readings=0), bundle=bundle, inflight=1000, stream=storm) as at, flooding(at) as flood:
        at.sender.send("sensors/true/pump", QUIET)
        wait_until(lambda: at.subscriber.stream("pump")["readings"] > 0)
        time.sleep(4.0)  # two windows: from now on it is no new asset
        for number in range(names):
            flood.send(f"sensors/x{number}/pump", HIGH)
        began = time.monotonic()
        at.sender.send("sensors/true/pump", HIGH)
        wait_until(lambda: "true" in at.subscriber.newest, 120, "the true alarm")
        true_s = time.monotonic() - began
        wait_until(lambda: at.subscriber.storms and at.subscriber.storms[-1]["phase"] == "stays", 120, "its end")
        alerts, storm_events = len(at.subscriber.alerts), len(at.subscriber.storms)
        report(names=names, true_out_after_s=round(true_s, 2), alerts=alerts, storm_events=storm_events)
        assert at.subscriber.storms[-1]["new_assets"]
        assert at.subscriber.storms[-1]["count"] == names - (alerts - 1)
        assert alerts <= 41  # an asset that has been here for two seconds is no new one


@pytest.mark.timeout(600)
def test_made_up_alerts_without_end(tmp_path: Path, full: bool, report: Report) -> None:
    """A false alert of a new name with every reading, more than there is room for: known and new assets still raise."""
    # More than twice of what comes in one batch: alerts make room down to half of it, and what is beyond is refused.
    room = 10_000 if full else 1200
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    stream = f"max_assets = {room}\n{ALL}"
    with rig(tmp_path, Plan(readings=0), bundle=bundle, inflight=1000, stream=stream) as at, flooding(at) as flood:
        at.sender.send("sensors/known/pump", QUIET)
        wait_until(lambda: at.subscriber.stream("pump")["readings"] > 0)
        for number in range(room + room // 2):
            flood.send(f"sensors/x{number}/pump", HIGH)
        at.sender.send("sensors/known/pump", HIGH)
        at.sender.send("sensors/new/pump", HIGH)
        wait_until(lambda: {"known", "new"} <= at.subscriber.newest.keys(), 120, "the two alerts")
        wait_until(lambda: len(at.subscriber.alerts) >= flood.sent + room // 2, 240, "the others and their ends")
        ended = [event for event in at.subscriber.alerts if event.event == "clear"]
        lane = at.subscriber.stream("pump")
        report(made_up=flood.sent, assets=lane["assets"], ended=len(ended), rejected=sum(lane["rejected"].values()))
        assert {event.reason for event in ended} == {"forgotten"}
        assert (lane["assets"], lane["rejected"]) == (room, {})


@pytest.mark.timeout(600)
def test_forger_ahead_of_time(tmp_path: Path, full: bool, report: Report) -> None:
    """Forged readings an hour ahead, under the names of good assets, with `late_s`: rejected, no good one is late."""
    stream = "[stream.window]\nlate_s = 5"
    command = hooked("synchronised=yes")
    with rig(tmp_path, Plan(readings=ENDLESS), command=command, stream=stream) as at:
        sending = at.sending(200)
        with flooding(at) as flood:
            for number in range(3000 if full else 200):
                flood.send(f"sensors/a{number % 3}/pump", {"time": time.time() + 3600, **QUIET})
                time.sleep(0.01)
        at.end_of(sending)
        verdict = at.verdict()
        lane = at.subscriber.stream("pump")
        rejected = lane["rejected"].get("ahead", 0)
        report(
            forged=flood.sent, rejected=rejected, late=lane["late"], restarted=lane["restarted"], **at.facts(verdict)
        )
        assert verdict.problems == []
        assert (rejected, lane["late"], lane["restarted"]) == (flood.sent, 0, 0)
        assert at.subscriber.health["clock_synchronised"] is True
