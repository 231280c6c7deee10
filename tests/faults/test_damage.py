"""Files that are damaged, a model that is wrong, a provider that crashes: the agent says so and goes on."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from bad_providers import TESTS_DIR
from fakes import write_bundle
from plan import SEED, Plan
from processes import wait_until
from rig import Report, Rig, hooked, rig

ENDLESS = 10_000_000
RATE_HZ = 200


def flip(journal: Path, chance: random.Random) -> None:
    """Change some bytes anywhere, in the database or its log."""
    for file in (journal, journal.with_name(journal.name + "-wal")):
        data = bytearray(file.read_bytes()) if file.exists() else bytearray()
        for _ in range(20 if data else 0):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        file.write_bytes(data)


def truncate(journal: Path, chance: random.Random) -> None:
    """Cut it off somewhere."""
    for file in (journal, journal.with_name(journal.name + "-wal")):
        if file.exists():
            file.write_bytes(file.read_bytes()[: chance.randrange(file.stat().st_size + 1)])


def empty(journal: Path, _chance: random.Random) -> None:
    """Nothing in it, with its log still beside it."""
    journal.write_bytes(b"")


def make_directory(journal: Path, _chance: random.Random) -> None:
    """Something else of this name."""
    journal.unlink()
    journal.mkdir()
    (journal / "note").write_text("from a restore that went wrong")


def make_newer(journal: Path, _chance: random.Random) -> None:
    """Of an agent that is not written yet."""
    with sqlite3.connect(journal) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()


def write_text(journal: Path, _chance: random.Random) -> None:
    """No database at all."""
    journal.write_bytes(b"this is not a database, " * 1000)


DAMAGES: list[Callable[[Path, random.Random], None]] = [
    flip,
    truncate,
    empty,
    make_directory,
    make_newer,
    write_text,
]


@pytest.mark.timeout(1200)
def test_damaged_journal(tmp_path: Path, full: bool, report: Report) -> None:
    """Journal with flipped bytes, truncated, empty, a directory, newer, no database: it starts, scores, keeps evidence.

    What was damaged is lost, and with it what was known of readings that come again. So of each start it is asked that
    readings sent after it are alerted, and of the last that all of them are.
    """
    chance = random.Random(SEED)
    damages = DAMAGES + [flip, truncate] * (12 if full else 0)
    with rig(tmp_path, Plan(readings=ENDLESS)) as at:
        journal = tmp_path / "state" / "journal.db"
        sending = at.sending(RATE_HZ)
        later = 0
        for number, damage in enumerate(damages):
            if number % 2:
                at.agent.stop()  # all is in the database
            else:
                at.agent.kill()  # the newest is in the log
            damage(journal, chance)
            at.agent.start()
            at.wait_for_work()
            later = sending.sent + at.plan.assets * at.plan.period
            wait_until(lambda number=later: at.heard_of(number), 60, f"alerts after {damage.__name__}")  # type: ignore[misc]
        at.end_of(sending)
        verdict = at.verdict(from_number=later, only_later=True)
        aside = [file for file in journal.parent.iterdir() if ".aside-" in file.name]
        report(damages=len(damages), set_aside=len([f for f in aside if not f.name.endswith(("-wal", "-shm"))]))
        report(**at.facts(verdict))
        assert verdict.problems == []
        assert any((file / "note").exists() for file in aside if file.is_dir()), "the directory is no evidence any more"


def test_truncated_bundle(tmp_path: Path, report: Report) -> None:
    """A bundle cut off on its way: exit code 65 and the reason; with a whole one, all that waited is scored."""
    with rig(tmp_path, Plan(readings=ENDLESS)) as at:
        bundle = tmp_path / "square-1.0.0.edge"
        whole = bundle.read_bytes()
        sending = at.sending(RATE_HZ)
        wait_until(lambda: at.subscriber.alerts, what="alerts before")
        bundle.write_bytes(whole[: len(whole) // 2])
        heard = len(at.subscriber.alerts)
        wait_until(lambda: len(at.subscriber.alerts) > heard + 20, what="alerts of the agent that has it open")
        at.agent.kill()
        at.agent.start()
        assert at.agent.process is not None
        assert at.agent.process.wait(60) == 65
        assert f"edge-agent: {bundle}: ".encode() in at.agent.log.read_bytes()
        bundle.write_bytes(whole)
        at.agent.start()
        at.wait_for_work()
        at.end_of(sending)
        verdict = at.verdict()
        report(**at.facts(verdict))
        assert verdict.problems == []


def test_model_that_returns_nan(tmp_path: Path, report: Report) -> None:
    """A model whose score is no number for some readings: they are counted and change no alarm, of no asset."""
    plan = Plan(readings=1200)
    bundle = write_bundle(tmp_path / "fragile-1.0.0.edge", window=2, fragile=True)
    with rig(tmp_path, plan, bundle=bundle) as at:
        poison = 200
        sending = at.sending(400)
        for _ in range(poison):
            at.sender.send("sensors/bad/pump", b'{"c1": 9.0, "c2": -200.0}')
            time.sleep(0.005)  # among the good ones, in the same batches
        sending.join()
        verdict = at.verdict()
        wait_until(lambda: at.subscriber.stream("pump")["scored"] == plan.readings - plan.assets + poison - 1)
        report(without_a_number=at.subscriber.stream("pump")["not_finite"], **at.facts(verdict))
        assert verdict.problems == []
        assert at.subscriber.stream("pump")["not_finite"] == poison - 1


def crasher(tmp_path: Path, how: str) -> dict[str, object]:
    """Options of a rig whose agent prefers the crasher."""
    del tmp_path
    return {
        "command": hooked(f"crash={how}"),
        "env": {"PYTHONPATH": TESTS_DIR},
        "engine": 'prefer = ["crasher"]',
    }


def test_provider_that_fails(tmp_path: Path, report: Report) -> None:
    """The chosen provider's runtime fails mid-run: the next proven one scores the same batch."""
    with rig(tmp_path, Plan(readings=ENDLESS), **crasher(tmp_path, "error:60")) as at:  # type: ignore[arg-type]
        wait_until(lambda: at.subscriber.stream("pump")["provider"] == "crasher", 60, "the preferred provider")
        sending = at.sending(RATE_HZ)
        wait_until(lambda: at.subscriber.stream("pump")["provider"] == "cpu", 60, "the other provider")
        time.sleep(1.0)  # readings after it
        at.end_of(sending)
        verdict = at.verdict()
        assert at.agent.process is not None
        assert at.agent.process.poll() is None
        report(provider=at.subscriber.stream("pump")["provider"], **at.facts(verdict))
        assert verdict.problems == []


def test_provider_that_crashes(tmp_path: Path, full: bool, report: Report) -> None:
    """The chosen provider ends the process mid-run: the next starts are on the other one, every reading is scored.

    Though the settings prefer it. Kills and planned stops do not clear it; measuring anew does, and it crashes again.
    """
    crashes = 20 if full else 1
    with rig(tmp_path, Plan(readings=ENDLESS), **crasher(tmp_path, "abort:60")) as at:  # type: ignore[arg-type]
        sending = at.sending(RATE_HZ)
        for number in range(crashes):
            wait_until(lambda: at.subscriber.stream("pump")["provider"] == "crasher", 60, "the preferred provider")
            assert at.agent.process is not None
            assert at.agent.process.wait(60) == -signal.SIGABRT
            for end in (at.agent.kill, at.agent.stop):
                at.agent.start()
                at.wait_for_work()
                time.sleep(1.0)  # more batches than it took to crash
                assert at.subscriber.stream("pump")["provider"] == "cpu"
                assert "ended the agent while it scored (Aborted)" in at.subscriber.stream("pump")["provider_reason"]
                end()
            if number < crashes - 1:
                measure_anew(at)
            at.agent.start()
        at.wait_for_work()
        at.end_of(sending)
        verdict = at.verdict()
        log = at.agent.log.read_text()
        assert log.count("the last run crashed cause='Aborted'") == crashes
        report(crashes=crashes, **at.facts(verdict))
        assert verdict.problems == []


def measure_anew(at: Rig) -> None:
    """As an operator does who has replaced the driver."""
    command = [*at.agent.command, "providers", "--anew", "--config", str(at.agent.config)]
    subprocess.run(command, env={**os.environ, "PYTHONPATH": TESTS_DIR}, check=True, capture_output=True, timeout=120)
