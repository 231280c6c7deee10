"""Agents at the MQTT level, a thousand in one process: they tell status, health and updates, and obey signed wishes.

They are not `edge-agent`: no model runs, and the steps of an update take a stated time and end as the bundle's version
says. What they say on the wire is what docs/mqtt.md says of an agent. For tests and benchmarks of `edgetool fleet`.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from edge_agent.errors import TrustError
from edge_agent.messages.text import iso_time
from edge_agent.trust import Keys, read_wish
from edge_agent.versions import precedence

__all__ = ["Behaviour", "SimulatedAgent", "SimulatedFleet", "simulated"]

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE, _SUBACK = 1, 2, 3, 4, 8, 9
_CHUNK_WAIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What all agents of a simulation do."""

    keys: Keys | None = None
    """Whose wishes are obeyed; None obeys none, and tells nothing of updates."""
    health_s: float = 10.0
    """Between two health messages."""
    step_s: float = 0.05
    """How long each step of an update takes."""
    rolls_back: Callable[[str, str], bool] = lambda _agent, _version: False
    """Whether an agent rolls this version back while it is on probation."""
    refuses: Callable[[str, str], bool] = lambda _agent, _version: False
    """Whether the version does not prove itself on an agent."""
    settles_first: Callable[[str], bool] = lambda _agent: False
    """Whether an agent comes to the good end of an update just before it hears that this is taken back."""
    alerts: Callable[[str, str], int] = lambda _agent, _version: 0
    """Open alerts while an agent runs this version."""
    username: Callable[[str], str | None] = lambda _agent: None
    """User name and password, which are the same, of an agent; None connects without."""


@dataclass(slots=True)
class _Stream:
    """One stream of an agent."""

    running: dict[str, str]
    former: dict[str, str]
    configured: dict[str, str]
    sequences: dict[str, int] = field(default_factory=dict)
    highest: dict[str, dict[str, str]] = field(default_factory=dict)
    state: str = "none"
    reason: str = ""
    bundle: dict[str, str] | None = None
    steps: list[dict[str, str]] = field(default_factory=list)
    answers: dict[str, dict[str, Any]] = field(default_factory=dict)
    progress: dict[str, Any] = field(default_factory=dict)
    work: asyncio.Task[None] | None = None


class SimulatedAgent:
    """One agent.

    Args:
        name: its id.
        port: of the broker.
        streams: names of its streams.
        behaviour: what it does.
    """

    def __init__(self, name: str, port: int, streams: Sequence[str], behaviour: Behaviour) -> None:
        self.name = name
        first = {"name": "square", "version": "1.0.0", "sha256": "0" * 64}
        self.streams = {stream: _Stream(first, first, first) for stream in streams}
        self.published: list[str] = []
        """States that it has told, `stream:state`, oldest first."""
        self._behaviour = behaviour
        self._port = port
        self._started_mono_s = time.monotonic()
        self._session = f"{name}-{time.monotonic_ns()}"
        self._mid = 0
        self._chunks: dict[str, asyncio.Future[bytes]] = {}
        self._writer: asyncio.StreamWriter | None = None

    async def run(self) -> None:
        """Until it is cancelled, or the broker ends the connection."""
        reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        telling: asyncio.Task[None] | None = None
        try:
            self._connect()
            async for kind, flags, body in _packets(reader):
                if kind == _CONNACK:
                    if body[1]:
                        raise ConnectionRefusedError(f"{self.name}: refused by the broker with code {body[1]}")
                    self._begin()
                    telling = asyncio.create_task(self._tell_health())
                elif kind == _PUBLISH:
                    self._take(flags, body)
        finally:
            for task in (telling, *(stream.work for stream in self.streams.values())):
                if task is not None:
                    task.cancel()
            self._writer.close()

    def _connect(self) -> None:
        user = self._behaviour.username(self.name)
        will = json.dumps(self._status("offline", "connection lost")).encode()
        texts = [f"edge-agent-{self.name}".encode(), f"edge/{self.name}/status".encode(), will]
        texts += [] if user is None else [user.encode(), user.encode()]
        flags = 0x02 | 0x04 | 0x08 | 0x20 | (0 if user is None else 0xC0)
        body = b"\0\4MQTT\4" + bytes([flags]) + b"\0\0" + b"".join(map(_text, texts))
        self._write(_CONNECT << 4, body)

    def _begin(self) -> None:
        self._publish("status", self._status("online", "connected"), qos=1)
        self._publish("health", self._health(), qos=0)
        if self._behaviour.keys is not None:
            kinds = ("bundle", "settings", "recommission")
            self._subscribe(*(f"edge/{self.name}/wishes/{name}/{kind}" for name in self.streams for kind in kinds))
            for name in self.streams:
                self._tell(name)

    async def _tell_health(self) -> None:
        while True:
            await asyncio.sleep(self._behaviour.health_s)
            self._publish("health", self._health(), qos=0)

    # What it says -----------------------------------------------------------------------------------------------

    def _status(self, state: str, reason: str) -> dict[str, Any]:
        when = iso_time(time.time())
        facts = {"state": state, "reason": reason, "session": self._session, "time": when, "version": "0.1.0"}
        return {**facts, "streams": [*self.streams]}

    def _health(self) -> dict[str, Any]:
        uptime_s = time.monotonic() - self._started_mono_s
        streams = {
            name: {
                "readings": int(uptime_s * 10),
                "scored": int(uptime_s * 10),
                "active_alerts": self._behaviour.alerts(self.name, stream.running["version"]),
                "assets": 10,
                "provider": "cpu",
                "provider_reason": "simulated",
                "model": stream.running,
                "rejected": {},
            }
            for name, stream in self.streams.items()
        }
        facts = {"agent": self.name, "time": iso_time(time.time()), "uptime_s": round(uptime_s, 1), "version": "0.1.0"}
        return {**facts, "session": self._session, "queue_depth": 0, "clock_synchronised": True, "streams": streams}

    def _tell(self, name: str) -> None:
        stream = self.streams[name]
        self.published.append(f"{name}:{stream.state}")
        document = {
            "agent": self.name,
            "stream": name,
            "sequence": stream.sequences.get("bundle"),
            "kind": "bundle",
            "state": stream.state,
            "since": stream.steps[-1]["time"] if stream.steps else None,
            "reason": stream.reason,
            "bundle": stream.bundle,
            "running": stream.running,
            "configured": stream.configured,
            "progress": stream.progress,
            "comparison": None,
            "steps": stream.steps[-20:],
            "highest": {each: highest["version"] for each, highest in stream.highest.items()},
            "overrides": {},
            **stream.answers,
        }
        self._publish(f"updates/{name}", document, qos=1)

    # What it is told --------------------------------------------------------------------------------------------

    def _take(self, flags: int, body: bytes) -> None:
        size = int.from_bytes(body[:2])
        topic, rest = body[2 : 2 + size].decode(), body[2 + size :]
        if flags & 6:
            self._write(_PUBACK << 4, rest[:2])
            rest = rest[2:]
        if topic in self._chunks and rest:
            future = self._chunks[topic]
            if not future.done():
                future.set_result(rest)
        elif "/wishes/" in topic and rest:
            _, _, _, stream, kind = topic.split("/")
            self._obey(stream, kind, rest)

    def _obey(self, name: str, kind: str, payload: bytes) -> None:
        assert self._behaviour.keys is not None
        try:
            wish = json.loads(read_wish(payload, self._behaviour.keys))
        except TrustError:
            return
        stream = self.streams[name]
        is_mine = [wish["agent"], wish["stream"], wish["kind"]] == [self.name, name, kind]
        is_late = wish["expires"] < iso_time(time.time())
        if not is_mine or is_late or wish["sequence"] <= stream.sequences.get(kind, -1):
            return
        stream.sequences[kind] = wish["sequence"]
        if kind != "bundle":
            what = "all assets" if kind == "recommission" else ", ".join(wish["settings"]) or "none"
            when = iso_time(time.time())
            stream.answers[kind] = {"sequence": wish["sequence"], "state": "applied", "reason": what, "time": when}
            self._tell(name)
        elif wish.get("cancel"):
            self._cancel(name)
        elif "bundle" not in wish:
            self._stop_work(stream)
            stream.running = stream.former
            self._step(name, "rolled_back", "an operator has wished it")
        else:
            self._stop_work(stream)
            stream.steps.clear()
            stream.work = asyncio.create_task(self._update(name, wish))

    def _cancel(self, name: str) -> None:
        stream = self.streams[name]
        if self._behaviour.settles_first(self.name) and stream.bundle is not None and stream.state != "settled":
            self._stop_work(stream)
            stream.former, stream.running = stream.running, stream.bundle
            self._step(name, "settled")
        elif stream.state in ("waiting", "fetching", "proving", "shadow"):
            self._stop_work(stream)
            self._step(name, "given_up", "an operator has taken it back")
        elif stream.state in ("switched", "probation"):
            self._stop_work(stream)
            stream.running = stream.former
            self._step(name, "rolled_back", "an operator has taken it back")
        else:
            self._tell(name)

    def _stop_work(self, stream: _Stream) -> None:
        if stream.work is not None:
            stream.work.cancel()

    async def _update(self, name: str, wish: dict[str, Any]) -> None:
        stream, part, wait_s = self.streams[name], wish["bundle"], self._behaviour.step_s
        stream.bundle = {key: part[key] for key in ("name", "version", "sha256")}
        highest = stream.highest.get(part["name"], {"version": "0.0.0", "sha256": ""})
        is_higher = precedence(part["version"]) > precedence(highest["version"])
        if not (is_higher or highest["sha256"] == part["sha256"] or wish.get("rollback")):
            self._step(name, "refused", f"{part['version']} is not above {highest['version']}, which has run here")
            return
        self._step(name, "fetching")
        content = b""
        count = -(-part["size_bytes"] // part["chunk_bytes"])
        for number in range(count):
            stream.progress = {"chunks": number, "of": count}
            topic = f"edge/bundles/{part['sha256']}/{number}"
            self._chunks[topic] = asyncio.get_running_loop().create_future()
            self._subscribe(topic)
            try:
                content += await asyncio.wait_for(self._chunks[topic], _CHUNK_WAIT_S)
            except TimeoutError:
                self._step(name, "waiting", f"piece {number} is not at the broker")
                return
            finally:
                del self._chunks[topic]
        stream.progress = {}
        if hashlib.sha256(content).hexdigest() != part["sha256"]:
            self._step(name, "refused", "the file is another one")
            return
        for state in ("proving", "shadow"):
            self._step(name, state)
            await asyncio.sleep(wait_s)
            if state == "proving" and self._behaviour.refuses(self.name, part["version"]):
                self._step(name, "refused", "no provider gives the golden scores")
                return
        stream.former, stream.running = stream.running, stream.bundle
        stream.highest[part["name"]] = {"version": part["version"], "sha256": part["sha256"]}
        for state in ("switched", "probation"):
            self._step(name, state)
            self._publish("health", self._health(), qos=0)
            await asyncio.sleep(wait_s)
        if self._behaviour.rolls_back(self.name, part["version"]):
            stream.running = stream.former
            self._step(name, "rolled_back", "a score that is no number")
        else:
            self._step(name, "settled")

    def _step(self, name: str, state: str, reason: str = "") -> None:
        stream = self.streams[name]
        stream.state, stream.reason = state, reason
        stream.steps.append({"state": state, "time": iso_time(time.time()), "reason": reason})
        self._tell(name)

    # The wire ---------------------------------------------------------------------------------------------------

    def _publish(self, below: str, document: dict[str, Any], *, qos: int) -> None:
        identifier = b"" if not qos else self._next().to_bytes(2)
        topic = _text(f"edge/{self.name}/{below}".encode())
        self._write(_PUBLISH << 4 | qos << 1 | 1, topic + identifier + json.dumps(document).encode())

    def _subscribe(self, *topics: str) -> None:
        self._write(_SUBSCRIBE << 4 | 2, self._next().to_bytes(2) + b"".join(_text(t.encode()) + b"\1" for t in topics))

    def _next(self) -> int:
        self._mid = self._mid % 0xFFFF + 1
        return self._mid

    def _write(self, head: int, body: bytes) -> None:
        assert self._writer is not None
        size, digits = len(body), b""
        while True:
            size, digit = divmod(size, 128)
            digits += bytes([digit | (128 if size else 0)])
            if not size:
                break
        with suppress(ConnectionError):
            self._writer.write(bytes([head]) + digits + body)


def _text(content: bytes) -> bytes:
    return len(content).to_bytes(2) + content


async def _packets(reader: asyncio.StreamReader) -> Any:
    """Type, flags and body of each packet that comes."""
    with suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head, size, shift = (await reader.readexactly(1))[0], 0, 0
            while True:
                digit = (await reader.readexactly(1))[0]
                size |= (digit & 127) << shift
                shift += 7
                if not digit & 128:
                    break
            yield head >> 4, head & 15, await reader.readexactly(size)


class SimulatedFleet:
    """Many agents on a thread of their own, inside the block.

    Args:
        port: of the broker.
        names: ids of the agents.
        behaviour: what they do.
        streams: of each agent.
    """

    def __init__(
        self, port: int, names: Sequence[str], behaviour: Behaviour, streams: Sequence[str] = ("pump",)
    ) -> None:
        self.agents = {name: SimulatedAgent(name, port, streams, behaviour) for name in names}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="simulated-agents")

    def start(self, *names: str) -> None:
        """Connect agents, which know what they knew before."""
        asyncio.run_coroutine_threadsafe(self._start(names), self._loop).result(60)

    def stop(self, *names: str) -> None:
        """Take agents off the network, without a word of theirs."""
        asyncio.run_coroutine_threadsafe(self._stop(names), self._loop).result(60)

    async def _start(self, names: Sequence[str]) -> None:
        for name in names:
            self._tasks[name] = asyncio.create_task(self.agents[name].run())

    async def _stop(self, names: Sequence[str]) -> None:
        tasks = [task for name in names if (task := self._tasks.pop(name, None)) is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def __enter__(self) -> SimulatedFleet:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(*self._tasks)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()


@contextmanager
def simulated(port: int, names: Sequence[str], behaviour: Behaviour) -> Iterator[SimulatedFleet]:
    """A fleet that is connected."""
    with SimulatedFleet(port, names, behaviour) as fleet:
        fleet.start(*names)
        yield fleet
