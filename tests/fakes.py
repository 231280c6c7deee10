"""Small real implementations of our interfaces, and builders of the things that tests need many of."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from edge_agent.bundle import Bundle, Calibration, Channel, GoldenPart, Manifest, ModelPart, Threshold
from edge_agent.engine.choice.batch_mix import BATCH_SIZES
from edge_agent.engine.choice.discovery import Absent, Discovery
from edge_agent.engine.choice.evidence import Candidate
from edge_agent.engine.choice.measuring import Measure
from edge_agent.engine.choice.probe import CHANGING
from edge_agent.engine.golden import Verdict
from edge_agent.engine.providers import PROVIDERS
from edge_agent.journal.journal import Journal
from edge_agent.journal.outbox import Outgoing
from edge_agent.messages.event import AlertEvent, AlertModel, ChannelShare
from edge_agent.messages.reading import FloatArray, Readings
from edge_agent.messages.scores import Scores
from edge_agent.update.comparison import Deeds

__all__ = [
    "FakeEngine",
    "FakeSocket",
    "JudgedStream",
    "autoencoder",
    "canonical_model",
    "here",
    "make_alert",
    "make_candidate",
    "make_manifest",
    "measured",
    "model_with_a_scan",
    "outgoing",
    "readings",
    "slow_model",
    "write_bundle",
]

ZERO_HASH = "0" * 64


class JudgedStream:
    """The running stream of an update, whose model does nothing but what a test says in `now`."""

    def __init__(self) -> None:
        self.now = Deeds()

    def deeds(self) -> Deeds:
        return msgspec.structs.replace(self.now)

    def alerting(self) -> set[str]:
        return set()

    def shadow_with(self, *_: object) -> None:
        """None here."""


class FakeSocket:
    """Gives its pieces one by one, then would block; keeps what is sent, a few bytes at a time."""

    def __init__(self, pieces: list[bytes], *, takes: int = 1 << 20) -> None:
        self.pieces = list(pieces)
        self._takes = takes
        self.sent = bytearray()
        self.blocked = False

    def fileno(self) -> int:
        return -1

    def recv(self, size: int) -> bytes:
        if not self.pieces:
            raise BlockingIOError
        head = self.pieces.pop(0)
        if len(head) > size:
            self.pieces.insert(0, head[size:])
        return head[:size]

    def send(self, data: bytes | bytearray) -> int:
        if self.blocked:
            raise BlockingIOError
        self.sent += data[: self._takes]
        return min(len(data), self._takes)

    def setblocking(self, flag: bool) -> None:
        """It never blocks."""

    def close(self) -> None:
        self.blocked = True


class FakeEngine:
    """Scores a window by the largest value in its last row; contributions are the last row's sizes."""

    def __init__(self) -> None:
        self.batches: list[int] = []

    def score(self, windows: FloatArray, _state: FloatArray | None = None) -> Scores:
        """See `Engine.score`."""
        self.batches.append(len(windows))
        last = np.abs(windows[:, -1, :])
        return Scores(score=last.max(axis=1), contributions=last)


def make_manifest(
    *, channels: int = 2, window: int = 1, stride: int = 1, alarm: float = 3.0, clear: float = 2.0
) -> Manifest:
    """A manifest with channels c1, c2, …."""
    return Manifest(
        format=1,
        name="fake",
        version="1.0.0",
        created="2026-01-01T00:00:00Z",
        model=ModelPart(file="model.onnx", sha256=ZERO_HASH, precision="float32", size_bytes=0),
        golden=GoldenPart(file="golden.npz", sha256=ZERO_HASH, tolerance=0.01),
        channels=tuple(Channel(name=f"c{number}", unit="V") for number in range(1, channels + 1)),
        window=window,
        stride=stride,
        threshold=Threshold(alarm=alarm, clear=clear),
        calibration=Calibration(rows=100, false_alarm_rate=0.01, quantiles={"0.5": 0.1}),
    )


def outgoing(journal: Journal, after: int, limit: int) -> list[Outgoing]:
    """The events that wait in a journal, of all streams, oldest first: at most `limit` behind the number `after`."""
    query = "SELECT seq, topic, payload, lane FROM outbox WHERE seq > ? ORDER BY seq LIMIT ?"
    return [Outgoing(*row) for row in journal._read(query, after, limit)]


def make_alert(**changes: Any) -> AlertEvent:
    """The event of an alert of `pump` on press-7, with some fields changed."""
    event = AlertEvent(
        id="x",
        event="raise",
        agent="press-7",
        stream="pump",
        asset="a1",
        level="alarm",
        score=7.9,
        threshold=3.2,
        time="2026-11-21T10:15:30.250Z",
        since="2026-11-21T10:15:30.250Z",
        channels=[ChannelShare("flow", 0.75, 9.5)],
        model=AlertModel(name="pump", version="1.0.0", sha256=ZERO_HASH),
        provider="cpu",
    )
    return msgspec.structs.replace(event, **changes)


def readings(rows: list[list[float]], *, asset: str = "a1", start_s: float = 1000.0) -> Readings:
    """Readings of one asset, one second apart."""
    values = np.array(rows, dtype=np.float32).reshape(len(rows), -1)
    return Readings([asset] * len(rows), [start_s + i for i in range(len(rows))], values)


def canonical_model(*, channels: int = 2, window: int = 1, factor: float = 1.0, fragile: bool = False) -> bytes:
    """A canonical model: each channel contributes `factor` times its mean square over the window; score is the sum.

    A fragile one scores NaN where a value is below -100, which is no golden vector.
    """
    fault = [
        helper.make_node("Add", ["readings", "hundred"], ["shifted"]),
        helper.make_node("Sqrt", ["shifted"], ["root"]),
        helper.make_node("Mul", ["root", "zero"], ["nothing"]),
        helper.make_node("Add", ["product", "nothing"], ["squared"]),
    ]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["readings", "readings"], ["product" if fragile else "squared"], "square"),
            *(fault if fragile else []),
            helper.make_node("Mul", ["squared", "factor"], ["scaled"], "scale"),
            helper.make_node("ReduceMean", ["scaled"], ["contributions"], "mean", axes=[1], keepdims=0),
            helper.make_node("ReduceSum", ["contributions", "axes"], ["score"], "sum", keepdims=0),
        ],
        "canonical",
        [helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["batch", window, channels])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["batch", channels]),
        ],
        [
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"),
            numpy_helper.from_array(np.array(factor, dtype=np.float32), "factor"),
            numpy_helper.from_array(np.array(100, dtype=np.float32), "hundred"),
            numpy_helper.from_array(np.array(0, dtype=np.float32), "zero"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def slow_model(*, window: int = 1, layers: int = 8, width: int = 1500) -> bytes:
    """`canonical_model` of two channels, with the same scores, that takes some ten milliseconds for a window."""
    names = ["wide", *(f"layer{number}" for number in range(layers))]
    graph = helper.make_graph(
        [
            helper.make_node("Mul", ["readings", "readings"], ["squared"]),
            helper.make_node("ReduceMean", ["squared"], ["contributions"], axes=[1], keepdims=0),
            helper.make_node("ReduceSum", ["contributions", "axes"], ["sum"], keepdims=0),
            helper.make_node("MatMul", ["contributions", "in"], [names[0]]),
            *(helper.make_node("MatMul", [one, "through"], [two]) for one, two in pairwise(names)),
            helper.make_node("ReduceSum", [names[-1], "axes"], ["ballast"], keepdims=0),
            helper.make_node("Add", ["sum", "ballast"], ["score"]),
        ],
        "slow",
        [helper.make_tensor_value_info("readings", TensorProto.FLOAT, ["batch", window, 2])],
        [
            helper.make_tensor_value_info("score", TensorProto.FLOAT, ["batch"]),
            helper.make_tensor_value_info("contributions", TensorProto.FLOAT, ["batch", 2]),
        ],
        [
            numpy_helper.from_array(np.array([1], dtype=np.int64), "axes"),
            numpy_helper.from_array(np.zeros((2, width), dtype=np.float32), "in"),
            numpy_helper.from_array(np.full((width, width), 1e-6, dtype=np.float32), "through"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def make_candidate(
    name: str,
    *,
    us: float | list[float] | dict[int, float],
    threads: int = 1,
    memory_mib: int = 60,
    change_us: float = 0.0,
) -> Candidate:
    """A candidate as measured.

    Args:
        name: of `PROVIDERS`.
        us: time of one inference: of every size in every round, by round, or by size; 0 for one that was refused.
        threads: of one inference.
        memory_mib: of its process.
        change_us: what a change of size adds.
    """
    if us == 0:
        return Candidate(provider=PROVIDERS[name], threads=threads, verdict=Verdict.WRONG, reason="wrong scores")
    by_size = us if isinstance(us, dict) else dict.fromkeys(BATCH_SIZES, us)
    samples: dict[int, list[float]] = {}
    for size, times in by_size.items():
        samples[size] = [float(time) for time in times] if isinstance(times, list) else [float(times)] * 7
    samples[CHANGING] = [time + change_us for time in samples[8]]
    return Candidate(
        provider=PROVIDERS[name],
        threads=threads,
        verdict=Verdict.QUALIFIED,
        reason="golden scores met",
        memory_bytes=memory_mib << 20,
        samples_us=samples,
    )


def autoencoder(*, values: int, hidden: int, seed: int = 0, batch: int | str = "batch") -> onnx.ModelProto:
    """A linear autoencoder `x -> reconstruction` of flat rows, close to the identity."""
    rng = np.random.default_rng(seed)
    basis = np.linalg.qr(rng.standard_normal((values, values)))[0][:, :hidden].astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "encode"], ["latent"]),
            helper.make_node("MatMul", ["latent", "decode"], ["reconstruction"]),
        ],
        "autoencoder",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, values])],
        [helper.make_tensor_value_info("reconstruction", TensorProto.FLOAT, [batch, values])],
        [numpy_helper.from_array(basis, "encode"), numpy_helper.from_array(np.ascontiguousarray(basis.T), "decode")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def write_bundle(
    path: Path,
    *,
    channels: int = 2,
    window: int = 1,
    alarm: float = 9.0,
    clear: float = 4.0,
    golden_factor: float = 1.0,
    fragile: bool = False,
    model: bytes | None = None,
    changes: dict[str, Any] | None = None,
) -> Path:
    """A bundle around `canonical_model`.

    Args:
        path: where.
        channels: c1, c2, ….
        window: rows.
        alarm: limit.
        clear: limit.
        golden_factor: other than 1, the golden scores are wrong by it.
        fragile: see `canonical_model`.
        model: in place of that one, with the same scores.
        changes: replaces keys of the manifest.
    """
    model = model or canonical_model(channels=channels, window=window, fragile=fragile)
    rng = np.random.default_rng(0)
    golden = rng.uniform(-2, 2, (24, window, channels)).astype(np.float32)
    scores = ((golden**2).mean(axis=1).sum(axis=1) * golden_factor).astype(np.float32)
    arrays = io.BytesIO()
    np.savez(arrays, allow_pickle=False, readings=golden, score=scores)
    manifest: dict[str, Any] = {
        "format": 1,
        "name": "square",
        "version": "1.0.0",
        "created": "2026-01-01T00:00:00Z",
        "model": {
            "file": "model.onnx",
            "sha256": hashlib.sha256(model).hexdigest(),
            "precision": "float32",
            "size_bytes": len(model),
        },
        "golden": {
            "file": "golden.npz",
            "sha256": hashlib.sha256(arrays.getvalue()).hexdigest(),
            "tolerance": 0.01,
        },
        "channels": [{"name": f"c{number}", "unit": "V"} for number in range(1, channels + 1)],
        "window": window,
        "stride": 1,
        "threshold": {"alarm": alarm, "clear": clear},
        **(changes or {}),
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("model.onnx", model)
        archive.writestr("golden.npz", arrays.getvalue())
    return path


def measured(*candidates: Candidate, calls: list[int] | None = None) -> Measure:
    """Measures these candidates in no time; appends to `calls` the threads of each call."""

    def measure(_bundle: Bundle, found: Discovery, threads: int, *_: object) -> list[Candidate]:
        if calls is not None:
            calls.append(threads)
        names = [provider.name for provider in found.providers]
        return [candidate for candidate in candidates if candidate.provider.name in names]

    return measure


def here(*names: str) -> Callable[[], Discovery]:
    """A device with these providers."""
    absent = [Absent(provider="cuda", reason="not in onnxruntime 1.0")]
    return lambda: Discovery(providers=[PROVIDERS[name] for name in names], absent=absent)


def model_with_a_scan() -> bytes:
    """Readings through float16 and back into a Scan, beside which OpenVINO writes into the input of the run before."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["state"], ["state_out"]),
            helper.make_node("Sub", ["state", "row"], ["away"]),
            helper.make_node("ReduceSumSquare", ["away"], ["distance"], axes=[1, 2], keepdims=0),
        ],
        "body",
        [_floats("state", ["n", 1, 8]), _floats("row", [1, 8])],
        [_floats("state_out", ["n", 1, 8]), _floats("distance", ["n"])],
    )
    nodes = [
        helper.make_node("Cast", ["readings"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Cast", ["half"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Scan", ["float", "float"], ["last", "distances"], num_scan_inputs=1, body=body),
        helper.make_node("ReduceMax", ["distances"], ["score"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(nodes, "g", [_floats("readings", ["n", 1, 8])], [_floats("score", ["n"])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    return bytes(model.SerializeToString())


def _floats(name: str, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
