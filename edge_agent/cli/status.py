"""`edge-agent status`: how the running agent is, on one screen."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from edge_agent.cli.options import DEFAULT_CONFIG, add_config, add_json, load
from edge_agent.config.service_state import service_name, service_state_dir
from edge_agent.config.settings import AgentSettings
from edge_agent.errors import ConfigError, ServiceError
from edge_agent.files.plain import read_file
from edge_agent.service.unit import unit_of
from edge_agent.terminal import json_text, say

__all__ = ["add_options", "run"]

_RUNTIME_DIRS = Path("/run")
"""Where systemd makes a service's folder, of the service's name."""
_LIMIT_BYTES = 1 << 24
_MISSED = 3
"""So many messages late, the agent hangs or was stopped."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    command.epilog = (
        "It ends with 0 if the agent runs and tells of itself, with 69 if not: a health check of a container asks no "
        "more. Of the service, root alone may see it."
    )
    add_config(command)
    add_json(command)


def run(options: argparse.Namespace) -> None:
    """Show the agent's last health message, which it writes beside publishing it."""
    from edge_agent.agent.health import health_file
    from edge_agent.agent.state_dir import is_in_use

    agent, problem = _agent_of(options)
    name, state_dir = agent.id, Path(agent.state_dir)
    runtime_dir = _RUNTIME_DIRS / service_name(options.config)
    if "RUNTIME_DIRECTORY" not in os.environ and runtime_dir.is_dir():
        os.environ["RUNTIME_DIRECTORY"] = str(runtime_dir)
    if is_in_use(state_dir) is False:
        # Whoever would start it has to be told of that first.
        if problem is not None:
            raise problem
        raise ServiceError(f"{name}: no agent runs with {state_dir}; systemctl status {_unit(options)} says why")
    file = health_file(agent.runtime_dir, state_dir)
    if file is None:
        raise ServiceError(
            f"{name}: it has no folder of its own on no disk to tell of itself; give [agent] runtime_dir"
        )
    try:
        health = msgspec.json.decode(read_file(file, _LIMIT_BYTES))
    except FileNotFoundError as exc:
        raise ServiceError(f"{name}: starts, or has told nothing of itself yet ({file})") from exc
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise ServiceError(f"{file}: cannot be read ({exc}); of the service, root alone may") from exc
    # The file may have been changed since the agent has read it.
    name = health.pop("agent", name)
    lines = [] if problem is None else [*problem.lines]
    age_s = time.time() - datetime.fromisoformat(health["time"]).astimezone(UTC).timestamp()
    if options.json:
        say(json_text({"agent": name, "age_s": round(age_s, 1), "config_problems": lines, **health}))
    else:
        _show(name, health, age_s)
        for line in lines:
            say(f"  {'next start':13} {line}")
    if age_s > _MISSED * agent.health_interval_s:
        raise ServiceError(f"{name}: told nothing of itself for {age_s:.0f} s; it hangs, or was stopped")


def _agent_of(options: argparse.Namespace) -> tuple[AgentSettings, ConfigError | None]:
    """The agent's settings, also of a configuration that was spoilt while the agent runs: then those of the service.

    Raises:
        ConfigError: it has problems, and no service's state folder is known.
    """
    try:
        return load(options).agent, None
    except ConfigError as exc:
        given = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
        if not given and options.config.absolute().parent != DEFAULT_CONFIG.parent:
            raise
        state_dir = given or str(service_state_dir(service_name(options.config)))
        return AgentSettings(id=service_name(options.config), state_dir=state_dir), exc


def _unit(options: argparse.Namespace) -> str:
    return unit_of(options.config).removesuffix(".service")


def _show(agent: str, health: dict[str, Any], age_s: float) -> None:
    say(f"{agent}: edge-agent {health['version']}, up {_span(health['uptime_s'])}; as of {_span(age_s)} ago")
    for name in ("broker", "alerts_broker"):
        if name in health:
            say(f"  {name.replace('_', ' '):13} {_broker(health[name])}")
    for what, told in (("sparkplug", _node(health)), ("evidence", _evidence(health))):
        if told:
            say(f"  {what:13} {told}")
    waiting = f"{health['queue_depth']} events wait, {health['published']} were published"
    say(f"  {'queue':13} {waiting}" + (f", {health['dropped']} given up" if health["dropped"] else ""))
    for name, stream in health["streams"].items():
        say(f"  {name:13} {_stream(stream)}")
    for told in _updates(health):
        say(f"  {'update':13} {told}")
    if health["unrouted"]:
        say(f"  {'unrouted':13} {health['unrouted']} messages that no stream's topic matches")
    for what in ("journal_problem", "reload_problem", "last_error"):
        if health.get(what):  # an older agent has not all of them
            say(f"  {what.replace('_', ' '):13} {health[what]}")


def _broker(broker: dict[str, Any]) -> str:
    problem = "" if broker["problem"] is None else f": {broker['problem']['detail']}"
    return f"{broker['state']} {broker['address']}{problem}"


def _updates(health: dict[str, Any]) -> Iterator[str]:
    for name, update in health.get("updates", {}).get("streams", {}).items():
        if update["bundle"] is not None:
            reason = f": {update['reason']}" if update["reason"] else ""
            yield f"{name}: {update['bundle']} {update['state'].replace('_', ' ')}{reason}"


def _node(health: dict[str, Any]) -> str:
    if (node := health.get("sparkplug_node")) is None:
        return ""
    problem = "" if node["problem"] is None else f": {node['problem']}"
    return f"{node['state']}, {_counted(node['devices'], 'device')}{problem}"


def _evidence(health: dict[str, Any]) -> str:
    if (evidence := health.get("evidence")) is None:
        return ""
    waiting = f"{_counted(evidence['published'], 'message')} published, {evidence['waiting_bytes']} bytes wait"
    lost = ((evidence["dropped"], "given up"), (evidence["left_out"], "raises left out"))
    return ", ".join([waiting, *(f"{count} {what}" for count, what in lost if count)])


def _stream(stream: dict[str, Any]) -> str:
    told = (
        (stream["readings"], "reading", ""),
        (stream["assets"], "asset", ""),
        (stream["active_alerts"], "alert", " open"),
    )
    if_any = (
        (sum(stream["rejected"].values()), "message", " rejected"),
        (stream["silent"]["count"], "asset", " silent"),
        (stream["stuck"]["count"], "asset", " frozen"),
        (len(stream["out_of_range"]), "channel", " out of range"),
    )
    shown = [*told, *(each for each in if_any if each[0])]
    counts = [f"{_counted(number, noun)}{rest}" for number, noun, rest in shown]
    return f"{', '.join(counts)}; {stream['provider']} ({stream['provider_reason']})"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _span(seconds: float) -> str:
    """A length of time for a person, such as `3 d 4 h`."""
    minutes, rest = divmod(int(max(0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
