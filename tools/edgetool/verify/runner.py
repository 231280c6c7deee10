"""Runs a model on samples in a process of its own, because a conversion can crash the runtime.

`python -m edgetool.verify.runner MODEL SAMPLES.npz ANSWERS.npz PROVIDER PARENT` is the child's side of `run_model`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.child_process import end_with_parent
from edge_agent.engine.providers import PROVIDERS, import_runtime
from edge_agent.engine.runtime import make_session, runtime_reason
from edge_agent.engine.session import session_options
from edge_agent.errors import ConversionError

__all__ = ["Sample", "flatten", "load_samples", "run_model", "save_samples"]

Sample = dict[str, NDArray[Any]]
"""One array for each input, or for each output, of a model."""

_TIMEOUT_S = 600.0


def run_model(model: bytes, samples: Sequence[Sample], *, provider: str = "cpu") -> list[Sample]:
    """Run a model once for each sample.

    Args:
        model: the ONNX file's bytes.
        samples: input arrays by name.
        provider: a name of `edge_agent.engine.providers.PROVIDERS`.

    Returns:
        The outputs of each sample. A sequence or map output becomes several arrays, `name|0`, `name|1`, ….

    Raises:
        ConversionError: the runtime refuses the model, fails, crashes or hangs; the text has its reason.
    """
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        place = Path(folder)
        (place / "model.onnx").write_bytes(model)
        save_samples(place / "samples.npz", samples)
        command = [
            sys.executable,
            "-m",
            "edgetool.verify.runner",
            "model.onnx",
            "samples.npz",
            "answers.npz",
            provider,
            str(os.getpid()),
        ]
        try:
            done = subprocess.run(command, cwd=place, capture_output=True, timeout=_TIMEOUT_S, check=False)
        except subprocess.TimeoutExpired as exc:
            raise ConversionError(f"provider {provider}: gave no answer in {_TIMEOUT_S:.0f} s") from exc
        if done.returncode < 0:
            raise ConversionError(f"provider {provider}: crashed with signal {-done.returncode}")
        if done.returncode != 0:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"]
            raise ConversionError(f"provider {provider}: {lines[-1][:400]}")
        return load_samples(place / "answers.npz")


def save_samples(path: Path, samples: Sequence[Sample]) -> None:
    """Write samples as one `.npz`, with keys `<i>|<name>`."""
    arrays = {f"{number}|{name}": array for number, sample in enumerate(samples) for name, array in sample.items()}
    np.savez(path, allow_pickle=False, **arrays)


def load_samples(path: Path) -> list[Sample]:
    """Read what `save_samples` wrote."""
    samples: dict[int, Sample] = {}
    with np.load(path, allow_pickle=False) as arrays:
        for key in arrays.files:
            number, _, name = key.partition("|")
            samples.setdefault(int(number), {})[name] = arrays[key]
    return [samples[number] for number in sorted(samples)]


def flatten(name: str, value: Any) -> Sample:
    """An output as plain arrays."""
    if isinstance(value, Mapping):
        return {f"{name}|keys": np.array(list(value)), f"{name}|values": np.array(list(value.values()))}
    if isinstance(value, list):
        flat: Sample = {}
        for number, item in enumerate(value):
            flat.update(flatten(f"{name}|{number}", item))
        return flat
    array = np.asarray(value)
    return {name: array.astype(str) if array.dtype == object else array}


def _main(arguments: list[str]) -> None:
    model, samples_path, answers_path, provider_name, parent = arguments
    end_with_parent(int(parent))
    ort = import_runtime()
    provider = PROVIDERS[provider_name]
    try:
        options = session_options(ort, provider, 1)
        session = make_session(ort, model, options, [(provider.ort_name, provider.options_for(1))])
        names = [output.name for output in session.get_outputs()]
        answers: list[Sample] = []
        for sample in load_samples(Path(samples_path)):
            values = session.run(names, sample)
            flat: Sample = {}
            for name, value in zip(names, values, strict=True):
                flat.update(flatten(name, value))
            answers.append(flat)
    # The runtime's errors have no common base; this is the outer edge of the child, and the parent prints the line.
    except Exception as exc:  # noqa: BLE001
        sys.exit(runtime_reason(exc))
    save_samples(Path(answers_path), answers)


if __name__ == "__main__":
    _main(sys.argv[1:])
