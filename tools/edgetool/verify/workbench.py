"""Runs many models in one child process, and starts another child after a crash.

A conversion can end the runtime with a signal, and a child that is started for each model costs more than most models.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import numpy as np

from edge_agent.child_process import ChildEndedError, ChildProcess
from edge_agent.errors import ConversionError
from edge_agent.files.shared_library import Library
from edgetool.choices import Io
from edgetool.deadline import Deadline, in_seconds
from edgetool.verify.arrays import Sample, load_samples, save_samples
from edgetool.verify.ranges import TensorRange

__all__ = ["ModelCrashError", "NoAnswerError", "Timing", "Workbench"]

_CONVERSION_TIMEOUT_S = 30.0
_DOING = {
    "runtime": "looking at the runtime",
    "run": "running it",
    "pieces": "running it in pieces",
    "sequence": "running it as a sequence",
    "chain": "running it window by window",
    "reference": "running it with onnx.reference",
    "stats": "looking at its tensors",
    "drifts": "comparing its tensors",
    "time": "timing it",
    "load": "loading it",
    "burst": "timing it",
    "memory": "measuring its memory",
    "placement": "finding out which provider takes which node",
    "convert": "converting it by onnxconverter-common",
    "optimize": "optimizing it",
}
"""What the child does for each request, in words."""
_ENVIRONMENT = {
    # One thread in numpy too: the child is timed, and devices are small.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # glibc gives large blocks back when a model is closed. Left alone it raises this limit to 32 MB after the first
    # one, and weights of models that are gone stay in its heap.
    "MALLOC_MMAP_THRESHOLD_": str(4 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(8 << 20),
}


class ModelCrashError(ConversionError):
    """The runtime ended with a signal, or gave no answer in time."""


class NoAnswerError(ModelCrashError):
    """The runtime gave no answer in the time that is left for one."""


class Timing:
    """Seconds of one run of several models that took turns.

    Args:
        rounds: one list for each round, one number for each model.
    """

    def __init__(self, rounds: list[list[float]]) -> None:
        self._rounds = np.array(rounds)

    def seconds(self, model: int) -> float:
        """Median of one run of a model."""
        return float(np.median(self._rounds[:, model]))

    def ratio(self, model: int, to: int = 0) -> float:
        """How much longer a model takes than another: the median of the rounds' ratios."""
        return float(np.median(self._rounds[:, model] / self._rounds[:, to]))


class Workbench:
    """A child process and the samples that models are run on.

    Args:
        folder: a temporary folder for what parent and child exchange.
        samples: for every run.
        deadline: of the command; one of the usual length, from now on, when not given.
        libraries: with operators of the models, that are loaded with each of them.

    All that asks the child raises OutOfTimeError when the deadline has passed, beside what its own text says.
    """

    def __init__(
        self,
        folder: Path,
        samples: Sequence[Sample] = (),
        *,
        deadline: Deadline | None = None,
        libraries: Sequence[Library] = (),
    ) -> None:
        self._folder = folder
        self.deadline = deadline or Deadline("the model")
        """Of the command."""
        self._libraries = msgspec.to_builtins(tuple(libraries))
        self._child: ChildProcess | None = None
        self._count = 0
        self.fresh = False
        """Open a model anew for every request, because its answers depend on the runs before."""
        self.keeps_large = False
        """Leave a large model open between requests; the memory that it takes is the caller's to answer for."""
        self.use_samples(samples)
        self._start()

    def use_samples(self, samples: Sequence[Sample]) -> None:
        """Replace the samples."""
        self.samples = samples
        """Inputs of every run that names no others."""
        self._samples = self.keep_samples(samples)

    def keep_samples(self, samples: Sequence[Sample]) -> Path:
        """Have other samples at hand for a run."""
        self._count += 1
        path = self._folder / f"samples{self._count}"
        save_samples(path, samples)
        return path

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None

    def runtime(self) -> str:
        """The version of ONNX Runtime. Asked of the child, because loading it here takes as long as a small model."""
        found: str = self._ask("runtime")
        return found

    def run(
        self, model: Path, provider: str = "cpu", *, optimized: bool = True, on: Path | None = None
    ) -> list[Sample]:
        """The outputs of each sample; sequences and maps as several arrays.

        Args:
            model: its file.
            provider: that runs it.
            optimized: let the runtime change the graph.
            on: other samples, as `keep_samples` gave them.
        """
        return self._answers("run", model=str(model), provider=provider, optimized=optimized, **_other(on))

    def run_pieces(self, pieces: Sequence[Path], outputs: Sequence[str], provider: str) -> list[Sample]:
        """The outputs of a model that was cut into pieces, of which each takes what those before it made."""
        models = [str(piece) for piece in pieces]
        return self._answers("pieces", models=models, outputs=list(outputs), provider=provider)

    def run_sequence(self, model: Path, states: list[tuple[str, str]], steps: int, provider: str) -> list[Sample]:
        """The outputs of each step when every state output is the state input of the next."""
        return self._answers("sequence", model=str(model), provider=provider, states=states, steps=steps)

    def run_chain(self, model: Path, *, on: Path, with_states: bool) -> list[Sample]:
        """The outputs for windows that are run one by one, as one sample.

        Args:
            model: takes `readings` and `state`, and gives `next_state`.
            on: one sample, with `before` for each window: the number of the window whose `next_state` it is given, or
                -1 for the one in `state`. No two windows are given the same one.
            with_states: give back each `next_state`, too.
        """
        return self._answers("chain", model=str(model), with_states=with_states, **_other(on))

    def run_reference(self, model: Path, *, count: int, timeout_s: float) -> list[Sample]:
        """The outputs of `onnx.reference`, slow and exact in the types of the graph, for the first samples."""
        return self._answers("reference", model=str(model), count=count, timeout_s=timeout_s)

    def ranges(self, model: Path, *, count: int, on: Path | None = None) -> dict[str, TensorRange]:
        """Type, rank and range of every output over the first samples, or over the first of others."""
        request: dict[str, Any] = {"model": str(model), "count": count, **_other(on)}
        found: dict[str, TensorRange] = self._ask("stats", **request)
        return found

    def drifts(self, model: Path, other: Path, pairs: list[tuple[str, str]], *, count: int) -> dict[str, float]:
        """Largest drift of each pair of tensors, under the name in the first model."""
        found: dict[str, float] = self._ask("drifts", model=str(model), other=str(other), pairs=pairs, count=count)
        return found

    def time(self, models: Sequence[Path], provider: str = "cpu", *, budget_s: float, threads: int = 1) -> Timing:
        """Time models that take turns, on the first sample."""
        paths = [str(model) for model in models]
        return Timing(self._ask("time", models=paths, provider=provider, budget_s=budget_s, threads=threads))

    def load(self, model: Path, provider: str, *, threads: int) -> float:
        """Open a model for `burst`; gives the seconds that took."""
        return float(self._ask("load", model=str(model), provider=provider, threads=threads))

    def burst(self, model: Path, provider: str, *, sample: int, repeats: int) -> list[float]:
        """Seconds of each of some runs in a row, of the model that `load` opened."""
        times: list[float] = self._ask("burst", model=str(model), provider=provider, sample=sample, repeats=repeats)
        return times

    def memory(self) -> int | None:
        """Bytes of memory of the child; None where the system does not tell."""
        found: int | None = self._ask("memory")
        return found

    def placement(self, model: Path, provider: str) -> list[tuple[str, str, str]]:
        """Name, operator and provider (the runtime's name for it) of every node that ran, fused ones as one.

        Nodes of the model must have plain names, as `number_nodes` gives them.
        """
        prefix = str(self._folder / "profile")
        found = self._ask("placement", model=str(model), provider=provider, profile=prefix)
        return [(name, kind, where) for name, kind, where in found]

    def convert_by_library(self, model: Path, output: Path, blocked: Sequence[str], *, io: Io) -> None:
        """Write onnxconverter-common's float16 form of a model.

        Args:
            model: a file whose nodes all have names.
            output: for the result.
            blocked: names of nodes that stay float32.
            io: type of the result's float inputs and outputs.
        """
        request = {"model": str(model), "output": str(output), "blocked": list(blocked), "io": io.value}
        self._ask("convert", timeout_s=_CONVERSION_TIMEOUT_S, **request)

    def optimize(self, model: Path, output: Path, level: str) -> None:
        """Write what the runtime makes of a model when it loads it."""
        self._ask("optimize", model=str(model), output=str(output), level=level)

    def _answers(self, what: str, **request: Any) -> list[Sample]:
        self._count += 1
        path = self._folder / f"answers{self._count}"
        self._ask(what, answers=str(path), **request)
        answers = load_samples(path)
        path.unlink()
        return answers

    def _start(self) -> ChildProcess:
        environment = {**os.environ, **_ENVIRONMENT}
        self._child = ChildProcess("edgetool.verify.workbench_child", folder=self._folder, environ=environment)
        return self._child

    def _ask(self, what: str, *, timeout_s: float = math.inf, **request: Any) -> Any:
        wait_s = min(timeout_s, self.deadline.share_s(_DOING[what]))
        if self._child is not None and self._child.has_ended():
            self.close()
        child = self._child or self._start()
        asked = {
            "do": what,
            "samples": str(self._samples),
            "fresh": self.fresh,
            "keep": self.keeps_large,
            "libraries": self._libraries,
            **request,
        }
        child.ask(json.dumps(asked).encode())
        try:
            answer = child.answer(wait_s)
        except ChildEndedError as exc:
            self.close()
            how = f"crashed with signal {-exc.code}" if exc.code < 0 else f"ended its process with exit code {exc.code}"
            raise ModelCrashError(f"the runtime {how}") from exc
        if answer is None:
            self.close()
            self.deadline.check(_DOING[what])
            share = "" if wait_s == timeout_s else f", its share of --timeout {self.deadline.limit_s:g}"
            raise NoAnswerError(f"gave no answer in {in_seconds(wait_s)}{share}")
        document = json.loads(answer)
        if "error" in document:
            raise ConversionError(document["error"])
        return document["ok"]


def _other(samples: Path | None) -> dict[str, str]:
    return {} if samples is None else {"samples": str(samples)}
