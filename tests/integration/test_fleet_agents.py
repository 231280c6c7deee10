"""`edgetool fleet` with real agents: a bundle for all, settings, and back again; a bad one that stops in its wave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from fakes import write_bundle
from operators import Operator
from processes import Agent, Broker, Sender, run_tool, wait_until, write_config

import edgetool
from edge_agent.files.checksum import file_hash
from edgetool.broker import BrokerAddress
from edgetool.fleet.plan import Bounds

AGENTS = ("press-1", "press-2")
TRIAL = "readings=20,minutes=0.02"


@contextmanager
def readings(sender: Sender, value: float) -> Iterator[None]:
    """Of one asset, fifty a second, until the end of the block. All agents score them."""
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.02):
            sender.send("sensors/a1/pump", {"time": time.time(), "c1": value, "c2": 0.5})

    thread = threading.Thread(target=send, name="readings")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class Fleet:
    """Two agents, and an operator's command line.

    Args:
        folder: for all of them.
        port: of the broker.
    """

    def __init__(self, folder: Path, port: int) -> None:
        self._folder = folder
        self._port = port
        self.keys = edgetool.keygen(folder / "plant")
        self._bundle = self.bundle("1.0.0")

    def bundle(self, version: str, *, fragile: bool = False) -> Path:
        changes = {"version": version}
        path = write_bundle(self._folder / f"square-{version}.edge", changes=changes, fragile=fragile)
        edgetool.sign(path, key=self.keys.key)
        return path

    def agent(self, name: str) -> Agent:
        folder = self._folder / name
        folder.mkdir()
        trust = f'[trust]\nkeys = ["{self.keys.public}"]'
        return Agent(write_config(folder, self._port, {"pump": self._bundle}, agent=name, extra=trust))

    def run(self, command: str, *arguments: str | Path, code: int = 0) -> str:
        """Gives both outputs."""
        options = ("--stream", "pump", "--to", "press-*", "--key", self.keys.key, "--port", str(self._port))
        done = run_tool("edgetool", "fleet", command, *arguments, *options)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def versions(self) -> dict[str, str]:
        """What each agent runs, by its own word."""
        report = edgetool.fleet_status(BrokerAddress(port=self._port))
        return {row.agent: row.streams[0].version for row in report.agents if row.streams}

    def states(self) -> dict[str, str]:
        """Where the update of each agent stands."""
        report = edgetool.fleet_status(BrokerAddress(port=self._port))
        return {
            row.agent: row.streams[0].update.state for row in report.agents if row.streams and row.streams[0].update
        }

    def wait_versions(self, version: str) -> None:
        wait_until(lambda: self.versions() == dict.fromkeys(AGENTS, version), 60, f"version {version}")

    def wait_updates(self) -> None:
        """Until both tell that they take updates."""

        def told() -> int:
            rows = edgetool.fleet_status(BrokerAddress(port=self._port)).agents
            return sum(stream.update is not None for row in rows for stream in row.streams)

        wait_until(lambda: told() == len(AGENTS), 60, "the agents")


@pytest.fixture
def fleet(tmp_path: Path, broker: Broker) -> Iterator[Fleet]:
    running = Fleet(tmp_path, broker.port)
    with ExitStack() as stack:
        for name in AGENTS:
            stack.enter_context(running.agent(name))
        running.wait_updates()
        yield running


def test_a_bundle_comes_to_all_and_goes_again(fleet: Fleet, sender: Sender, tmp_path: Path) -> None:
    """Wave by wave, with a trial beside the old model and after the switch; then settings, and back to the file."""
    settings = tmp_path / "settings.toml"
    settings.write_text("[alarm]\nconfirm = 2\nof = 3\n")
    trial = ("--shadow", TRIAL, "--probation", TRIAL, "--waves", "1,100%", "--soak", "1s")
    with readings(sender, 1.0):
        said = fleet.run("deploy", fleet.bundle("1.1.0"), *trial)
        assert "settled    2 of 2" in said
        fleet.wait_versions("1.1.0")
        assert "1.1.0 is not above 1.1.0" not in fleet.run("deploy", fleet.bundle("1.1.0"), *trial)
        assert "2 of 2 agents have done it" in fleet.run("settings", settings)
        assert "2 of 2 agents have done it" in fleet.run("settings", "--clear")
        assert "2 of 2 agents have done it" in fleet.run("rollback")
        fleet.wait_versions("1.0.0")
        assert "is not above 1.1.0, which has run there" in fleet.run("deploy", fleet.bundle("1.0.5"), code=65)


def test_a_broker_that_loses_all_it_kept_is_given_it_again(tmp_path: Path) -> None:
    """It is restarted without a memory, while the first agent tries the bundle: the second still gets it."""
    with Broker(tmp_path / "broker", persistence=False) as broker, ExitStack() as stack:
        fleet = Fleet(tmp_path, broker.port)
        for name in AGENTS:
            stack.enter_context(fleet.agent(name))
        fleet.wait_updates()
        sender = stack.enter_context(Sender(broker.port))
        stack.enter_context(readings(sender, 1.0))
        said: list[str] = []
        trial = ("--shadow", "readings=150,minutes=0.02", "--probation", TRIAL, "--waves", "1,100%", "--soak", "1s")
        bundle = fleet.bundle("1.1.0")
        deploying = threading.Thread(target=lambda: said.append(fleet.run("deploy", bundle, *trial)))
        deploying.start()
        wait_until(lambda: fleet.states()["press-1"] == "shadow", 60, "the shadow")
        broker.stop()
        broker.start()
        deploying.join(110)
        assert said
        assert "settled    2 of 2" in said[0]


def test_a_bad_bundle_stops_in_the_first_wave(fleet: Fleet, sender: Sender) -> None:
    """It is right on the golden vectors, and no number on what comes: the first agent rolls it back by itself."""
    bad = fleet.bundle("1.1.0", fragile=True)
    trial = ("--shadow", "readings=0,minutes=0", "--waves", "1,100%", "--soak", "1s")
    with readings(sender, -200.0):
        said = fleet.run("deploy", bad, *trial, code=65)
    assert "halted: press-1 has rolled back 1.1.0: " in said
    assert "to come    press-2" in said
    fleet.wait_versions("1.0.0")


def test_pieces_that_somebody_takes_away_are_put_there_again(
    fleet: Fleet, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an agent waits for one; else it would wait until all expires."""
    monkeypatch.setattr("edgetool.commands.fleet_deploy._PUT_AGAIN_S", 3.0)
    with Operator(broker.port) as thief:
        plan = edgetool.FleetPlan(
            bundle=str(fleet.bundle("1.1.0")),
            stream="pump",
            to=("press-1",),
            key=str(fleet.keys.key),
            shadow=Bounds(readings=0, minutes=0),
            probation=Bounds(readings=0, minutes=0),
        )

        def tell(line: str) -> None:
            if "are at the broker" in line:
                thief.publish(f"edge/bundles/{file_hash(Path(plan.bundle))}/0", b"")

        assert edgetool.fleet_deploy(plan, broker=BrokerAddress(port=broker.port), on_progress=tell).is_done
