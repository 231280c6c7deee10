"""The engines that `engines.py` knows, and their environments: each has one of its own, with pinned packages."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["AGENT", "NOT_TO_BE_HAD", "OTHERS", "Contender", "environment"]

_NUMPY = "numpy==2.4.6"
_RUNTIME = ("onnxruntime==1.31.1", _NUMPY, "msgspec==0.22.0", "paho-mqtt==2.2.0")
"""What a device with the extra `cpu` has; the agent itself is imported from here."""
_TORCH = ("torch==2.13.0", _NUMPY, "onnx==1.23.2")


@dataclass(frozen=True)
class Contender:
    """One way to run a model."""

    name: str
    """In the table."""
    engine: str
    """Of `engine_child.ENGINES`."""
    package: str
    """Whose version is told."""
    mode: str = ""
    counted: tuple[str, ...] = ()
    """Packages that count as installed, with all that they need; what only converts a model does not."""
    packages: tuple[str, ...] = ()
    """What its environment gets; none for this one, which is the agent's."""
    forms: tuple[str, ...] = ("float32",)
    """Precisions of the bundle that it is given."""
    converted: str = ""
    """Suffix of the files that it takes in place of ONNX, one for each size of batch."""


AGENT = (
    Contender("agent, cpu", "agent", "", "cpu", ("edge-agent",), forms=("float32", "float16", "int8")),
    Contender("agent, openvino", "agent", "", "openvino", ("edge-agent",), forms=("float32", "float16", "int8")),
)
"""Of each provider that this environment has; the runtime's package is added to what counts."""

OTHERS: dict[str, tuple[Contender, ...]] = {
    "onnxruntime": (
        Contender(
            "agent with the extra cpu",
            "agent",
            "onnxruntime",
            "cpu",
            counted=("onnxruntime", "numpy", "msgspec", "paho-mqtt"),
            packages=_RUNTIME,
        ),
        Contender(
            "plain script, ONNX Runtime",
            "onnxruntime",
            "onnxruntime",
            counted=("onnxruntime", "numpy"),
            packages=_RUNTIME,
        ),
    ),
    "openvino": tuple(
        Contender(
            f"OpenVINO{what}",
            "openvino",
            "openvino",
            precision,
            counted=("openvino", "numpy"),
            packages=("openvino==2026.4.1", _NUMPY),
        )
        for what, precision in (("", ""), (", f32", "f32"))
    ),
    "torch": tuple(
        Contender(
            f"PyTorch, {mode}", "torch", "torch", mode, counted=("torch", "numpy"), packages=_TORCH, converted="pt2"
        )
        for mode in ("eager", "compile")
    ),
    "litert": (
        Contender(
            "LiteRT",
            "litert",
            "ai-edge-litert",
            counted=("ai-edge-litert",),
            packages=("ai-edge-litert==2.3.0", _NUMPY),
            converted="tflite",
        ),
    ),
    "torchserve": (
        Contender(
            "TorchServe, HTTP",
            "torchserve",
            "torchserve",
            counted=("torchserve", "torch", "numpy"),
            packages=(*_TORCH, "torchserve==0.12.0", "torch-model-archiver==0.12.0", "pyyaml==6.0.3"),
            converted="pt2",
        ),
    ),
    "tract": (
        Contender(
            "tract",
            "tract",
            "tract",
            counted=("tract", "numpy"),
            packages=("tract==0.23.9", _NUMPY),
            converted="onnx",
        ),
    ),
    "mnn": (Contender("MNN", "mnn", "mnn", counted=("mnn",), packages=("mnn==3.6.1", _NUMPY), converted="mnn"),),
}
CONVERTERS = {"litert": ("torch==2.13.0", "litert-torch==0.10.0", _NUMPY)}
"""Environments of what only converts."""

NOT_TO_BE_HAD = {
    "tensorrt": ("pip", "install", "tensorrt==11.4.0.106"),
    "tfserving": ("apt-get", "install", "--dry-run", "tensorflow-model-server"),
    "triton": ("pip", "install", "tritonserver==2.73.0"),
}
"""What was asked for and has no loader here, with the command that was tried (docs/benchmarks.md)."""


def environment(cache: Path, name: str, packages: tuple[str, ...], *, tell: Callable[[str], None]) -> Path:
    """The Python of an environment that has these packages, which is made if it is not there.

    Raises:
        RuntimeError: pip could not install them; the message is its last error.
    """
    folder = cache / "environments" / name
    python, stamp = folder / "bin" / "python", folder / "installed.txt"
    wanted = "\n".join(packages)
    if stamp.exists() and stamp.read_text(encoding="utf-8") == wanted:
        return python
    tell(f"installing {' '.join(packages)}")
    shutil.rmtree(folder, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    done = subprocess.run(
        [str(python), "-m", "pip", "install", "--quiet", *packages], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"pip install {' '.join(packages)}: {last_error(done.stderr)}")
    stamp.write_text(wanted, encoding="utf-8")
    return python


def last_error(text: str) -> str:
    """The last line that pip marks as an error, else the last line; at most 200 characters."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if line.lower().startswith("error")]
    return (errors or lines or ["no word why"])[-1][:200]
