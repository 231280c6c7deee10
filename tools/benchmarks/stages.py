"""Where the time of a reading goes, stage by stage, with few and with many assets.

`python tools/benchmarks/stages.py` prints a table: microseconds for each reading in every stage of the loop but the
network and the disk, which the loop's own code runs here in one process on messages that are in memory already.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cbor2
import msgspec
from workload import machine, make_bundle, payloads

from edge_agent.agent.in_hand import InHand
from edge_agent.agent.routing import Routes
from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import open_engine
from edge_agent.messages.delivery import Delivery, fingerprints
from edge_agent.messages.scores import Engine
from edge_agent.messages.text import encode
from edge_agent.messages.topic import Topic
from edge_agent.messages.topic_names import TopicFilter
from edge_agent.sources.decode import Decoder
from edge_agent.sources.repeats import Repeats
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import StreamSettings

STAGES = ("delivery", "in hand", "repeats", "route", "decode", "windows", "inference", "alarms and events", "encode")

ENCODERS: dict[str, Callable[[object], bytes]] = {
    "json": msgspec.json.encode,
    "msgpack": msgspec.msgpack.encode,
    "cbor": cbor2.dumps,
}


class Stages:
    """The stages of one stream, each with its own clock."""

    def __init__(self, bundle: Bundle, engine: Engine, in_hand: Path) -> None:
        self.spent_s: defaultdict[str, float] = defaultdict(float)
        self._engine = engine
        self._routes = Routes([SimpleNamespace(filters=TopicFilter("sensors/+/bench"))])  # type: ignore[list-item]
        self._topics: dict[bytes, Topic] = {}
        self._repeats = Repeats()
        self._in_hand = InHand(in_hand)
        self._decoder = Decoder([channel.name for channel in bundle.manifest.channels])
        self._pipeline = Pipeline(
            agent="bench",
            stream="bench",
            manifest=bundle.manifest,
            engine=engine,
            provider="cpu",
            settings=StreamSettings(alarm=AlarmSettings(flap_raises=0)),  # every anomaly costs its alert
        )

    def run(self, batch: list[tuple[bytes, bytes]]) -> None:
        """One batch of (topic, payload) pairs from end to end."""
        clock = [time.perf_counter()]

        def done(stage: str) -> None:
            now = time.perf_counter()
            self.spent_s[stage] += now - clock[0]
            clock[0] = now

        deliveries = [Delivery(self._topic(topic), data, mid, False) for mid, (topic, data) in enumerate(batch, 1)]
        done("delivery")
        contents = fingerprints(deliveries)
        self._repeats.packed(deliveries, contents)
        done("repeats")
        parts = self._in_hand.parts(self._in_hand.sift(deliveries)[0], contents)
        (deliveries,) = [next(parts)]
        done("in hand")
        fresh = self._repeats.unscored(deliveries, contents)
        done("repeats")
        items = [delivery for delivery in fresh if self._routes.find(delivery.topic)]
        done("route")
        readings, _ = self._decoder.decode(items, 0.0)
        done("decode")
        readings, _ = self._pipeline.admit(readings)
        windows = self._pipeline.complete_windows(readings)
        done("windows")
        scores = self._engine.score(windows.values)
        done("inference")
        outcome = self._pipeline.apply_scores(windows, scores)
        done("alarms and events")
        for event in outcome.events:
            encode(event)
        done("encode")
        next(parts, None)
        done("in hand")

    def _topic(self, raw: bytes) -> Topic:
        topic = self._topics.get(raw)
        if topic is None:
            topic = self._topics[raw] = Topic(raw)
        return topic


def measure(bundle: Bundle, messages: list[bytes], *, assets: int, batch: int, in_hand: Path) -> dict[str, float]:
    """Microseconds for each reading by stage, with every asset met before."""
    chosen = random.Random(1)  # the same choice every time
    pairs = [(b"sensors/pump-%d/bench" % chosen.randrange(assets), message) for message in messages]
    stages = Stages(bundle, open_engine(bundle.model, PROVIDERS["cpu"]), in_hand)
    half = len(pairs) // 2
    for first, last in ((0, half), (half, len(pairs))):
        stages.spent_s.clear()
        for start in range(first, last, batch):
            stages.run(pairs[start : min(start + batch, last)])
    return {stage: 1e6 * stages.spent_s[stage] / (len(pairs) - half) for stage in STAGES}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readings", type=int, default=120_000)
    parser.add_argument("--format", choices=ENCODERS, default="json", help="of the messages; default: %(default)s")
    options = parser.parse_args()
    what = f"{options.readings // 2} readings of 8 floats in {options.format}, 1 % alerts"
    print(f"{machine()}; {what}; microseconds for each reading")
    print(f"| batch | assets | {' | '.join(STAGES)} | sum |")
    print("| --- " * (len(STAGES) + 3) + "|")
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        bundle = open_bundle(make_bundle(Path(name)))
        encode_as = ENCODERS[options.format]
        messages = [encode_as(msgspec.json.decode(message)) for message in payloads(Path(name), options.readings)]
        for batch in (1, 20, 200):
            for assets in (10, 10_000):
                found = measure(bundle, messages, assets=assets, batch=batch, in_hand=Path(name) / "in-hand")
                shown = " | ".join(f"{found[stage]:.2f}" for stage in STAGES)
                print(f"| {batch} | {assets:,} | {shown} | {sum(found.values()):.2f} |", flush=True)


if __name__ == "__main__":
    main()
