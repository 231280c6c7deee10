"""`edgetool fleet deploy` and its neighbours, with agents that are simulated at the MQTT level: waves, halts, resumes.

What a real agent makes of its wishes is tested beside the agent.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from brokers import broker_named
from fakes import write_bundle
from paho.mqtt.enums import CallbackAPIVersion
from processes import Broker, run_tool, tool, wait_until
from simulated_agents import Behaviour, SimulatedFleet, simulated

import edgetool
from edge_agent.trust import load_keys
from edgetool.broker import BrokerAddress
from edgetool.fleet.deployment import SILENT

TEN = [f"press-{number:02}" for number in range(10)]
QUICK = {"waves": ("1", "50%", "100%"), "soak": "1s"}


@dataclass(frozen=True, slots=True)
class Plant:
    """Keys, bundles and a broker."""

    folder: Path
    port: int
    keys: edgetool.KeygenReport

    @property
    def behaviour(self) -> Behaviour:
        return Behaviour(keys=load_keys([self.keys.public]), health_s=0.5)

    def bundle(self, version: str, name: str = "square") -> Path:
        path = write_bundle(self.folder / f"{name}-{version}.edge", changes={"version": version, "name": name})
        edgetool.sign(path, key=self.keys.key)
        return path

    def plan(self, version: str = "1.1.0", **changes: Any) -> edgetool.FleetPlan:
        return edgetool.FleetPlan(
            **{
                "bundle": str(self.bundle(version)),
                "stream": "pump",
                "to": ("press-*",),
                "key": str(self.keys.key),
                **QUICK,
                **changes,
            }
        )

    def deploy(self, version: str = "1.1.0", *, resume: bool = False, **changes: Any) -> edgetool.DeploymentReport:
        plan = self.plan(version, **changes)
        return edgetool.fleet_deploy(plan, broker=BrokerAddress(port=self.port), resume=resume)

    def command(self, version: str = "1.1.0", *more: str) -> list[str]:
        options = ["--stream", "pump", "--to", "press-*", "--key", str(self.keys.key), "--port", str(self.port)]
        return ["edgetool", "fleet", "deploy", str(self.bundle(version)), *options, *more]


@pytest.fixture
def plant(tmp_path: Path, broker: Broker) -> Plant:
    return Plant(tmp_path, broker.port, edgetool.keygen(tmp_path / "plant"))


def all_told(fleet: SimulatedFleet) -> bool:
    return all(agent.published for agent in fleet.agents.values())


def running(fleet: SimulatedFleet) -> list[str]:
    return [agent.streams["pump"].running["version"] for agent in fleet.agents.values()]


def retained(port: int, *topics: str) -> dict[str, bytes]:
    """What the broker keeps."""
    found: dict[str, bytes] = {}
    client = paho.Client(CallbackAPIVersion.VERSION2)
    done: list[int] = []
    client.on_message = lambda _client, _data, message: found.update({message.topic: bytes(message.payload)})
    client.on_subscribe = lambda *_: done.append(1)
    client.connect("127.0.0.1", port)
    client.subscribe([(topic, 1) for topic in (*topics, "end/of/it")])
    client.loop_start()
    wait_until(lambda: done, what="the subscription")
    client.publish("end/of/it", b"x", qos=1)
    wait_until(lambda: "end/of/it" in found, what="the mark behind all that is kept")
    client.loop_stop()
    client.disconnect()
    del found["end/of/it"]
    return found


LEFT = ("edge/bundles/#", "edge/+/wishes/#")


def test_a_bundle_goes_to_all_in_waves(plant: Plant) -> None:
    """One, then five, then ten, each when the one before is well; nothing is left at the broker."""
    with simulated(plant.port, TEN, plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        done = subprocess.run(
            [tool("edgetool"), *plant.command("1.1.0", "--waves", "1,50%,100%", "--soak", "1s", "--json")[1:]],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert running(fleet) == ["1.1.0"] * 10
    report = json.loads(done.stdout)
    assert (report["is_done"], report["waves"], report["halted"]) == (True, [1, 5, 10], "")
    lines = [line[9:] for line in done.stderr.splitlines()]
    assert lines[0] == "1 pieces of square 1.1.0 are at the broker"
    for wave in ("wave 1 of 3: 1 settled, 9 to come; the next wave at ", "wave 2 of 3: 5 settled, 5 to come; the next"):
        assert [line for line in lines if line.startswith(wave)]
    assert lines[-1] == "wave 3 of 3: 10 settled"
    assert retained(plant.port, *LEFT) == {}


def test_a_bundle_goes_to_all_behind_rabbitmq(tmp_path: Path) -> None:
    """It gives nothing that it keeps to a filter: agents, wishes and pieces are asked for by their names."""
    with broker_named("rabbitmq", tmp_path / "rabbitmq") as other:
        plant = Plant(tmp_path, other.port, edgetool.keygen(tmp_path / "plant"))
        with simulated(other.port, TEN[:3], plant.behaviour) as fleet:
            wait_until(lambda: all_told(fleet), 60, "the agents")
            report = plant.deploy()
            assert report.is_done, report
            assert running(fleet) == ["1.1.0"] * 3
        kept = retained(other.port, f"edge/bundles/{report.sha256}/0", "edge/press-00/wishes/pump/bundle")
    assert kept == {}


def test_a_bad_bundle_stops_in_the_first_wave(plant: Plant) -> None:
    """The one that had it has rolled back by itself, and nobody else was asked."""
    behaviour = replace(plant.behaviour, rolls_back=lambda _, version: version == "1.1.0")
    with simulated(plant.port, TEN, behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        report = plant.deploy()
        assert report.halted == "press-00 has rolled back 1.1.0: a score that is no number"
        assert running(fleet) == ["1.0.0"] * 10
        assert [name for name, (standing, _) in report.agents.items() if standing == "to come"] == TEN[1:]
        assert retained(plant.port, *LEFT) == {}
        again = run_tool(*plant.command("1.1.0", "--waves", "100%"))
        assert (again.returncode, "edgetool: halted: press-0" in again.stderr) == (65, True)
        assert running(fleet) == ["1.0.0"] * 10


@pytest.mark.parametrize(("on_halt", "left"), [("rollback", {"1.0.0"}), ("keep", {"1.0.0", "1.1.0"})])
def test_a_halt_takes_back_what_was_sent(plant: Plant, on_halt: str, left: set[str]) -> None:
    """One of the second wave finds the bundle bad: those that have it go back, or keep it, as the plan says."""
    behaviour = replace(plant.behaviour, refuses=lambda agent, version: (agent, version) == ("press-03", "1.1.0"))
    with simulated(plant.port, TEN, behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        report = plant.deploy(on_halt=edgetool.OnHalt(on_halt))
        assert report.halted == "press-03 has refused 1.1.0: no provider gives the golden scores"
        assert {*running(fleet)} == left
        assert fleet.agents["press-03"].streams["pump"].running["version"] == "1.0.0"
        assert running(fleet)[5:] == ["1.0.0"] * 5


def test_alerts_stop_it(plant: Plant) -> None:
    """Each agent with the new bundle has four open alerts, and had none."""
    behaviour = replace(plant.behaviour, alerts=lambda _, version: 4 * int(version == "1.1.0"))
    with simulated(plant.port, TEN, behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        report = plant.deploy(halt_on=("alerts=3x",), soak="30s")
        assert report.halted == "the 1 agents that have it have 4 open alerts, and had 0 before"
        assert running(fleet) == ["1.0.0"] * 10


def test_an_agent_that_goes_away_stops_it(plant: Plant) -> None:
    """What it makes of the bundle is not known."""
    behaviour = replace(plant.behaviour, step_s=60.0)
    with simulated(plant.port, TEN, behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        command = plant.command("1.1.0", "--halt-on", "offline=1s", "--json")
        with subprocess.Popen([tool("edgetool"), *command[1:]], stdout=subprocess.PIPE, text=True) as process:
            try:
                wait_until(lambda: fleet.agents["press-00"].streams["pump"].state == "proving", 60, "the first wave")
                fleet.stop("press-00")
                out, _ = process.communicate(timeout=60)
            finally:
                process.kill()
        report = json.loads(out)
        assert report["halted"].startswith("press-00 is offline for ")
        assert report["missing"] == ["press-00"]
        kept = retained(plant.port, *LEFT)
        assert [*kept] == ["edge/press-00/wishes/pump/bundle"]
        assert json.loads(json.loads(kept["edge/press-00/wishes/pump/bundle"])["wish"])["cancel"] is True
        # A second run waits for nobody who is away, begins nothing anew, and takes the rest away as it is obeyed.
        again = plant.deploy(resume=True)
        assert (again.halted, again.missing) == ("an earlier run of it was halted", ("press-00",))
        fleet.start("press-00")
        wait_until(lambda: fleet.agents["press-00"].streams["pump"].sequences, what="the cancel")
        wait_until(lambda: not plant.deploy(resume=True).missing, 60, "its word")
        assert running(fleet) == ["1.0.0"] * 10
        assert retained(plant.port, *LEFT) == {}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_deployment_goes_on(plant: Plant, number: signal.Signals) -> None:
    """All that it must know is at the broker. What is under way is not begun anew by mistake."""
    behaviour = replace(plant.behaviour, step_s=0.5)
    with simulated(plant.port, TEN, behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        more = ("--waves", "1,50%,100%", "--soak", "1s")
        with subprocess.Popen(
            [tool("edgetool"), *plant.command("1.1.0", *more)[1:]], stderr=subprocess.PIPE
        ) as process:
            try:
                wait_until(lambda: fleet.agents["press-03"].streams["pump"].state == "shadow", 60, "the second wave")
                process.send_signal(number)
                _, err = process.communicate(timeout=60)
            finally:
                process.kill()
        assert process.returncode == 65
        assert b"interrupted; all stays as it is: --resume goes on" in err
        assert len(retained(plant.port, "edge/+/wishes/#")) == 5
        again = run_tool(*plant.command("1.1.0", *more))
        assert again.returncode == 2
        assert "square 1.1.0 is under way at " in again.stderr
        wait_until(lambda: running(fleet).count("1.1.0") == 5, what="the second wave")
        before = {name: len(agent.published) for name, agent in fleet.agents.items()}
        report = plant.deploy(resume=True)
        assert report.is_done
        assert running(fleet) == ["1.1.0"] * 10
        # Nobody was asked twice.
        assert len(fleet.agents["press-00"].published) == before["press-00"]
    assert retained(plant.port, *LEFT) == {}


def test_an_agent_that_was_away_takes_it_as_it_comes_back(plant: Plant) -> None:
    """The command ends with 65 and leaves the bundle there; a second run takes it away."""
    with simulated(plant.port, TEN[:3], plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        fleet.stop("press-01")
        wait_until(lambda: b"offline" in retained(plant.port, "edge/press-01/status")["edge/press-01/status"])
        done = run_tool(*plant.command("1.1.0", "--soak", "0s"))
        assert done.returncode == 65
        assert "1 agents are away and take it as they come back, until " in done.stderr
        assert len(retained(plant.port, *LEFT)) == 2
        fleet.start("press-01")
        wait_until(lambda: running(fleet) == ["1.1.0"] * 3, what="the late one")
        wait_until(lambda: fleet.agents["press-01"].streams["pump"].state == "settled", what="its end")
        assert plant.deploy(resume=True).is_done
    assert retained(plant.port, *LEFT) == {}


def refusals(plant: Plant, *more: str, version: str = "1.1.0", code: int = 65) -> str:
    done = run_tool(*plant.command(version, *more))
    assert done.returncode == code, (done.stdout, done.stderr)
    assert retained(plant.port, *LEFT) == {}
    return done.stderr


def test_what_cannot_be_taken_is_not_sent(plant: Plant) -> None:
    """Another key's bundle, a version that is not higher, another model, agents that take no updates, no agents."""
    other = edgetool.keygen(plant.folder / "other")
    with simulated(plant.port, TEN[:2], plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        assert "1.0.0 is not above 1.0.0, which has run there; --older if that is meant" in refusals(
            plant, version="1.0.0"
        )
        assert "1.0 is no semantic version" in refusals(plant, version="1.0")
        assert "its signature is not by the key" in refusals(plant, "--key", str(other.key))
        fan = plant.bundle("2.0.0", name="fan")
        options = ("--stream", "pump", "--to", "press-*", "--key", plant.keys.key, "--port", str(plant.port))
        done = run_tool("edgetool", "fleet", "deploy", fan, *options)
        assert "fan-2.0.0.edge for press-00: it runs square, and this is fan; --other-model if that is" in done.stderr
        assert "--resume: no agent has a wish for square 1.1.0" in refusals(plant, "--resume", code=2)
        assert "--to line-*: no agent is called so" in refusals(plant, "--to", "line-*", code=2)
        assert "--stream fan: none of 2 agents has a stream of this name" in refusals(plant, "--stream", "fan", code=2)
    with simulated(plant.port, ["press-09"], replace(plant.behaviour, keys=None)):
        wait_until(lambda: "edge/press-09/status" in retained(plant.port, "edge/+/status"), what="the agent")
        assert "for press-09: it tells nothing of updates: it trusts no key" in refusals(plant, "--to", "press-09")


def test_an_agent_that_trusts_another_key_is_told(plant: Plant) -> None:
    """It obeys nobody else, and says nothing: so silence stops it."""
    other = edgetool.keygen(plant.folder / "other")
    behaviour = replace(plant.behaviour, keys=load_keys([other.public]))
    with simulated(plant.port, TEN[:2], behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        report = plant.deploy(answer_within="2s")
        assert report.halted.startswith("press-00 says nothing of its wish for ")
        fleet.stop("press-01")
        wait_until(lambda: b"offline" in retained(plant.port, "edge/press-01/status")["edge/press-01/status"])
        broker = BrokerAddress(port=plant.port)
        answers = edgetool.fleet_settings(
            {"silent_s": 60}, stream="pump", to=("press-*",), key=plant.keys.key, broker=broker, wait_s=2.0
        ).answers
        assert answers["press-00"] == ("no answer", f"it is online and says nothing of it; {SILENT}")
        assert answers["press-01"] == ("no answer", "it is away")
        assert running(fleet) == ["1.0.0"] * 2


def test_a_dry_run_sends_nothing_and_a_plan_is_a_file(plant: Plant) -> None:
    """Paths in it begin at its folder, and options win."""
    plan = plant.folder / "plan.toml"
    plant.bundle("1.1.0")
    plan.write_text(
        'bundle = "square-1.1.0.edge"\nstream = "pump"\nto = ["press-*"]\nkey = "plant.key"\nwaves = ["2", "100%"]\n'
        'soak = "0s"\n[shadow]\nreadings = 10\n'
    )
    command = ("edgetool", "fleet", "deploy", "--plan", plan, "--port", str(plant.port))
    with simulated(plant.port, TEN, plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        dry = run_tool(*command, "--dry-run")
        assert dry.returncode == 0, dry.stderr
        assert "wave 1     2: press-00, press-01" in dry.stdout
        assert retained(plant.port, *LEFT) == {}
        assert running(fleet) == ["1.0.0"] * 10
        done = run_tool(*command, "--to", "press-00,press-01")
        assert done.returncode == 0, done.stderr
        assert running(fleet) == ["1.1.0"] * 2 + ["1.0.0"] * 8
        assert "had it     2: press-00, press-01" in run_tool(*command, "--to", "press-00,press-01").stdout
    plan.write_text(plan.read_text().replace("soak", "soaks"))
    wrong = run_tool(*command)
    assert (wrong.returncode, "a plan has no 'soaks'; it has bundle, " in wrong.stderr) == (2, True)


WISHES: Sequence[tuple[Callable[[Plant, Path], tuple[str | Path, ...]], str]] = [
    (lambda _plant, file: ("settings", file), "press-00: applied (alarm)"),
    (lambda _plant, _file: ("settings", "--clear"), "press-00: applied (none)"),
    (lambda _plant, _file: ("recommission", "a1"), "press-00: applied (all assets)"),
]


@pytest.mark.parametrize(("arguments", "answer"), WISHES)
def test_other_wishes_are_sent_and_answered(
    plant: Plant, arguments: Callable[[Plant, Path], tuple[str | Path, ...]], answer: str
) -> None:
    """And taken from the broker once they are obeyed."""
    file = plant.folder / "settings.toml"
    file.write_text("[alarm]\nconfirm = 3\n")
    options = ("--stream", "pump", "--to", "press-*", "--key", plant.keys.key, "--port", str(plant.port))
    with simulated(plant.port, TEN[:2], plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        done = run_tool("edgetool", "fleet", *arguments(plant, file), *options)
    assert done.returncode == 0, done.stderr
    assert answer in done.stdout
    assert "2 of 2 agents have done it" in done.stdout
    assert retained(plant.port, *LEFT) == {}


def test_an_empty_file_takes_nothing_away(plant: Plant) -> None:
    """Nobody is asked: a file that could not be written, say, is no wish."""
    (plant.folder / "settings.toml").write_text("# threshold\n")
    options = ("--stream", "pump", "--to", "press-*", "--key", plant.keys.key, "--port", str(plant.port))
    done = run_tool("edgetool", "fleet", "settings", plant.folder / "settings.toml", *options)
    assert done.returncode == 2
    assert "settings.toml: has no settings; to take away all that was set so before: --clear" in done.stderr


def test_a_settled_bundle_is_rolled_back(plant: Plant) -> None:
    """By an operator's own signed wish; one that does not answer is told, and obeys later."""
    with simulated(plant.port, TEN[:3], plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        assert plant.deploy(waves=("100%",)).is_done
        fleet.stop("press-02")
        options = ("--stream", "pump", "--to", "press-*", "--key", plant.keys.key, "--port", str(plant.port))
        done = run_tool("edgetool", "fleet", "rollback", *options, "--wait", "2")
        assert done.returncode == 65
        assert running(fleet) == ["1.0.0", "1.0.0", "1.1.0"]
        assert "press-00: rolled back (an operator has wished it)" in done.stdout
        assert "1 of 3 agents have not done it; 1 have not answered, and may obey until " in done.stderr
        fleet.start("press-02")
        wait_until(lambda: running(fleet) == ["1.0.0"] * 3, what="the late one")


def test_what_anybody_puts_at_the_broker_misleads_no_command(plant: Plant) -> None:
    """Streams that no topic can name, and a good wish for one agent on the topic of another."""
    odd = {"agent": "odd", "time": "2026-12-01T00:00:00Z", "streams": {"#": {}, "+": {}, "a#b": {}, "": {}, "\x00": {}}}
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", plant.port)
    client.loop_start()
    with simulated(plant.port, TEN[:2], plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        client.publish("edge/odd/health", json.dumps(odd), 1, retain=True).wait_for_publish(10)
        assert plant.deploy(waves=("100%",)).is_done
        fleet.stop("press-00")
        # The wish of the one that is away stays at the broker, with a bundle and a sequence that no other has obeyed.
        away = plant.command("1.2.0", "--to", "press-00", "--waves", "100%")
        assert run_tool(*away).returncode == 65
        topic = "edge/press-00/wishes/pump/bundle"
        client.publish("edge/press-01/wishes/pump/bundle", retained(plant.port, topic)[topic], 1, retain=True)
        options = ("--stream", "pump", "--to", "press-01", "--key", plant.keys.key, "--port", str(plant.port))
        done = run_tool("edgetool", "fleet", "rollback", *options)
        assert (done.returncode, running(fleet)) == (0, ["1.1.0", "1.0.0"]), done.stderr
    client.disconnect()
    client.loop_stop()


def test_nobody_without_the_key_changes_anything(plant: Plant) -> None:
    """Whoever may only write to the broker: rubbish, an unsigned wish, another agent's, and an old one again."""
    with simulated(plant.port, TEN[:2], plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        assert plant.deploy(waves=("100%",), to=("press-00",)).is_done
        heard: list[bytes] = []
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda _client, _data, message: heard.append(bytes(message.payload))
        client.connect("127.0.0.1", plant.port)
        client.subscribe("edge/press-00/wishes/pump/bundle", 1)
        client.loop_start()
        assert plant.deploy("1.2.0", waves=("100%",), to=("press-00",)).is_done
        wait_until(lambda: len(heard) >= 2, what="the wish, and its end")
        good = heard[0]
        states = [len(agent.published) for agent in fleet.agents.values()]
        unsigned = json.dumps({"wish": json.loads(good)["wish"], "key": plant.keys.key_id, "signature": "A" * 88})
        for name, payload in (("press-00", good), ("press-01", good), ("press-01", unsigned), ("press-01", b"{")):
            client.publish(f"edge/{name}/wishes/pump/bundle", payload, 1, retain=True).wait_for_publish(10)
        fleet.stop("press-00", "press-01")
        fleet.start("press-00", "press-01")
        wait_until(lambda: [len(agent.published) for agent in fleet.agents.values()] == [n + 1 for n in states])
        client.loop_stop()
        client.disconnect()
        assert running(fleet) == ["1.2.0", "1.0.0"]


def test_pieces_that_another_deployment_needs_stay(plant: Plant) -> None:
    """Two deployments of one bundle, for two lines: who is done first takes nothing away from the other's agents."""
    with simulated(plant.port, TEN[:4], plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        fleet.stop("press-00")
        wait_until(lambda: b"offline" in retained(plant.port, "edge/press-00/status")["edge/press-00/status"])
        assert plant.deploy(to=("press-00", "press-01"), soak="0s").missing == ("press-00",)
        assert plant.deploy(to=("press-02", "press-03"), soak="0s").is_done
        assert len([topic for topic in retained(plant.port, *LEFT) if topic.startswith("edge/bundles/")]) == 1
        fleet.start("press-00")
        wait_until(lambda: running(fleet) == ["1.1.0"] * 4, what="the late one")
        assert plant.deploy(to=("press-00", "press-01"), resume=True).is_done
    assert retained(plant.port, *LEFT) == {}


def interrupt(plant: Plant, fleet: SimulatedFleet, *more: str) -> None:
    """Begin a deployment, and leave it once an agent is at work."""
    with subprocess.Popen([tool("edgetool"), *plant.command("1.1.0", *more)[1:]], stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: fleet.agents["press-00"].streams["pump"].state == "proving", 60, "the first wave")
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=60)
        finally:
            process.kill()
    assert retained(plant.port, "edge/bundles/#")


def test_what_an_interrupted_deployment_left_goes_with_what_ends_it(plant: Plant) -> None:
    """A rollback, or another bundle in its place."""
    with simulated(plant.port, TEN[:2], replace(plant.behaviour, step_s=1.0)) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        interrupt(plant, fleet)
        broker = BrokerAddress(port=plant.port)
        edgetool.fleet_rollback(stream="pump", to=("press-*",), key=plant.keys.key, broker=broker)
        assert retained(plant.port, *LEFT) == {}
        interrupt(plant, fleet)
        wait_until(lambda: fleet.agents["press-00"].streams["pump"].state == "settled", 60, "its end")
        assert plant.deploy("1.2.0", soak="0s").is_done
    assert retained(plant.port, *LEFT) == {}


def test_a_rollback_that_comes_behind_the_end_goes_back(plant: Plant) -> None:
    """It looks as if there were something to take back, and the agent settles before it hears that."""
    behaviour = replace(plant.behaviour, step_s=60.0, settles_first=lambda agent: agent == "press-00")
    with simulated(plant.port, TEN[:2], behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        interrupt(plant, fleet, "--waves", "100%")
        broker = BrokerAddress(port=plant.port)
        report = edgetool.fleet_rollback(stream="pump", to=("press-*",), key=plant.keys.key, broker=broker)
        assert report.is_done
        assert {agent: state for agent, (state, _) in report.answers.items()} == {
            "press-00": "rolled_back",
            "press-01": "given_up",
        }
        assert running(fleet) == ["1.0.0"] * 2
    assert retained(plant.port, *LEFT) == {}


def test_what_an_agent_has_not_heard_of_is_given_up(plant: Plant) -> None:
    """It was away when it was sent, and comes back while it is taken back: it says nothing of a bundle."""
    with simulated(plant.port, TEN[:2], plant.behaviour) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        fleet.stop("press-01")
        wait_until(lambda: b"offline" in retained(plant.port, "edge/press-01/status")["edge/press-01/status"])
        assert plant.deploy(waves=("100%",), soak="0s").missing == ("press-01",)

        def come_back(_line: str) -> None:
            """Once all were asked."""
            fleet.start("press-01")

        broker = BrokerAddress(port=plant.port)
        options: dict[str, Any] = {"key": plant.keys.key, "broker": broker, "on_progress": come_back}
        report = edgetool.fleet_rollback(stream="pump", to=("press-*",), **options)
        assert report.is_done
        assert report.answers["press-00"][0] == "rolled_back"
        assert report.answers["press-01"] == ("given_up", "it had not heard of the bundle")
        assert running(fleet) == ["1.0.0"] * 2
    assert retained(plant.port, *LEFT) == {}


def test_what_nobody_ends_is_gone_once_it_has_expired(plant: Plant) -> None:
    """The broker drops it by itself: pieces and wishes."""
    with simulated(plant.port, TEN[:2], replace(plant.behaviour, step_s=30.0)) as fleet:
        wait_until(lambda: all_told(fleet), what="the agents")
        with subprocess.Popen([tool("edgetool"), *plant.command("1.1.0", "--expires", "6s")[1:]]) as process:
            wait_until(lambda: len(retained(plant.port, *LEFT)) == 2, what="what is sent")
            process.kill()
        wait_until(lambda: retained(plant.port, *LEFT) == {}, 30, "its end")
