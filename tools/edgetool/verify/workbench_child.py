"""The child's side of `edgetool.verify.workbench`: runs, measures and times models until stdin ends.

One request is one line of JSON, and so is its answer: `{"ok": …}` or `{"error": "one line"}`. Arrays go through files.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from edge_agent.child_process import child_side
from edge_agent.engine.providers import PROVIDERS, import_runtime
from edge_agent.engine.runtime import runtime_reason
from edge_agent.engine.session import open_session, session_options
from edgetool.extras import require
from edgetool.verify.arrays import Sample, flatten, load_samples, save_samples
from edgetool.verify.drift import tensor_drift
from edgetool.verify.ranges import note_range

if TYPE_CHECKING:
    from edge_agent.files.shared_library import Library

__all__ = ["run_session"]

_CACHED_BYTES = 8 << 20
"""Sessions of models below this stay open."""
_MAX_SESSIONS = 6
_MAX_SAMPLE_FILES = 2
"""The samples of a command, and the windows made from them."""
_ALONE_BYTES = 48 << 20
_ALONE_ROUNDS = 4
_ALONE_REPEATS = 12
_ALONE_S = 0.8
_MIN_BLOCK_S = 1e-3
_LEAST_HALF, _MOST_HALF = 2.0**-24, 65504.0


class _Child:
    """What is kept between requests."""

    def __init__(self) -> None:
        self._samples: dict[str, list[Sample]] = {}
        self._sessions: dict[tuple[str, str, bool], Any] = {}
        self.libraries: tuple[Library, ...] = ()
        """With operators of the models."""
        self.keeps_all = False
        """A benchmark has opened a model for many requests."""

    def forget(self) -> None:
        """Close every model."""
        self._sessions.clear()

    def forget_large(self) -> None:
        """Close what is too large to stay open."""
        for key in [key for key in self._sessions if weight_of(key[0]) > _CACHED_BYTES and not self.keeps_all]:
            del self._sessions[key]

    def samples(self, path: str) -> list[Sample]:
        if path not in self._samples:
            while len(self._samples) >= _MAX_SAMPLE_FILES:
                self._samples.pop(next(iter(self._samples)))
            self._samples[path] = load_samples(Path(path))
        return self._samples[path]

    def session(self, model: str, provider_name: str = "cpu", *, optimized: bool = True, threads: int = 1) -> Any:
        key = (model, provider_name, optimized)
        if key in self._sessions:
            return self._sessions[key]
        if weight_of(model) > _CACHED_BYTES:
            self._sessions.clear()
        ort = import_runtime()
        provider = PROVIDERS[provider_name]
        options = session_options(ort, provider, threads, self.libraries)
        # Every node by itself: a fused one has no results in between, and hides the rounding that is looked for.
        if not optimized:
            options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = open_session(ort, model, provider, options, threads=threads)
        if provider.ort_name not in session.get_providers():
            raise RuntimeError(f"the runtime fell back to {session.get_providers()}")
        while len(self._sessions) >= _MAX_SESSIONS:
            self._sessions.pop(next(iter(self._sessions)))
        self._sessions[key] = session
        return session

    def runtime(self, _request: dict[str, Any]) -> Any:
        """Version of the runtime."""
        return import_runtime().__version__

    def run(self, request: dict[str, Any]) -> Any:
        """Answers of a model for all samples, into a file."""
        session = self.session(request["model"], request["provider"], optimized=request.get("optimized", True))
        answers = [run_session(session, sample) for sample in self.samples(request["samples"])]
        save_samples(Path(request["answers"]), answers)
        return None

    def pieces(self, request: dict[str, Any]) -> Any:
        """Answers of a model in pieces, of which one at a time is loaded, into a file."""
        known = [dict(sample) for sample in self.samples(request["samples"])]
        for model in request["models"]:
            self._sessions.clear()
            session = self.session(model, request["provider"], optimized=False)
            known = [{**sample, **run_session(session, sample)} for sample in known]
            del session
        save_samples(Path(request["answers"]), [{name: found[name] for name in request["outputs"]} for found in known])
        return None

    def sequence(self, request: dict[str, Any]) -> Any:
        """Answers of a model whose states are fed back, into a file."""
        session = self.session(request["model"], request["provider"])
        samples = self.samples(request["samples"])
        state: Sample = {}
        answers: list[Sample] = []
        for step in range(request["steps"]):
            found = run_session(session, {**samples[step % len(samples)], **state})
            state = {given: found[made] for given, made in request["states"]}
            answers.append(found)
        save_samples(Path(request["answers"]), answers)
        return None

    def chain(self, request: dict[str, Any]) -> Any:
        """Answers of a model for windows one by one, each with the state that an earlier one has left, into a file."""
        session = self.session(request["model"], "cpu")
        sample = self.samples(request["samples"])[0]
        windows, states, before = sample["readings"], sample["state"], sample["before"]
        answers: list[Sample] = []
        # Most are given to one window and then done with; all of a large state would not fit into memory.
        left: dict[int, Any] = {}
        awaited = {int(earlier) for earlier in before}
        for number, earlier in enumerate(before):
            state = states if earlier < 0 else left.pop(int(earlier))
            found = run_session(session, {"readings": windows[number : number + 1], "state": state})
            if number in awaited:
                left[number] = found["next_state"]
            if not request["with_states"]:
                found.pop("next_state")
            answers.append(found)
        names = [*answers[0]] if answers else []
        save_samples(Path(request["answers"]), [{name: _stacked([each[name] for each in answers]) for name in names}])
        return None

    def stats(self, request: dict[str, Any]) -> Any:
        """Type, rank and range of every output over all samples."""
        session = self.session(request["model"], optimized=False)
        found: dict[str, dict[str, Any]] = {}
        for number, sample in enumerate(self.samples(request["samples"])[: request["count"]]):
            for name, array in run_session(session, sample).items():
                note_range(found, name, array, number)
        return found

    def drifts(self, request: dict[str, Any]) -> Any:
        """How far tensors of one model are from tensors of another, each relative to its peak."""
        left = self.session(request["model"], optimized=False)
        right = self.session(request["other"], optimized=False)
        worst = dict.fromkeys((pair[0] for pair in request["pairs"]), 0.0)
        for sample in self.samples(request["samples"])[: request["count"]]:
            ours, theirs = run_session(left, sample), run_session(right, sample)
            for name, other in request["pairs"]:
                if name in ours and other in theirs:
                    worst[name] = max(worst[name], tensor_drift(ours[name], theirs[other]))
        return worst

    def time(self, request: dict[str, Any]) -> Any:
        """Seconds of one run, for each model and round. Models take turns, so that noise hits all of them."""
        threads = request.get("threads", 1)
        self._sessions.clear()
        if weight_of(request["models"][0]) > _ALONE_BYTES:
            return [self._time_alone(request, threads) for _ in range(_ALONE_ROUNDS)]
        sessions = [self.session(model, request["provider"], threads=threads) for model in request["models"]]
        sample = self.samples(request["samples"])[0]
        started = time.perf_counter()
        first = [_time_once(session, sample, 1) for session in sessions]
        first = [min(once, _time_once(session, sample, 2)) for session, once in zip(sessions, first, strict=True)]
        repeats = max(1, min(200, int(_MIN_BLOCK_S / max(min(first), 1e-7)) + 1))
        rounds: list[list[float]] = []
        while len(rounds) < 3 or (time.perf_counter() - started < request["budget_s"] and len(rounds) < 200):
            order = range(len(sessions)) if len(rounds) % 2 == 0 else reversed(range(len(sessions)))
            timed = {number: _time_once(sessions[number], sample, repeats) for number in order}
            rounds.append([timed[number] for number in range(len(sessions))])
            if time.perf_counter() - started > 10 * request["budget_s"]:
                break
        self._sessions.clear()
        return rounds

    def _time_alone(self, request: dict[str, Any], threads: int) -> list[float]:
        """One round in which each model is loaded, timed and dropped, for models that are large together."""
        times: list[float] = []
        for model in request["models"]:
            self._sessions.clear()
            session = self.session(model, request["provider"], threads=threads)
            sample = self.samples(request["samples"])[0]
            once = _time_once(session, sample, 1)
            repeats = max(2, min(_ALONE_REPEATS, int(_ALONE_S / max(once, 1e-7))))
            times.append(min(_time_once(session, sample, 1) for _ in range(repeats)))
            del session
        self._sessions.clear()
        return times

    def load(self, request: dict[str, Any]) -> Any:
        """Open one session, and say how long it took."""
        self.keeps_all = True
        self._sessions.clear()
        import_runtime()
        started = time.perf_counter()
        self.session(request["model"], request["provider"], threads=request["threads"])
        return time.perf_counter() - started

    def burst(self, request: dict[str, Any]) -> Any:
        """Seconds of each of some runs in a row of the session that is open, on one sample."""
        session = self.session(request["model"], request["provider"])
        sample = self.samples(request["samples"])[request["sample"]]
        return [_time_once(session, sample, 1) for _ in range(request["repeats"])]

    def memory(self, _request: dict[str, Any]) -> Any:
        """Bytes of memory that this process has to itself, with its share of what it shares; None where none tells."""
        rollup = Path("/proc/self/smaps_rollup")
        if rollup.exists():
            line = next(row for row in rollup.read_text(encoding="ascii").splitlines() if row.startswith("Pss:"))
            return int(line.split()[1]) * 1024
        try:
            import resource
        except ImportError:
            return None  # Windows
        # macOS counts bytes, all others kilobytes.
        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

    def placement(self, request: dict[str, Any]) -> Any:
        """Which provider ran which node, from the runtime's own profile of one run."""
        ort = import_runtime()
        provider = PROVIDERS[request["provider"]]
        options = session_options(ort, provider, 1, self.libraries)
        options.enable_profiling = True
        options.profile_file_prefix = request["profile"]
        session = open_session(ort, request["model"], provider, options, threads=1)
        run_session(session, self.samples(request["samples"])[0])
        path = Path(session.end_profiling())
        # The runtime (1.24) writes names as they are, so control characters may be in there.
        events = json.loads(path.read_text(encoding="utf-8"), strict=False)
        path.unlink()
        nodes = {e["name"]: e["args"] for e in events if e.get("cat") == "Node" and "provider" in e.get("args", {})}
        return [[name.removesuffix("_kernel_time"), a["op_name"], a["provider"]] for name, a in nodes.items()]

    def reference(self, request: dict[str, Any]) -> Any:
        """Answers of the reference evaluator, which really computes in the types that the graph names."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        with np.errstate(all="ignore"):
            evaluator = ReferenceEvaluator(onnx.load(request["model"]))
            names = evaluator.output_names
            answers: list[Sample] = []
            for sample in self.samples(request["samples"])[: request["count"]]:
                flat: Sample = {}
                for name, value in zip(names, evaluator.run(None, sample), strict=True):
                    flat.update(flatten(name, value))
                answers.append(flat)
        save_samples(Path(request["answers"]), answers)
        return None

    def convert(self, request: dict[str, Any]) -> Any:
        """The float16 form of a model that onnxconverter-common makes, into a file."""
        import onnx

        from edgetool.choices import Io

        convert = require("onnxconverter_common.float16", extra="host").convert_float_to_float16
        # Its own limits clip weights at 1e4 and lift small ones to 1e-7, without a word to the caller.
        made = convert(
            onnx.load(request["model"]),
            min_positive_val=_LEAST_HALF,
            max_finite_val=_MOST_HALF,
            keep_io_types=request["io"] == Io.FLOAT32,
            op_block_list=[],
            node_block_list=request["blocked"],
            check_fp16_ready=False,
        )
        Path(request["output"]).write_bytes(made.SerializeToString(deterministic=True))
        return None

    def optimize(self, request: dict[str, Any]) -> Any:
        """The runtime's own offline optimisation, into a file."""
        ort = import_runtime()
        options = session_options(ort, PROVIDERS["cpu"], 1, self.libraries)
        # The level that the user chose, and not the one that a device loads with.
        options.optimized_model_filepath = request["output"]
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, request["level"])
        ort.InferenceSession(request["model"], options, providers=["CPUExecutionProvider"])
        return None


def _stacked(arrays: list[Any]) -> Any:
    """The answers for one window each as those for all: a number that is of none of them stays one."""
    return np.concatenate(arrays) if arrays[0].ndim else arrays[-1]


_GIVEN: WeakKeyDictionary[Any, Sample] = WeakKeyDictionary()
"""What each session was given last."""


def run_session(session: Any, sample: Sample) -> Sample:
    """All outputs as plain arrays.

    A session gets a copy of the sample, which lives until the next run is over: OpenVINO 1.24 writes into the arrays of
    the run before, where two Casts lead into a Scan.
    """
    given = {item.name: item.type for item in session.get_inputs()}
    feeds = {
        name: array.astype(np.float16 if given[name] == "tensor(float16)" else array.dtype)
        for name, array in sample.items()
        if name in given
    }
    names = [output.name for output in session.get_outputs()]
    answers = session.run(names, feeds)
    _GIVEN[session] = feeds
    flat: Sample = {}
    for name, value in zip(names, answers, strict=True):
        flat.update(flatten(name, value))
    return flat


def weight_of(model: str) -> int:
    """Size of a model, with the weights that lie beside it when it is a small file that refers to them."""
    path = Path(model)
    beside = path.parent / "weights.bin"
    return path.stat().st_size + (beside.stat().st_size if beside.exists() else 0)


def _time_once(session: Any, sample: Sample, repeats: int) -> float:
    given = {item.name for item in session.get_inputs()}
    feeds = {name: array.copy() for name, array in sample.items() if name in given}
    started = time.perf_counter()
    for _ in range(repeats):
        session.run(None, feeds)
    seconds = (time.perf_counter() - started) / repeats
    _GIVEN[session] = feeds
    return seconds


def _libraries_of(request: dict[str, Any]) -> tuple[Library, ...]:
    if not request["libraries"]:
        return ()
    import msgspec

    from edge_agent.files.shared_library import Library

    return msgspec.convert(request["libraries"], tuple[Library, ...])


def _main() -> None:
    requests, answers = child_side()
    child = _Child()
    for line in requests:
        request = json.loads(line)
        child.libraries = _libraries_of(request)
        if request["fresh"]:
            child.forget()
        try:
            answer = {"ok": getattr(child, request["do"])(request)}
            if not request["keep"]:
                child.forget_large()
        # The outer edge of the child: the runtime's errors have no common base, and the parent decides.
        except Exception as exc:  # noqa: BLE001
            answer = {"error": runtime_reason(exc)}
        answers.write(json.dumps(answer).encode() + b"\n")


if __name__ == "__main__":
    _main()
