"""`edge-agent mute`: tell nothing of an asset or a stream until a time, in the running agent."""

from __future__ import annotations

import argparse
import re
import time
from datetime import datetime, timedelta
from pathlib import Path

from edge_agent.cli.options import add_config, load
from edge_agent.errors import UsageError
from edge_agent.messages.event import LONGEST_MUTE_S
from edge_agent.messages.text import iso_time
from edge_agent.messages.topic_names import can_be_asset
from edge_agent.messages.values import read_length
from edge_agent.terminal import say

__all__ = ["add_options", "run", "until_of"]

_EXAMPLE = """\
example, for a stop of press a1 until the night shift begins:
  edge-agent mute pump a1 --until 22:00
for the whole stream, for two hours, and an end before that:
  edge-agent mute pump --for 2h
  edge-agent mute pump --end

Readings are scored all the same. An alert that is raised meanwhile and still open at the end is told then."""


def add_options(command: argparse.ArgumentParser) -> None:
    """Of this command."""
    command.epilog, command.formatter_class = _EXAMPLE, argparse.RawDescriptionHelpFormatter
    add_config(command)
    command.add_argument("stream", help="name of the stream")
    command.add_argument("asset", nargs="?", help="one asset; all of the stream when not given")
    until = command.add_mutually_exclusive_group(required=True)
    until.add_argument("--for", dest="length", metavar="TIME", help="so long from now: 45m, 2h, 3d; 31 days at most")
    until.add_argument("--until", metavar="WHEN", help="22:00, or 2026-12-24T06:00, by this device's clock and zone")
    until.add_argument("--end", action="store_true", help="tell of it again from now on")


def run(options: argparse.Namespace) -> None:
    """Ask the running agent, or the next one that starts."""
    from edge_agent.agent.requests import Mute, leave_request
    from edge_agent.agent.state_dir import is_in_use

    config = load(options)
    if options.stream not in (stream.name for stream in config.streams):
        names = ", ".join(stream.name for stream in config.streams)
        raise UsageError(f"stream {options.stream!r} is not in {options.config}, which has: {names}")
    if options.asset is not None and not can_be_asset(options.asset):
        raise UsageError(f"{options.asset!r} cannot be the name of an asset")
    now_s = time.time()
    until_s = until_of(options.length, options.until, now_s)
    state_dir, interval_s = Path(config.agent.state_dir), config.agent.health_interval_s
    if 0 < until_s - now_s < interval_s:
        raise UsageError(
            f"that is less than [agent] health_interval_s = {interval_s:g}, in which the agent looks for it"
        )
    leave_request(state_dir, Mute(stream=options.stream, asset=options.asset, until_s=until_s))
    what = f"{options.asset or 'all assets'} of {options.stream}"
    until = datetime.fromtimestamp(until_s).astimezone()
    how = (
        f"mute {what} until {until:%Y-%m-%d %H:%M:%S %Z} ({iso_time(until_s)})"
        if until_s
        else f"end the mute of {what}"
    )
    if is_in_use(state_dir) is False:
        say(f"asked to {how}; no agent runs with {state_dir} now, so the next one that starts does it")
    else:
        say(f"asked to {how}; the agent does so within {interval_s:g} s, and tells it by an event on {what}")


def until_of(length: str | None, until: str | None, now_s: float) -> float:
    """The time that was asked for, epoch seconds; 0 for an end at once.

    Args:
        length: such as `2h`; None if `until` is given, or neither.
        until: a time of day, or a date and a time, in this device's zone if it names none.
        now_s: epoch seconds.

    Raises:
        UsageError: it cannot be read, has passed, or is too far away.
    """
    if length is not None:
        try:
            wanted_s = now_s + read_length(length)
        except ValueError as exc:
            raise UsageError(f"--for {length}: {exc}, such as 45m, 2h or 3d") from exc
    elif until is not None:
        wanted_s = _time(until, datetime.fromtimestamp(now_s))
    else:
        return 0.0
    given = f"--for {length}" if length is not None else f"--until {until}"
    if wanted_s <= now_s:
        raise UsageError(f"{given}: has passed; to end a mute, give --end")
    if wanted_s - now_s > LONGEST_MUTE_S:
        raise UsageError(f"{given}: is more than 31 days away; mute again then, or take the stream out of the settings")
    return wanted_s


def _time(until: str, now: datetime) -> float:
    if re.fullmatch(r"\d\d?:\d\d", until):
        hour, minute = map(int, until.split(":"))
        if hour < 24 and minute < 60:
            today = now.replace(hour=hour, minute=minute, second=0, microsecond=0)
            # Not 24 hours later: a night may have 23 or 25.
            return (today if today > now else today + timedelta(days=1)).timestamp()
    try:
        if "T" in until or " " in until:
            return datetime.fromisoformat(until).timestamp()
    except ValueError:
        pass
    raise UsageError(f"--until {until}: expected a time such as 22:00 or 2026-12-24T06:00")
