"""`edge-agent` with faults that only tests can set; the product has no branch for them.

`python hooked_agent.py FAULT… -- run --config agent.toml`, where a fault is one of

    kill=POINT:N     SIGKILL itself when it comes to this point of its work for the Nth time; the points are in POINTS
    clock=FILE       its wall clock is ahead by the seconds that stand in FILE; the monotonic clock is not touched
    synchronised=yes its wall clock is known to be right
    slow=SECONDS     scoring takes so long for every window
    crash=HOW:N      a provider `crasher` is there; it fails at its Nth batch: `error` is a failure that the runtime
                     tells, `abort` ends the process, `sleep` does not come back
    harm=HOW         a payload with the text `harmful` ends the process that decodes it: `abort`, `kill`, `hang`,
                     `memory` (it is used up), `error` (one that nobody expects)
    sluggish=yes     a provider `sluggish` is there, which is right and needs 40 ms for each window
    block=WHAT:FILE  once the file is there, the `loop` or the `scorer` does not come back, or what looks after `mqtt`
                     does nothing
    hang=SECONDS     a provider `hanger` is known, whose process is given up after so long; with 0 it is not here
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge_agent.agent.publisher import Publisher
from edge_agent.engine.providers import Provider
from edge_agent.journal.journal import Journal
from edge_agent.mqtt.client import MqttClient
from edge_agent.mqtt.message import Message

__all__ = ["POINTS"]

POINTS: dict[str, tuple[type, str]] = {
    "before-commit": (Journal, "commit"),
    "commit-ack": (MqttClient, "ack"),
    "commit-publish": (Publisher, "events_added"),
    "publish-puback": (MqttClient, "flush"),
    "puback-delete": (Journal, "forget"),
}
"""Points to be killed at: just before this method, `flush` excepted, which has written an event to the socket."""


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_at(text: str) -> None:
    point, _, count = text.partition(":")
    owner, name = POINTS[point]
    method: Callable[..., Any] = getattr(owner, name)
    calls, left = 0, int(count)

    def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= left:
            _die()
        return method(self, *args, **kwargs)

    if point == "publish-puback":
        _kill_after_writing(left)
    else:
        setattr(owner, name, counted)


def _kill_after_writing(left: int) -> None:
    """Once an event has been handed over and written, before its acknowledgement can have been read."""
    publish, flush = MqttClient.publish, MqttClient.flush
    published = 0

    def counting(self: MqttClient, message: Message) -> int | None:
        nonlocal published
        published += "/alerts/" in message.topic
        return publish(self, message)

    def flushing(self: MqttClient) -> None:
        flush(self)
        if published >= left:
            _die()

    MqttClient.publish, MqttClient.flush = counting, flushing  # type: ignore[method-assign]


def _shift_clock(text: str) -> None:
    file, true_time = Path(text), time.time

    def shifted() -> float:
        return true_time() + float(file.read_text(encoding="ascii"))

    time.time = shifted


def _know_clock(text: str) -> None:
    from edge_agent.agent.clock import DeviceClock

    assert DeviceClock.__init__.__defaults__ is not None
    DeviceClock.__init__.__defaults__ = (lambda: text == "yes",)


def _slow_down(text: str) -> None:
    from edge_agent.engine.session import OrtEngine

    score = OrtEngine.score

    def slowly(self: OrtEngine, windows: Any, state: Any = None) -> Any:
        time.sleep(float(text) * len(windows))
        return score(self, windows, state)

    OrtEngine.score = slowly  # type: ignore[method-assign]


def _add_crasher(text: str) -> None:
    import bad_providers

    how, _, count = text.partition(":")
    # In this process only: the children that prove it import the class anew, and there it is right.
    bad_providers.Crasher.how, bad_providers.Crasher.at = how, int(count)
    _add(bad_providers.bad("Crasher"))


def _add_hanger(text: str) -> None:
    import bad_providers
    import msgspec

    hanger = msgspec.structs.replace(bad_providers.bad("Hanger"), load_limit_s=float(text))
    _add(hanger, is_here=float(text) > 0)


def _add_sluggish(_text: str) -> None:
    import bad_providers

    _add(bad_providers.bad("Sluggish"))


def _harm(how: str) -> None:
    from edge_agent.sources.decode import Decoder

    parse = Decoder._parse_checked

    def parse_or_die(self: Decoder, payload: bytes) -> Any:
        if b"harmful" in payload:
            _HARM[how]()
        return parse(self, payload)

    Decoder._parse_checked = parse_or_die  # type: ignore[method-assign]


def _use_up_memory() -> None:
    used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (64 << 20), resource.RLIM_INFINITY))
    kept = []
    while True:
        kept.append(bytes(1 << 20))


def _raise() -> None:
    raise ZeroDivisionError("nobody expects it")


_HARM: dict[str, Callable[[], object]] = {
    "abort": os.abort,
    "kill": _die,
    "hang": lambda: time.sleep(3600),
    "memory": _use_up_memory,
    "error": _raise,
}


def _block(text: str) -> None:
    from edge_agent.agent.loop import Agent
    from edge_agent.engine.session import OrtEngine

    what, _, place = text.partition(":")
    file = Path(place)
    owner, name = {"loop": (Agent, "_look_after"), "scorer": (OrtEngine, "score"), "mqtt": (MqttClient, "tick")}[what]
    method: Callable[..., Any] = getattr(owner, name)

    def blocked(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not file.exists():
            return method(self, *args, **kwargs)
        return time.sleep(3600) if what != "mqtt" else None

    setattr(owner, name, blocked)


def _add(provider: Provider, *, is_here: bool = True) -> None:
    """Make a provider known, and let it be found beside the processor's."""
    import bad_providers

    from edge_agent.engine.choice.choose import choose_provider
    from edge_agent.engine.choice.starting import choose_to_start
    from edge_agent.engine.providers import PROVIDERS

    PROVIDERS[provider.name] = provider
    found = [provider, PROVIDERS["cpu"]] if is_here else [PROVIDERS["cpu"]]
    for defaults in (choose_provider.__kwdefaults__, choose_to_start.__kwdefaults__):
        assert defaults is not None
        defaults["discover_with"] = lambda: bad_providers.found(*found)


def _note(stream: str) -> None:
    """Write down each reading that is taken into the state, in the transaction that holds what it changed."""
    import msgspec

    from edge_agent.journal.journal import Commit
    from edge_agent.messages.reading import Readings
    from edge_agent.stream.pipeline import Pipeline

    process, write = Pipeline.process, Journal.commit
    readings: list[tuple[str, float]] = []

    def processing(self: Pipeline, part: Readings) -> Any:
        readings.extend(zip(part.assets, part.times, strict=True))
        return process(self, part)

    def committing(self: Journal, commit: Commit) -> None:
        if readings and (commit.events or commit.records):
            note = msgspec.json.encode({"at": time.time_ns(), "readings": readings})
            commit.records.append((stream, f"{time.time_ns()}", note))
            write(self, commit)
            readings.clear()
        else:
            write(self, commit)

    Pipeline.process, Journal.commit = processing, committing  # type: ignore[assignment,method-assign]


_FAULTS: dict[str, Callable[[str], None]] = {
    "note": _note,
    "kill": _kill_at,
    "clock": _shift_clock,
    "synchronised": _know_clock,
    "slow": _slow_down,
    "crash": _add_crasher,
    "hang": _add_hanger,
    "harm": _harm,
    "block": _block,
    "sluggish": _add_sluggish,
}


def main() -> int:
    """Set the faults, then be the agent."""
    from edge_agent.cli import main as agent

    end = sys.argv.index("--")
    for fault in sys.argv[1:end]:
        name, _, text = fault.partition("=")
        _FAULTS[name](text)
    return agent(sys.argv[end + 1 :])


if __name__ == "__main__":
    sys.exit(main())
