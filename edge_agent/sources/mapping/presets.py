"""Tables of `[stream.payload]` for senders in wide use; docs/payloads.md says which of their options they fit."""

from __future__ import annotations

from typing import Any

__all__ = ["LOCAL_TIME", "PRESETS"]

PRESETS: dict[str, dict[str, Any]] = {
    "telegraf": {"fields": "fields", "time": "timestamp"},
    "telegraf-batch": {"rows": "metrics[]", "fields": "fields", "time": "timestamp"},
    "thingsboard": {"fields": "values", "time": "ts"},
    "thingsboard-gateway": {"rows": "*[]", "asset": "$1", "fields": "values", "time": "ts"},
    "kepware": {"rows": "values[]", "name": "id", "value": "v", "time": "t", "good": {"key": "q", "is": [True]}},
    "node-red": {"time": "timestamp"},
    "tasmota": {"fields": "ENERGY", "time": "Time"},
    "shelly": {"fields": "params.switch:0", "time": "params.ts"},
    "zigbee2mqtt": {"time": "last_seen"},
    "opcua-json": {
        "rows": "Messages[].Payload.*",
        "name": "$1",
        "value": "Value",
        "time": "../../Timestamp",
        "good": {"key": "StatusCode.Code", "is": [0]},
    },
    "ttn": {"fields": "uplink_message.decoded_payload", "asset": "end_device_ids.device_id", "time": "received_at"},
    "chirpstack": {"fields": "object", "asset": "deviceInfo.deviceName", "time": "time"},
    "neuron": {"fields": "values", "asset": "node", "time": "timestamp"},
    "sitewise": {
        "rows": "payload.values[]",
        "asset": "../assetId",
        "name": "../propertyId",
        "value": "value.doubleValue",
        "time": "timestamp.timeInSeconds",
        "time_nanos": "timestamp.offsetInNanos",
        "good": {"key": "quality", "is": ["GOOD"]},
    },
    "wise": {"time": "t", "missing_values": [9999.9999]},
    "siemens-ie": {
        "format": "siemens-ie",
        "rows": "vals[]",
        "name": "name",
        "value": "val",
        "time": "ts",
        "good": {"key": "qc", "is": [3]},
    },
    "sparkplug-b": {
        "format": "sparkplug-b",
        "rows": "metrics[]",
        "name": "name",
        "time": "timestamp",
        "good": {"key": "quality", "is": [192]},
    },
    "influx": {"format": "influx", "fields": "fields", "time": "time"},
}
"""By name, keys of the table; what is given beside `preset` replaces them."""

LOCAL_TIME = frozenset({"tasmota"})
"""Presets of senders that write local time without its zone, so that `time_zone` must be given."""
