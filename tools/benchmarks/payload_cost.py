"""What a `[stream.payload]` table costs: decoding the same readings plain and in forms of other senders, in turns.

`python tools/benchmarks/payload_cost.py` prints a table: microseconds for each reading of 8 channels at batch 200, and
the median over the turns of its ratio to the plain form. The bars: 1.3 for a flat table, 2.5 for a nested one.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable
from typing import Any

import msgspec
from workload import machine

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.topic import Topic
from edge_agent.sources.decode import Decoder
from edge_agent.sources.mapping.mapping import with_preset
from edge_agent.sources.mapping.settings import PayloadSettings

CHANNELS = [f"c{number}" for number in range(8)]
BATCH = 200
_FROM_1900 = 1_763_700_000.25

Values = dict[str, float]
Form = tuple[Callable[[float, Values], Any], dict[str, Any]]

FORMS: dict[str, Form] = {
    "plain": (lambda at, values: {"time": at, **values}, {}),
    "flat: other names, time key, unit": (
        lambda at, values: {"timestamp": at * 1e3, **{f"tag_{name}": value for name, value in values.items()}},
        {"time": "timestamp", "channels": {name: {"from": f"tag_{name}", "unit": "kPa"} for name in CHANNELS}},
    ),
    "nested: telegraf": (
        lambda at, values: {"fields": values, "name": "pump", "tags": {"host": "gw1"}, "timestamp": int(at)},
        {"preset": "telegraf"},
    ),
    "nested: an object for each value": (
        lambda at, values: {"ts": at, "values": {name: {"Value": value} for name, value in values.items()}},
        {"time": "ts", "fields": "values", "channels": {name: {"from": f"{name}.Value"} for name in CHANNELS}},
    ),
    "named values: kepware": (
        lambda at, values: {
            "timestamp": at * 1e3,
            "values": [{"id": name, "v": value, "q": True, "t": int(at * 1e3)} for name, value in values.items()],
        },
        {"preset": "kepware"},
    ),
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=41)
    options = parser.parse_args()
    chance = random.Random(1)
    readings = [(_FROM_1900 + at, {name: chance.gauss(0, 1) for name in CHANNELS}) for at in range(BATCH)]
    runs: dict[str, tuple[Decoder, list[Delivery]]] = {}
    topic = Topic(b"sensors/a1/pump", "a1")
    for name, (make, table) in FORMS.items():
        payload = with_preset(msgspec.convert(table, PayloadSettings))
        decoder = Decoder(CHANNELS, payload=payload, units=["bar"] * len(CHANNELS))
        runs[name] = decoder, [Delivery(topic, msgspec.json.encode(make(*each)), 1, False) for each in readings]
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(options.turns):
        for name, (decoder, deliveries) in runs.items():
            started = time.perf_counter()
            for _ in range(10):
                found, rejections = decoder.decode(deliveries, _FROM_1900)
            taken[name].append((time.perf_counter() - started) / 10 / BATCH * 1e6)
            if len(found) != BATCH:
                raise SystemExit(f"{name}: {rejections[:1]}")
    print(f"{machine()}; {BATCH} readings of {len(CHANNELS)} channels a batch, {options.turns} turns")
    print("| form | µs a reading | to the plain one |\n| --- | --- | --- |")
    for name, times in taken.items():
        ratio = statistics.median(mine / plain for mine, plain in zip(times, taken["plain"], strict=True))
        print(f"| {name} | {statistics.median(times):.2f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
