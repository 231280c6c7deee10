"""Scores batches of windows with ONNX Runtime."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from edge_agent.engine.providers import Provider, import_runtime
from edge_agent.errors import BundleError, EngineError
from edge_agent.stream.reading import FloatArray

__all__ = ["Engine", "OrtEngine", "Scores"]


@dataclass(frozen=True, slots=True)
class Scores:
    """The answer for a batch of n windows.

    Attributes:
        score: shape (n,), float32; higher is more anomalous.
        contributions: shape (n, channels), float32, each channel's share of the score, at least 0; None when the
            model does not give them.
    """

    score: FloatArray
    contributions: FloatArray | None


class Engine(Protocol):
    """Whatever can score windows of one bundle."""

    def score(self, windows: FloatArray) -> Scores:
        """Score a batch.

        Args:
            windows: shape (n, window, channels) with n at least 1, float32, raw sensor units, oldest row first.

        Raises:
            EngineError: the runtime failed, or answered in another shape.
        """


class OrtEngine:
    """A canonical model in one ONNX Runtime session.

    Args:
        model: the ONNX file's bytes.
        provider: where it runs.
        threads: threads of one inference.

    Raises:
        BundleError: the model is not canonical (`readings` in, `score` out).
        EngineError: the provider cannot load the model, or silently gives way to another one.
    """

    def __init__(self, model: bytes, provider: Provider, *, threads: int = 1) -> None:
        self.provider = provider
        ort = import_runtime()
        try:
            self._session = ort.InferenceSession(
                model,
                sess_options=_session_options(ort, threads),
                providers=[(provider.ort_name, provider.options_for(threads))],
            )
        # The runtime's errors are classes of its C++ module with no common base but Exception.
        except Exception as exc:
            raise EngineError(f"provider {provider.name}: cannot load the model: {_first_line(exc)}") from exc
        # A provider whose library is missing is dropped by the runtime with no more than a log line.
        if provider.ort_name not in self._session.get_providers():
            raise EngineError(f"provider {provider.name}: the runtime fell back to {self._session.get_providers()}")
        self._outputs = _canonical_outputs(self._session)

    def score(self, windows: FloatArray) -> Scores:
        """See `Engine.score`."""
        try:
            answers = self._session.run(self._outputs, {"readings": windows})
        except Exception as exc:
            raise EngineError(f"provider {self.provider.name}: {_first_line(exc)}") from exc
        score = answers[0]
        if score.shape != (len(windows),):
            raise EngineError(
                f"provider {self.provider.name}: score has shape {score.shape}, expected {(len(windows),)}"
            )
        return Scores(score=score, contributions=answers[1] if len(answers) > 1 else None)


def _session_options(ort: Any, threads: int) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin while they wait burn a core of a small device for nothing (docs/benchmarks.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3
    return options


def _canonical_outputs(session: Any) -> list[str]:
    inputs = [(i.name, i.type) for i in session.get_inputs()]
    if inputs != [("readings", "tensor(float)")]:
        raise BundleError(f"the model's inputs are {inputs}, expected one float32 'readings'; pack it: edgetool pack")
    names = [output.name for output in session.get_outputs()]
    if "score" not in names:
        raise BundleError(f"the model's outputs are {names}, expected 'score'; pack it: edgetool pack")
    return [name for name in ("score", "contributions") if name in names]


def _first_line(exc: Exception) -> str:
    return (str(exc).strip().splitlines() or [type(exc).__name__])[0][:300]
