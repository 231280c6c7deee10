"""A real agent at a broker, with a library that leaves a mark when it is loaded."""

from __future__ import annotations

from pathlib import Path

from fakes import write_bundle
from marking import Marking, entry
from processes import Agent, Broker, Sender, Subscriber, wait_until, write_config


def test_an_agent_scores_with_an_allowed_library(
    tmp_path: Path, broker: Broker, sender: Sender, subscriber: Subscriber
) -> None:
    """It tries every provider in children, settles, and alerts; each process loads the library, and no other one."""
    library = Marking(tmp_path)
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes={"custom_ops": [entry(library)]})
    allowed = f'[[engine.custom_ops]]\npath = "{library.path}"\nsha256 = "{library.sha256}"\n'
    config = write_config(tmp_path, broker.port, {"pump": bundle}, extra=allowed, engine="")
    with Agent(config, env={"LOADED": library.env["LOADED"]}):
        subscriber.wait_online()
        wait_until(lambda: subscriber.stream("pump").get("engine", {}).get("settled"), 60, "a settled choice")
        sender.send("sensors/a1/pump", {"time": 1763700000.0, "c1": 3.0, "c2": 4.0})
        subscriber.wait_events("raise")
    loads = library.loads()
    assert set(loads) == {"good"}
    assert len(loads) >= 2  # the agent, and the child that has tried its provider
