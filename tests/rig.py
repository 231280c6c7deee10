"""What every row of the fault matrix stands on: a broker, an agent, a sender with a plan, and a checking subscriber."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from plan import FIRST_TIME_S, Plan, Verdict, judge
from processes import EVERY_ALERT, Agent, Broker, Sender, Subscriber, wait_until, write_config
from proxy import Proxy

from edge_agent.messages.text import iso_time

__all__ = ["Report", "Rig", "Sending", "hooked", "rig"]

Report = Callable[..., None]
"""Keeps facts of a row, such as `report(sent=10, received=10)`."""

_AT_ONCE = 24
"""Whole periods of the plan, so that its last readings end an alert and none is without a trace."""
_SENDER_BUFFER = 10_000
"""Readings that a sender keeps while the broker does not take them; then it waits."""


def hooked(*faults: str) -> list[str]:
    """The command of an agent with faults of `hooked_agent`."""
    return [sys.executable, str(Path(__file__).with_name("hooked_agent.py")), *faults, "--"]


class Sending(threading.Thread):
    """Publishes a plan's readings from `first` to before `last`, evenly."""

    def __init__(
        self, sender: Sender, plan: Plan, *, rate_hz: float, first: int, last: int, in_a_message: int = 1
    ) -> None:
        super().__init__(name="sending", daemon=True)
        self._sender, self._plan, self._rate_hz, self._first, self._last = sender, plan, rate_hz, first, last
        self._in_a_message = in_a_message
        self._stopped = False
        self.sent = first
        """Number of the next reading."""

    def run(self) -> None:
        started = time.monotonic()
        while self.sent < self._last and not self._stopped:
            end = min(self.sent + _AT_ONCE * self._in_a_message, self._last)
            for topic, payload in self._plan.messages(self.sent, end, self._in_a_message):
                self._sender.send(topic, payload)
            self.sent = end
            time.sleep(max(0.0, started + (self.sent - self._first) / self._rate_hz - time.monotonic()))
            while self._sender.waiting > _SENDER_BUFFER and not self._stopped:
                time.sleep(0.01)  # as a sender that has no more memory

    def end(self) -> int:
        """Stop; gives how many readings were sent."""
        self._stopped = True
        self.join()
        return self.sent


@dataclass
class Rig:
    """The processes of one row."""

    plan: Plan
    broker: Broker
    subscriber: Subscriber
    sender: Sender
    agent: Agent
    proxy: Proxy | None
    sent: Callable[[], int] = lambda: 0
    """How many readings were sent, where somebody counts them."""

    @property
    def net(self) -> Proxy:
        """The network between agent and broker, of a rig that was asked for one."""
        assert self.proxy is not None
        return self.proxy

    def sending(self, rate_hz: float, *, first: int = 0, in_a_message: int = 1) -> Sending:
        """Start to publish."""
        options = {"first": first, "last": self.plan.readings, "in_a_message": in_a_message}
        thread = Sending(self.sender, self.plan, rate_hz=rate_hz, **options)
        thread.start()
        return thread

    def end_of(self, sending: Sending) -> None:
        """Stop to publish; the plan ends with what was sent."""
        self.plan = replace(self.plan, readings=sending.end())

    def wait_for_work(self) -> None:
        """Until a process of the agent that was just started has come to the broker."""
        births = len(self.subscriber.statuses)
        wait_until(lambda: any(s["state"] == "online" for s in self.subscriber.statuses[births:]), 60, "a birth")

    @property
    def scored(self) -> int:
        """Windows scored, as the agent's health tells."""
        return self.subscriber.count(self.plan.stream, "scored")

    def heard_of(self, number: int) -> bool:
        """Whether an event of this reading or a later one of its asset has come."""
        newest = self.subscriber.newest.get(f"a{number % self.plan.assets}", "")
        return newest >= iso_time(FIRST_TIME_S + number)

    def verdict(self, *, from_number: int = 0, only_later: bool = False, timeout_s: float = 90.0) -> Verdict:
        """Wait until the broker has every reading and the subscriber every event, and hold them against the plan.

        Args:
            from_number: see `judge`.
            only_later: see `judge`.
            timeout_s: for each of the two.
        """
        self.sender.drain(timeout_s)
        expected = self.plan.expected()
        ends = [max(key for key in expected if key[0] == asset) for asset in {key[0] for key in expected}]
        limit = time.monotonic() + timeout_s
        while time.monotonic() < limit:
            if from_number and all(self.heard_of(round(key[1] - FIRST_TIME_S)) for key in ends):
                break
            if len(self.subscriber.different) >= len(expected):
                break
            time.sleep(0.05)
        # Whatever comes in the time of two health messages is one too many, and shows in the verdict.
        time.sleep(0.5)
        verdict = judge(self.plan, list(self.subscriber.raw_alerts), from_number=from_number, only_later=only_later)
        if verdict.problems:
            # One reading less is a clear and the next raise less, and a second kill at the same message takes one.
            verdict.problems.append(f"set aside: {[each['topic'] for each in self.subscriber.set_aside]}")
        return verdict

    def facts(self, verdict: Verdict) -> dict[str, int]:
        """Sent, scored, raised, received."""
        return {"sent": self.plan.readings, **verdict.facts()}


@contextmanager
def rig(
    folder: Path,
    plan: Plan,
    *,
    command: Sequence[str] = (),
    env: dict[str, str] | None = None,
    via_proxy: bool = False,
    address: str = "127.0.0.1",
    persistence: bool = True,
    inflight: int = 20,
    queued: int = 0,
    mqtt: str = "",
    state: str = "state",
    bundle: Path | None = None,
    engine: str = 'provider = "cpu"',
    stream: str = "",
    alarm: str = "",
    health_s: float = 0.2,
    online: bool = True,
) -> Iterator[Rig]:
    """Start everything; the agent is online when the block begins.

    Args:
        folder: of all files.
        plan: what will be sent.
        command: of the agent.
        env: more for the agent's environment.
        via_proxy: the agent, and only it, reaches the broker through a `Proxy`.
        address: where that listens.
        persistence: of the broker.
        inflight: what the broker sends before acknowledgements.
        queued: what it keeps beyond that; 0 is no limit.
        mqtt: more lines of `[mqtt]`.
        state: the agent's folder, below `folder`.
        bundle: the plan's when not given.
        engine: lines of `[engine]`.
        stream: more lines of the `[[stream]]`.
        alarm: more lines of its `[stream.alarm]`; a plan's assets are raised far more than ten times an hour.
        health_s: time between two health messages.
        online: start the agent and wait for it.
    """
    with ExitStack() as stack:
        broker = stack.enter_context(
            Broker(folder / "broker", persistence=persistence, inflight=inflight, queued=queued)
        )
        subscriber = stack.enter_context(Subscriber(broker.port))
        proxy = stack.enter_context(Proxy(broker.port, host=address)) if via_proxy else None
        detector = bundle or plan.bundle(folder / "square-1.0.0.edge")
        port = proxy.port if proxy else broker.port
        options: dict[str, Any] = {
            "mqtt": mqtt,
            "state": state,
            "host": address,
            "engine": engine,
            "stream": f"{stream}\n{EVERY_ALERT}\n{alarm}",
            "health_s": health_s,
        }
        config = write_config(folder, port, {plan.stream: detector}, **options)
        agent = Agent(config, command=command, env=env)
        sender = stack.enter_context(Sender(broker.port))
        if online:
            stack.enter_context(agent)
            wait_until(lambda: subscriber.statuses and subscriber.health, 60, f"the agent; see {agent.log}")
        yield Rig(plan, broker, subscriber, sender, agent, proxy)
        # A row may have started it again, or for the first time.
        if agent.process is not None and agent.process.poll() is None:
            agent.kill()
