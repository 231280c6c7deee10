"""`edge-agent check --payload`: what the agent makes of a message that somebody has captured."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from edge_agent.bundle import Bundle
from edge_agent.config.decoders import make_decoder
from edge_agent.config.settings import Config, StreamSection
from edge_agent.errors import DataError, UsageError
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.text import iso_time
from edge_agent.messages.topic import Topic
from edge_agent.sources.decode import PAYLOAD_LIMIT_BYTES
from edge_agent.terminal import json_text, say

__all__ = ["check_payload"]

_SHOWN_READINGS = 20
_SHOWN_VALUES = 200


def check_payload(payload: str, topic: str | None, config: Config, bundles: list[Bundle], *, as_json: bool) -> None:
    """Print what each stream makes of a message: asset, time, each channel and where it came from.

    Args:
        payload: file with the message as it came, or `-` for the standard input.
        topic: that it came on.
        config: checked settings.
        bundles: of its streams.
        as_json: one JSON document.

    Raises:
        UsageError: no topic is given.
        DataError: the file cannot be read, no stream has the topic, or no stream can read the message.
    """
    if topic is None:
        raise UsageError("check: --payload needs --topic, the topic that the message came on")
    try:
        data = sys.stdin.buffer.read() if payload == "-" else Path(payload).read_bytes()
    except OSError as exc:
        raise DataError(f"{payload}: cannot be read ({exc.strerror})") from exc
    if len(data) <= PAYLOAD_LIMIT_BYTES and data.endswith(b"\n"):
        data = data[:-1]  # an editor's, or that of mosquitto_sub
    now_s = time.time()
    found = [
        facts
        for section, bundle in zip(config.streams, bundles, strict=True)
        if (facts := _facts(section, bundle, topic, data, now_s)) is not None
    ]
    if not found:
        filters = ", ".join(subscription for each in config.streams for subscription in each.filters.subscriptions)
        raise DataError(f"topic {topic!r}: no stream has it, or its asset can be none; they have {filters}")
    if as_json:
        say(json_text({"payload": payload, "topic": topic, "streams": found}))
    else:
        for facts in found:
            _show(facts)
    if all(facts["rejected"] for facts in found):
        rejected = found[0]["rejected"]
        raise DataError(f"{payload}: is rejected as {rejected['reason']}: {rejected['detail']}")
    # A sensor that says that it has no value is none that cannot be read.
    if not any(facts["readings"] or facts["unreadable"] for facts in found):
        raise DataError(f"{payload}: no value of a channel was found in it; see what was ignored, and where it looked")


def _facts(section: StreamSection, bundle: Bundle, name: str, data: bytes, now_s: float) -> dict[str, Any] | None:
    """What a stream makes of the message; None where the topic is not one of its own."""
    route = section.filters.route_of(name)
    if route is None:
        return None
    decoder = make_decoder(section, bundle.manifest)
    delivery = Delivery(Topic(name.encode(), route.asset, route.channel), data, 0, False)
    readings, rejections = decoder.decode([delivery], now_s)
    found = None if rejections else decoder.explain(delivery, now_s)
    channels = bundle.manifest.channels
    shown = []
    for asset, at, row in zip(readings.assets, readings.times, readings.values, strict=True):
        values = {
            channel.name: None if np.isnan(value) else float(f"{value:.7g}")
            for channel, value in zip(channels, row, strict=True)
        }
        has_time = abs(at - now_s) > 1.0 or decoder.has_time(data)
        shown.append(
            {"asset": asset, "time": iso_time(at), "time_is_of": "payload" if has_time else "arrival", "values": values}
        )
    return {
        "stream": section.name,
        "asset": route.asset,
        "channel": route.channel,
        "rejected": {"reason": rejections[0].reason, "detail": rejections[0].detail} if rejections else None,
        "joined": section.settings.join_s,
        "readings": shown,
        "units": {channel.name: channel.unit for channel in channels if channel.unit},
        "values": [] if found is None else [msgspec.to_builtins(seen) for seen in found.seen],
        "ignored": dict(decoder.ignored),
        "unreadable": decoder.unreadable.describe(),
        "unread_time": decoder.key_like_time(data),
    }


def _show(facts: dict[str, Any]) -> None:
    channel = "" if facts["channel"] is None else f", channel {facts['channel']}"
    say(f"{facts['stream']}: the topic is of asset {facts['asset']}{channel}")
    if facts["rejected"] is not None:
        say(f"  rejected as {facts['rejected']['reason']}: {facts['rejected']['detail']}")
        return
    for reading in facts["readings"][:_SHOWN_READINGS]:
        of = "" if reading["time_is_of"] == "payload" else ", which is that of its arrival"
        say(f"  asset {reading['asset']} at {reading['time']}{of}")
        for name, value in reading["values"].items():
            unit = facts["units"].get(name, "")
            say(f"    {name} = {'missing' if value is None else f'{value:.7g} {unit}'.rstrip()}")
    if len(facts["readings"]) > _SHOWN_READINGS:
        say(f"  … and {len(facts['readings']) - _SHOWN_READINGS} readings more")
    if facts["joined"] is not None:
        say(f"  values within {facts['joined']:g} s (join_s) become one reading")
    for seen in facts["values"][:_SHOWN_VALUES]:
        why = f": {seen['why']}" if seen["why"] else ""
        where = f" at {seen['at']}" if seen["at"] else ""
        say(f"  {seen['channel']}{where}: {json_text(seen['sent'])[:80]}{why}")
    for name, count in facts["ignored"].items():
        say(f"  ignored, the bundle has no such channel: {name} ({count})")
    if facts["unread_time"] is not None:
        key = facts["unread_time"]
        say(f"  {key!r} may be the time, and is not read; write time = {json_text(key)} in [stream.payload]")
