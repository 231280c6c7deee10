"""One reading as other senders write it: what `edgetool replay --as` sends, and presets of the agent read."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from edge_agent.messages.text import iso_time

__all__ = ["SENDER_FORMS", "SenderForm", "messages_of"]

SenderForm = Callable[[str, float, dict[str, float | None]], bytes]
"""Makes a payload of an asset, a time in epoch seconds, and values by channel, in the agent's units."""
_Values = dict[str, float | None]


def _ms(at_s: float) -> int:
    return round(at_s * 1000)


def _split(at_s: float) -> tuple[int, int]:
    """Seconds and nanoseconds."""
    seconds, micros = divmod(round(at_s * 1e6), 1_000_000)
    return seconds, micros * 1000


def _telegraf(asset: str, at_s: float, values: _Values) -> Any:
    return {"fields": _known(values), "name": "readings", "tags": {"asset": asset}, "timestamp": at_s}


def _kepware(_: str, at_s: float, values: _Values) -> Any:
    sent = [{"id": name, "v": value or 0.0, "q": value is not None, "t": _ms(at_s)} for name, value in values.items()]
    return {"timestamp": _ms(at_s), "values": sent}


def _opcua(asset: str, at_s: float, values: _Values) -> Any:
    sent = {
        name: {"Value": value} if value is not None else {"Value": 0.0, "StatusCode": {"Code": 0x80000000}}
        for name, value in values.items()
    }
    message = {"DataSetWriterId": 1, "Timestamp": iso_time(at_s), "Payload": sent}
    return {"MessageId": "1", "MessageType": "ua-data", "PublisherId": asset, "Messages": [message]}


def _siemens(_: str, at_s: float, values: _Values) -> Any:
    time = iso_time(at_s)
    return {
        "seq": 1,
        "vals": [
            {"id": name, "qc": 3 if value is not None else 0, "ts": time, "val": value}
            for name, value in values.items()
        ],
    }


def _sitewise(asset: str, at_s: float, values: _Values) -> Any:
    """Of one channel: it sends one property a message."""
    name, value = next(iter(values.items()))
    seconds, nanos = _split(at_s)
    stamp = {"timeInSeconds": seconds, "offsetInNanos": nanos}
    sent = [{"timestamp": stamp, "quality": "GOOD" if value is not None else "BAD", "value": {"doubleValue": value}}]
    return {"type": "PropertyValueUpdate", "payload": {"assetId": asset, "propertyId": name, "values": sent}}


def _influx(asset: str, at_s: float, values: _Values) -> bytes:
    fields = ",".join(f"{_escaped(name)}={value!r}" for name, value in _known(values).items())
    seconds, nanos = _split(at_s)
    return f"readings,asset={_escaped(asset)} {fields} {seconds * 1_000_000_000 + nanos}".encode()


def _tasmota(_: str, at_s: float, values: _Values) -> Any:
    """In the time of Berlin, whole seconds, as such a device has them."""
    local = datetime.fromtimestamp(at_s, UTC).astimezone(ZoneInfo("Europe/Berlin"))
    return {"Time": local.strftime("%Y-%m-%dT%H:%M:%S"), "ENERGY": values}


def _known(values: _Values) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _escaped(name: str) -> str:
    for sign in ",= ":
        name = name.replace(sign, f"\\{sign}")
    return name


def _as_json(make: Callable[[str, float, _Values], Any]) -> SenderForm:
    def form(asset: str, at_s: float, values: _Values) -> bytes:
        return msgspec.json.encode(make(asset, at_s, values))

    return form


SENDER_FORMS: dict[str, SenderForm] = {
    "telegraf": _as_json(_telegraf),
    "telegraf-batch": _as_json(lambda *row: {"metrics": [_telegraf(*row)]}),
    "thingsboard": _as_json(lambda _, at_s, values: {"ts": _ms(at_s), "values": values}),
    "thingsboard-gateway": _as_json(lambda asset, at_s, values: {asset: [{"ts": _ms(at_s), "values": values}]}),
    "kepware": _as_json(_kepware),
    "node-red": _as_json(lambda _, at_s, values: {**values, "timestamp": _ms(at_s)}),
    "tasmota": _as_json(_tasmota),
    "shelly": _as_json(lambda asset, at_s, values: {"src": asset, "params": {"ts": at_s, "switch:0": values}}),
    "zigbee2mqtt": _as_json(lambda _, at_s, values: {**values, "linkquality": 120, "last_seen": iso_time(at_s)}),
    "opcua-json": _as_json(_opcua),
    "ttn": _as_json(
        lambda asset, at_s, values: {
            "end_device_ids": {"device_id": asset},
            "received_at": iso_time(at_s),
            "uplink_message": {"f_port": 1, "decoded_payload": values},
        }
    ),
    "chirpstack": _as_json(
        lambda asset, at_s, values: {"time": iso_time(at_s), "deviceInfo": {"deviceName": asset}, "object": values}
    ),
    "neuron": _as_json(
        lambda asset, at_s, values: {"timestamp": _ms(at_s), "node": asset, "group": "g", "values": _known(values)}
    ),
    "sitewise": _as_json(_sitewise),
    "wise": _as_json(
        lambda _, at_s, values: {
            "t": iso_time(at_s),
            "q": 192,
            **{name: 9999.9999 if value is None else value for name, value in values.items()},
        }
    ),
    "siemens-ie": _as_json(_siemens),
    "influx": _influx,
}
"""By the name of the preset that reads them."""

_ONE_VALUE = frozenset({"sitewise"})
"""Senders whose messages have one value each."""


def messages_of(sender: str, asset: str, at_s: float, values: dict[str, float | None]) -> list[bytes]:
    """The payloads by which a sender tells of a reading: one, or one for each channel.

    Args:
        sender: a key of `SENDER_FORMS`.
        asset: its name.
        at_s: epoch seconds.
        values: by channel, in the agent's units; None for a missing one.
    """
    parts = [{name: value} for name, value in values.items()] if sender in _ONE_VALUE else [values]
    return [SENDER_FORMS[sender](asset, at_s, part) for part in parts]
