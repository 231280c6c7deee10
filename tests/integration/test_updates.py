"""Bundles and settings over the broker, with a real broker and a real agent."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from fakes import write_bundle
from nacl.signing import SigningKey
from operators import Operator, iso, public_file, sign_bundle
from paho.mqtt.enums import CallbackAPIVersion
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config

from edge_agent.child_process import Stopped
from edge_agent.update.proving import download

KEY = SigningKey.generate()


def signed_bundle(path: Path, version: str, key: SigningKey = KEY, names: Sequence[str] = (), **options: Any) -> Path:
    """A bundle; with `names`, of channels that are called so."""
    changes: dict[str, Any] = {"version": version}
    if names:
        changes["channels"] = [{"name": name, "unit": "V"} for name in names]
        options["channels"] = len(names)
    return sign_bundle(write_bundle(path, changes=changes, **options), key)


class Feed(threading.Thread):
    """Sends readings of three assets that raise nothing, until it is stopped."""

    def __init__(self, sender: Sender, *, each_s: float = 0.02) -> None:
        super().__init__(daemon=True)
        self._sender = sender
        self._each_s = each_s
        self._end = threading.Event()
        self.sent = 0
        self.value = 1.0

    def run(self) -> None:
        while not self._end.wait(self._each_s):
            reading = {"time": time.time(), "c1": self.value, "c2": 0.5}
            self._sender.send(f"sensors/a{self.sent % 3}/pump", reading)
            self.sent += 1

    def __enter__(self) -> Feed:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self.join()


@pytest.fixture
def operator(broker: Broker) -> Iterator[Operator]:
    with Operator(broker.port, KEY) as running:
        yield running


def config_of(folder: Path, broker: Broker, *, extra: str = "", **options: Any) -> Path:
    bundle = signed_bundle(folder / "square-1.0.0.edge", "1.0.0")
    key = public_file(folder / "plant.pub", KEY)
    return write_config(folder, broker.port, {"pump": bundle}, extra=f'[trust]\nkeys = ["{key}"]\n{extra}', **options)


def test_a_bundle_comes_is_tried_and_settles(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """Every step in its order, with times; no reading is lost or scored by both, and the new model is the one told."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0", alarm=16.0)
    with Agent(config_of(tmp_path, broker)), Feed(sender) as feed:
        subscriber.wait_online()
        operator.deploy(new, shadow=(50, 0.03), probation=(50, 0.03), chunk_bytes=1000)
        told = operator.wait_state("settled")
        wait_until(lambda: subscriber.stream("pump").get("model", {}).get("version") == "1.1.0")
    steps = [step["state"] for step in told["steps"]]
    assert steps == ["fetching", "proving", "shadow", "switched", "probation", "settled"]
    assert told["progress"] == {}, "nothing judges it any more"
    assert told["running"]["version"] == "1.1.0"
    assert told["configured"]["version"] == "1.0.0"
    assert told["comparison"]["new"]["scored"] >= 50
    assert told["comparison"]["new"]["scores"] == told["comparison"]["old"]["scores"]
    assert not told["comparison"]["left_out"]
    sender.drain()
    assert feed.sent >= 100


def deployed_back(told: dict[str, Any], reason: str, *, runs: str = "1.0.0") -> None:
    """See that the update has ended with the old bundle, and says why."""
    assert reason in told["reason"], told
    assert told["running"]["version"] == runs


def test_a_model_that_is_no_number_on_live_readings_is_rolled_back(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """It is right on the golden vectors. Without a shadow it is switched to, and gone within a second."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0", fragile=True)
    with Agent(config_of(tmp_path, broker)), Feed(sender) as feed:
        subscriber.wait_online()
        feed.value = -200.0
        subscriber.wait_events("raise", "raise", "raise")
        operator.deploy(new, probation=(10_000, 10.0))
        told = operator.wait_state("rolled_back")
        deployed_back(operator.now, "no number", runs="1.1.0")
        wait_until(lambda: operator.now["running"]["version"] == "1.0.0")
        # An alert that was open is open still, and ends by the old model's scores.
        feed.value = 0.5
        wait_until(lambda: len([each for each in subscriber.alerts if each.event == "clear"]) == 3)
        again = operator.wish(bundle=operator.part(new), shadow={"readings": 50, "minutes": 0})
        feed.value = -200.0
        operator.send(again)
        told = operator.wait_state("refused")
        assert "in the shadow" in told["reason"]
        assert told["comparison"]["new"]["not_finite"] > 0


def test_a_kill_on_probation_rolls_back(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """Nobody can tell a crash from a kill, so the next start runs the old bundle; a planned stop is none."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0")
    agent = Agent(config_of(tmp_path, broker))
    with agent, Feed(sender):
        subscriber.wait_online()
        operator.deploy(new, probation=(100_000, 10.0))
        operator.wait_state("probation")
        agent.stop()
        agent.start()
        wait_until(lambda: operator.now["progress"].get("readings", 0) > 0 and operator.now["state"] == "probation")
        assert operator.now["running"]["version"] == "1.1.0"
        agent.kill()
        agent.start()
        deployed_back(operator.wait_state("rolled_back"), "ended over it")


def test_a_stop_while_the_agent_starts_is_no_crash(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, operator: Operator
) -> None:
    """`systemctl restart` in the second after a switch: the bundle on probation stays on it."""
    agent = Agent(config_of(tmp_path, broker, engine='provider = "auto"'))
    with agent:
        subscriber.wait_online()
        operator.deploy(signed_bundle(tmp_path / "new.edge", "1.1.0"), probation=(100_000, 10.0))
        operator.wait_state("probation")
        standing = tmp_path / "state" / "updates" / "stream-pump" / "standing.json"
        for _ in range(3):
            agent.stop()
            assert b'"is_running":false' in standing.read_bytes()
            agent.start()
            wait_until(lambda: b'"is_running":true' in standing.read_bytes())
            assert agent.stop() == 0
            assert b'"is_running":false' in standing.read_bytes(), "as it was stopped, it had not started yet"
            subscriber.statuses.clear()
            agent.start()
            wait_until(lambda: any(each["state"] == "online" for each in subscriber.statuses), 60)
        assert operator.now["state"] == "probation"


@pytest.mark.parametrize("what", ["key", "agent", "stream", "kind", "expired", "old", "text", "number"])
def test_a_wish_that_is_not_the_operators_changes_nothing(
    what: str, tmp_path: Path, broker: Broker, subscriber: Subscriber, operator: Operator
) -> None:
    """Whoever may only write to the broker, or has recorded a wish, gets nothing done."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0")
    with Agent(config_of(tmp_path, broker)) as agent:
        subscriber.wait_online()
        if what == "old":
            operator.send(operator.wish("settings", settings={}))
            wait_until(lambda: "settings" in operator.now)
            wait_until(lambda: len([each for each in subscriber.statuses if each["state"] == "online"]) == 2)
        operator.put_pieces(new)
        wish = operator.wish(bundle=operator.part(new))
        others: dict[str, dict[str, Any]] = {
            "agent": {"agent": "g2"},
            "stream": {"stream": "other"},
            "expired": {"issued": "2026-01-01T00:00:00Z", "expires": "2026-01-02T00:00:00Z"},
            "number": {"sequence": (1 << 62) - 1},
        }
        wish |= others.get(what, {})
        if what == "old":
            wish = {**operator.wish("settings", settings={"silent_s": 60.0}), "sequence": 5}
        raw = operator.envelope(wish, SigningKey.generate() if what == "key" else None)
        if what == "text":
            raw = raw.replace(b"1.1.0", b"1.2.0")
        operator.publish(operator.topic("settings" if what in ("kind", "old") else "bundle"), raw)
        wait_until(lambda: subscriber.health.get("updates", {}).get("refused_wishes"))
        time.sleep(1.5)  # whatever it might do, it would have begun by now
        assert operator.now["state"] == "none"
        assert operator.now["running"]["version"] == "1.0.0"
        assert operator.now["overrides"] == {}
        assert "wish not obeyed" in agent.log.read_text()
        if what == "number":
            operator.send(operator.wish(rollback=True))
            assert "none before it" in operator.wait_state("refused")["reason"], "the next wish is heard"


def test_versions_only_grow(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """An older bundle needs a wish that says it is meant, and the way back to the last one needs no bundle."""
    newer, older = (signed_bundle(tmp_path / f"{v}.edge", v) for v in ("1.2.0", "1.1.0"))
    with Agent(config_of(tmp_path, broker)), Feed(sender):
        subscriber.wait_online()
        operator.deploy(newer)
        operator.wait_state("settled")
        operator.deploy(older)
        deployed_back(operator.wait_state("refused"), "not above 1.2.0", runs="1.2.0")
        operator.deploy(older, rollback=True)
        wait_until(lambda: operator.now["state"] == "settled" and operator.now["running"]["version"] == "1.1.0")
        operator.send(operator.wish(rollback=True))
        deployed_back(operator.wait_state("rolled_back"), "as the operator wished", runs="1.1.0")
        wait_until(lambda: operator.now["running"]["version"] == "1.2.0")
        operator.send(operator.wish(rollback=True))
        wait_until(lambda: operator.now["running"]["version"] == "1.0.0")
        operator.send(operator.wish(rollback=True))
        deployed_back(operator.wait_state("refused"), "none before it")


def test_settings_come_and_go(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """Limits, the alarm and the provider of a stream; what does not fit is refused and changes nothing."""
    with Agent(config_of(tmp_path, broker)), Feed(sender) as feed:
        subscriber.wait_online()
        bad = [{"topic": "#"}, {"alarm": {"confirm": 5, "of": 2}}, {"threshold": {"alarm": "high", "clear": 1}}]
        for number, settings in enumerate([*bad, {"provider": "no-such"}]):
            wish = operator.wish("settings", settings=settings)
            operator.send(wish)
            operator.wait_answer(wish)
            assert operator.now["settings"]["state"] == "refused", number
        operator.send(operator.wish("settings", settings={"threshold": {"alarm": 1.2, "clear": 1.0}}))
        wait_until(lambda: operator.now.get("settings", {}).get("state") == "applied")
        subscriber.wait_events("raise", "raise", "raise")
        assert {each.threshold for each in subscriber.alerts} == {1.2}
        feed.value = 0.1
        wait_until(lambda: len([each for each in subscriber.alerts if each.event == "clear"]) == 3)
        operator.send(operator.wish("settings", settings={}))
        wait_until(lambda: operator.now["overrides"] == {})
        feed.value = 1.0
        before = len(subscriber.alerts)
        scored = feed.sent
        wait_until(lambda: feed.sent > scored + 60)
        assert len(subscriber.alerts) == before


def test_settings_end_with_the_key_that_brought_them(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, operator: Operator
) -> None:
    """A bundle of the new key runs then, with what `agent.toml` says, and the agent tells why."""
    with Agent(config_of(tmp_path, broker)) as agent:
        subscriber.wait_online()
        wish = operator.wish("settings", settings={"silent_s": 60.0})
        operator.send(wish)
        operator.wait_answer(wish)
        wait_until(lambda: operator.now["overrides"] == {"silent_s": 60.0})
        assert agent.stop() == 0
        new = SigningKey.generate()
        (tmp_path / "square-1.0.0.edge").unlink()
        signed_bundle(tmp_path / "square-1.0.0.edge", "1.0.0", new)
        public_file(tmp_path / "plant.pub", new)
        operator.told.clear()
        agent.start()
        wait_until(lambda: operator.now.get("overrides") == {})
        assert operator.now["settings"]["state"] == "refused"
        assert "the wish that brought them does not count any more" in operator.now["settings"]["reason"]
        assert "settings that came over the broker are left out stream=pump" in agent.log.read_text()


class Echo:
    """Somebody who may only write to the broker, and sends again and again what he has seen there."""

    def __init__(self, port: int, topic: str) -> None:
        self.sent = 0
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id="echo")
        self._client.on_connect = lambda client, *_: client.subscribe(topic)
        # Each copy that it sends comes back to it, and is sent again.
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _on_message(self, client: paho.Client, _data: Any, message: paho.MQTTMessage) -> None:
        if message.payload:
            time.sleep(0.02)  # fifty copies a second, as one does who wants to be in the way
            client.publish(message.topic, message.payload)
            self.sent += 1

    def __enter__(self) -> Echo:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        del self._client  # see `Neighbour`


@pytest.mark.parametrize("kind", ["settings", "recommission"])
def test_a_wish_that_is_sent_again_and_again_is_done_once(
    kind: str, tmp_path: Path, broker: Broker, subscriber: Subscriber, operator: Operator
) -> None:
    """What tries it does not begin anew with each copy, which anybody can send who has seen it."""
    what: dict[str, Any] = {"settings": {"silent_s": 60.0}} if kind == "settings" else {}
    with Agent(config_of(tmp_path, broker)) as agent, Echo(broker.port, operator.topic(kind)) as echo:
        subscriber.wait_online()
        operator.send(operator.wish(kind, **what))
        wait_until(lambda: kind in operator.now, what="the answer")
        copies = echo.sent
        wait_until(lambda: echo.sent > copies + 50, what="more copies")
        log = agent.log.read_text()
        assert log.count(f"kind={kind}") == 1, log
        assert "not obeyed" not in log


def test_a_bundle_from_a_url_is_on_the_disk_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a power cut, a name without its content would be a bundle that is none."""
    content = bytes(range(256)) * 100
    synchronised: list[bytes] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synchronised.append(Path(f"/proc/self/fd/{descriptor}").read_bytes())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    with OddServer(b"HTTP/1.0 200 OK\r\n\r\n" + content) as server:
        download(server.url, tmp_path / "new.part", len(content), lambda: None)
    assert synchronised == [content]


def test_limits_set_anew_on_a_wish_are_told_once_the_disk_has_them(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """On a full disk they are not, and an agent that is killed hears the wish again."""
    config = config_of(tmp_path, broker, stream="[stream.commission]\nreadings = 40")
    with Agent(config) as agent:
        subscriber.wait_online()
        for number in range(40):
            sender.send("sensors/a1/pump", {"time": 100.0 + number, "c1": 20.0 + number % 7, "c2": 0.0})
        wait_until(lambda: (subscriber.stream("pump").get("commission") or {}).get("ready") == 1)
        assert agent.stop() == 0  # so that the disk has the limits
        agent.start()
        subscriber.wait_online()
        agent.limit_files(4096)
        wish = operator.wish("recommission")
        operator.send(wish)
        wait_until(lambda: subscriber.health["journal_problem"])
        agent.kill()
        assert "recommission" not in operator.now
        session = subscriber.health["session"]
        agent.start()
        operator.wait_answer(wish)
        assert operator.now["recommission"]["state"] == "applied"
        wait_until(lambda: subscriber.health["session"] != session and subscriber.health["uptime_s"] > 1.0)
        assert subscriber.stream("pump")["commission"]["ready"] == 0


def test_a_bundle_settles_once_the_disk_has_it(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """On a full disk it stays on probation: a kill would roll back what was told to have settled."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0")
    with Agent(config_of(tmp_path, broker)) as agent, Feed(sender):
        subscriber.wait_online()
        operator.deploy(new, probation=(300, 0.0))
        operator.wait_state("probation")
        agent.limit_files(0)
        wait_until(lambda: "disk" in operator.now["reason"] or operator.now["state"] == "settled")
        assert operator.now["state"] == "probation"
        agent.limit_files(None)
        operator.wait_state("settled")
        assert operator.now["reason"] == ""
        agent.kill()
        session = subscriber.health["session"]
        agent.start()
        wait_until(lambda: subscriber.health["session"] != session)
        wait_until(lambda: operator.now["state"] == "settled" and operator.now["running"]["version"] == "1.1.0")


def test_a_wish_waits_for_a_clock_that_is_behind(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, operator: Operator
) -> None:
    """Whether it has expired, nobody knows at a device that has just started in 1970; five minutes are let be."""
    early_s = 304.0
    with Agent(config_of(tmp_path, broker)) as agent:
        subscriber.wait_online()
        wish = {**operator.wish("settings", settings={"silent_s": 60.0}), "issued": iso(early_s)}
        made_s = time.time() + early_s
        operator.send(wish)
        wait_until(lambda: "wish waits for the clock" in agent.log.read_text())
        operator.wait_answer(wish)
        assert operator.now["overrides"] == {"silent_s": 60.0}
        assert time.time() >= made_s - 300.0


def test_a_good_wish_with_bytes_around_it_that_are_no_text_ends_nothing(
    tmp_path: Path, broker: Broker, operator: Operator
) -> None:
    """What was signed is one key of the message; anybody can put others beside it."""
    with Agent(config_of(tmp_path, broker)) as agent:
        wait_until(lambda: operator.now, what="the agent")
        raw = operator.envelope(operator.wish("settings", settings={"silent_s": 60.0}))
        operator.publish(operator.topic("settings"), raw[:-1] + b', "more": "\xff\xfe"}')
        wait_until(lambda: "settings" in operator.now or "wish not obeyed" in agent.log.read_text())
        assert agent.process is not None
        assert agent.process.poll() is None
        operator.publish(operator.topic("settings"), raw)
        wait_until(lambda: operator.now.get("overrides") == {"silent_s": 60.0})


def test_the_operators_own_program_rolls_back(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """Whatever it looks at: it ends with 3, and the old bundle runs again."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0")
    asked = '[updates]\nhealth_command = ["/bin/sh", "-c", "exit 3"]'
    with Agent(config_of(tmp_path, broker, extra=asked)), Feed(sender):
        subscriber.wait_online()
        operator.deploy(new, probation=(100_000, 10.0))
        told = operator.wait_state("rolled_back")
        assert told["reason"] == "the health command /bin/sh ended with 3"
        wait_until(lambda: operator.now["running"]["version"] == "1.0.0")


@pytest.mark.parametrize(
    ("what", "options", "shadow", "state", "reason"),
    [
        ("one alert for each asset that never ends", {"alarm": 1.0, "clear": 0.5}, 100, "refused", "reached the limit"),
        ("the same", {"alarm": 1.0, "clear": 0.5}, 0, "rolled_back", "reached the limit"),
        ("a channel that is not read", {"names": ["c1", "c9"]}, 100, "refused", "does not read its channels c9"),
        ("the same", {"names": ["c1", "c9"]}, 0, "rolled_back", "none of them could be scored"),
    ],
)
def test_a_bundle_that_does_not_fit_the_plant(
    what: str,
    options: dict[str, Any],
    shadow: int,
    state: str,
    reason: str,
    tmp_path: Path,
    broker: Broker,
    subscriber: Subscriber,
    sender: Sender,
    operator: Operator,
) -> None:
    """Whatever its golden vectors say: it is refused beside the old model, and without a shadow rolled back."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0", **options)
    with Agent(config_of(tmp_path, broker)), Feed(sender):
        subscriber.wait_online()
        operator.deploy(new, shadow=(shadow, 0.0), probation=(10_000, 10.0))
        assert reason in operator.wait_state(state)["reason"], what
        wait_until(lambda: operator.now["running"]["version"] == "1.0.0")


def test_the_shadow_takes_channels_by_their_names(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """A model of the second channel alone scores its square, and not that of the first."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0", names=["c2"])
    with Agent(config_of(tmp_path, broker)), Feed(sender):
        subscriber.wait_online()
        operator.deploy(new, shadow=(50, 0.0))
        told = operator.wait_state("settled")
        assert told["comparison"]["new"]["scores"]["median"] == 0.25
        assert told["comparison"]["old"]["scores"]["median"] == 1.25


def test_nobody_goes_back_to_what_cannot_run(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, operator: Operator
) -> None:
    """The configured file is gone: the wish is refused, and the agent goes on."""
    with Agent(config_of(tmp_path, broker)) as agent, Feed(sender):
        subscriber.wait_online()
        operator.deploy(signed_bundle(tmp_path / "new.edge", "1.1.0"))
        operator.wait_state("settled")
        (tmp_path / "square-1.0.0.edge").unlink()
        operator.send(operator.wish(rollback=True))
        assert "cannot run" in operator.wait_state("refused")["reason"]
        assert operator.now["running"]["version"] == "1.1.0"
        assert agent.process is not None
        assert agent.process.poll() is None


def test_a_stream_whose_pieces_do_not_come_holds_up_no_other(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, operator: Operator
) -> None:
    """One piece at a time is asked for, of one stream after the other; and who waits gets what comes late."""
    bundle = signed_bundle(tmp_path / "square-1.0.0.edge", "1.0.0")
    key = public_file(tmp_path / "plant.pub", KEY)
    streams = {"fan": bundle, "pump": bundle}
    late, good = (signed_bundle(tmp_path / f"new-{version}.edge", version) for version in ("1.1.0", "1.2.0"))
    config = write_config(tmp_path, broker.port, streams, extra=f'[trust]\nkeys = ["{key}"]')
    with Operator(broker.port, KEY, stream="fan") as other, Agent(config):
        subscriber.wait_online()
        at_once = {"readings": 0, "minutes": 0}
        other.send(other.wish(bundle=other.part(late), shadow=at_once, probation=at_once))
        wait_until(lambda: other.now.get("state") == "fetching")
        operator.deploy(good, chunk_bytes=1000)
        operator.wait_state("settled")
        assert "is not at the broker" in other.wait_state("waiting")["reason"]
        other.put_pieces(late)
        other.wait_state("settled")


def test_an_update_does_not_start_the_agent_anew_with_a_file_that_is_wrong(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, operator: Operator
) -> None:
    """Somebody is editing agent.toml: the old model goes on, it is told, and the update goes on with the good file."""
    config = config_of(tmp_path, broker)
    good = config.read_text()
    with Agent(config) as agent:
        subscriber.wait_online()
        config.write_text(good + "topik = 3\n")
        operator.deploy(signed_bundle(tmp_path / "new.edge", "1.1.0"))
        wait_until(lambda: "could not start anew" in operator.now.get("reason", ""), 60)
        assert "topik: unknown key" in operator.now["reason"]
        assert agent.process is not None
        assert agent.process.poll() is None
        assert operator.now["running"]["version"] == "1.0.0"
        config.write_text(good)
        operator.wait_state("settled")
        assert operator.now["running"]["version"] == "1.1.0"
        config.write_text(good + "topik = 3\n")
        assert operator.now["reason"] == "", "what held it up is over"
        wish = operator.wish("settings", settings={"threshold": {"alarm": 1.2, "clear": 1.0}})
        operator.send(wish)
        wait_until(lambda: "could not start anew" in operator.now["reason"], 60)
        assert (operator.now["overrides"], operator.now.get("settings")) == ({}, None), "they do not hold yet"
        config.write_text(good)
        operator.wait_answer(wish)
        assert operator.now["overrides"] == {"threshold": {"alarm": 1.2, "clear": 1.0}}


class OddServer(threading.Thread):
    """A web server that answers each request with the next of these; the last one again and again.

    Args:
        answers: bytes, after which the connection is closed, and None for a byte now and then.
    """

    def __init__(self, *answers: bytes | None) -> None:
        super().__init__(daemon=True)
        self._answers = [*answers]
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}/new.edge"
        self.asked = 0

    def run(self) -> None:
        while True:
            try:
                client, _ = self._socket.accept()
            except OSError:
                return
            with client, suppress(OSError):
                client.recv(10_000)
                answer = self._answers[min(self.asked, len(self._answers) - 1)]
                self.asked += 1
                client.sendall(b"HTTP/1.0 200 OK\r\n\r\n" if answer is None else answer)
                while answer is None:
                    client.sendall(b"x")
                    time.sleep(0.02)  # a byte now and then

    def __enter__(self) -> OddServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self.join()


def test_a_download_that_is_cut_off_is_begun_again(tmp_path: Path, broker: Broker, operator: Operator) -> None:
    """Nor does a word that is no HTTP end the update: a proxy may say it while the server starts."""
    new = signed_bundle(tmp_path / "new.edge", "1.1.0")
    content = new.read_bytes()
    good = b"HTTP/1.0 200 OK\r\n\r\n" + content
    zero = {"readings": 0, "minutes": 0}
    with Agent(config_of(tmp_path, broker)), OddServer(good[:-500], b"hello\r\n\r\n", good) as server:
        wait_until(lambda: operator.now, what="the agent")
        part = operator.part(new, url=server.url)
        operator.send(operator.wish(bundle=part, shadow=zero, probation=zero))
        assert f"gives {len(content) - 500} bytes, expected {len(content)}" in operator.wait_state("waiting")["reason"]
        assert operator.wait_state("settled")["running"]["version"] == "1.1.0"
        assert server.asked == 3


def test_a_server_that_drips_holds_up_no_end(tmp_path: Path) -> None:
    """After each byte it is asked whether the update is still wanted."""
    looks: list[int] = []

    def look() -> None:
        looks.append(1)
        if len(looks) == 3:
            raise Stopped

    with OddServer(None) as server, pytest.raises(Stopped):
        download(server.url, tmp_path / "new.part", 1_000_000, look)
    assert (tmp_path / "new.part").stat().st_size < 1_000
