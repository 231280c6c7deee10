"""`edgetool doctor`: what is wrong with this installation, and what will break where with a model."""

from __future__ import annotations

import os
import platform
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from edge_agent.engine.providers import available_providers, installed_runtimes
from edge_agent.engine.wheels import runtimes_for, this_platform
from edge_agent.errors import ConversionError, EdgeError, UsageError
from edgetool.data import DataFiles, DataSource, as_files
from edgetool.deadline import DEFAULT_S, Deadline, OutOfTimeError
from edgetool.graph.custom_ops import MISSING_FIX, CustomOps, missing_operator, read_custom_ops
from edgetool.graph.onnx_file import load_model
from edgetool.graph.runtimes import Reach, reach_of
from edgetool.graph.traps import find_traps
from edgetool.graph.versions import lower_versions
from edgetool.graph.weights import WeightStore, read_light
from edgetool.paths import StrPath
from edgetool.verify.drift import compare_answers
from edgetool.verify.finite import unanswered
from edgetool.verify.fitting import explain, is_about_inputs, samples_for
from edgetool.verify.saturated import saturated
from edgetool.verify.workbench import Workbench

__all__ = ["DoctorReport", "Finding", "doctor"]

_EXTRAS = {
    "host": ("typer", "rich", "onnx", "onnxconverter_common"),
    "reports": ("leather",),
    "sklearn": ("sklearn", "skl2onnx", "skops"),
    "lightgbm": ("lightgbm",),
    "xgboost": ("xgboost",),
    "pyod": ("pyod",),
    "torch": ("torch", "onnxscript", "safetensors"),
    "tensorflow": ("tensorflow", "keras", "tf2onnx"),
    "demo": ("river",),
}
_PACKAGES = (
    "numpy",
    "onnx",
    "onnxruntime",
    "onnxruntime-openvino",
    "onnxruntime-gpu",
    "onnxconverter-common",
    "netron",
)
_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "amx_int8", "avx512_fp16", "asimd", "asimdhp", "asimddp")
_RIGHT = 1e-3


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    subject: str
    good: bool
    text: str
    fix: str = ""

    def describe(self) -> dict[str, Any]:
        """For a report."""
        return {"subject": self.subject, "good": self.good, "text": self.text, "fix": self.fix}


@dataclass(frozen=True, slots=True)
class DoctorReport:
    """What `doctor` found."""

    versions: dict[str, str]
    machine: dict[str, str]
    findings: list[Finding]
    runtimes: list[Reach]
    """What the runtime of each extra makes of the model; empty without one."""

    @property
    def healthy(self) -> bool:
        """True if every finding is good."""
        return all(finding.good for finding in self.findings)

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "healthy": self.healthy,
            "versions": self.versions,
            "machine": self.machine,
            "findings": [finding.describe() for finding in self.findings],
            "runtimes": [reach.describe() for reach in self.runtimes],
        }


def doctor(
    model: StrPath | None = None,
    *,
    data: DataSource | None = None,
    custom_ops: StrPath | Sequence[StrPath] = (),
    timeout_s: float = DEFAULT_S,
) -> DoctorReport:
    """Look at the installation and, when it is given, at a model.

    Args:
        model: an ONNX file.
        data: samples for it; made up when not given.
        custom_ops: libraries with operators that no runtime has of its own, which are loaded with the model.
        timeout_s: seconds for all runs of models together; a model that needs more is a finding.

    Raises:
        ConversionError: the model is missing, or no ONNX model.
        DataError: the data do not fit it.
        OutOfTimeError: not even the installation could be looked at in that time.
        UsageError: a library is none, or is not needed.
    """
    ops = read_custom_ops(custom_ops)
    if ops.given and model is None:
        raise UsageError("doctor: --custom-ops is for a model, and none is given")
    deadline = Deadline(model or "this installation", timeout_s)
    runtime = _runtimes()
    findings = [runtime, _platform(), *_extras()]
    runtimes: list[Reach] = []
    if runtime.good:
        findings += _providers(deadline)
    if model is not None:
        read = load_model(Path(model))
        ops.check((Path(model), read))
        runtimes = reach_of(read)
        findings += [_of_runtime(Path(model), reach, runtimes) for reach in runtimes]
        if runtime.good:
            findings += _of_model(Path(model), read, as_files(data), deadline, ops)
    return DoctorReport(_versions(), _machine(), findings, runtimes)


def _runtimes() -> Finding:
    runtimes = installed_runtimes()
    if len(runtimes) > 1:
        names = " and ".join(f"{name} {version}" for name, version in runtimes.items())
        fix = f"pip uninstall -y {' '.join(runtimes)} && pip install 'edge-agent[openvino]' (or [cpu])"
        return Finding("runtime", good=False, text=f"{names} write into one folder, so neither works", fix=fix)
    try:
        available_providers()
    except EdgeError as exc:
        return Finding("runtime", good=False, text=str(exc), fix="pip install 'edge-agent[cpu]'")
    name, version = next(iter(runtimes.items()), ("onnxruntime", "of unknown origin"))
    return Finding("runtime", good=True, text=f"{name} {version}")


def _platform() -> Finding:
    """Which runtimes there are for this system and this Python, whatever is installed."""
    support = runtimes_for(this_platform())
    fix = "" if support.extras else "take a system and a Python that onnxruntime has wheels for"
    return Finding("platform", good=bool(support.extras), text=support.reason, fix=fix)


def _extras() -> list[Finding]:
    found: list[Finding] = []
    for extra, modules in _EXTRAS.items():
        missing = [module for module in modules if util.find_spec(module) is None]
        text = f"needs {', '.join(missing)}" if missing else "complete"
        fix = f"pip install 'edge-agent[{extra}]'" if missing else ""
        # Only what the host tool cannot do without is a fault.
        found.append(Finding(f"extra {extra}", good=not missing or extra != "host", text=text, fix=fix))
    return found


def _providers(deadline: Deadline) -> list[Finding]:
    """Run a small model on each provider that the runtime claims to have."""
    weights = np.linspace(-1, 1, 64, dtype=np.float32).reshape(8, 8)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])],
        "probe",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 8])],
        [onnx.numpy_helper.from_array(weights, "w")],
    )
    probe = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    x = np.ones((2, 8), dtype=np.float32)
    expected = [{"y": np.tanh(x @ weights)}]
    found: list[Finding] = []
    with (
        tempfile.TemporaryDirectory(prefix="edgetool-") as name,
        Workbench(Path(name), [{"x": x}], deadline=deadline) as bench,
    ):
        path = Path(name) / "probe.onnx"
        path.write_bytes(probe.SerializeToString())
        for provider in available_providers():
            subject = f"provider {provider.name}"
            try:
                drift = compare_answers(expected, bench.run(path, provider.name))[0].drift
            except ConversionError as exc:
                fix = "install the driver that it needs, or leave the provider out of agent.toml"
                found.append(Finding(subject, good=False, text=str(exc), fix=fix))
                continue
            found.append(Finding(subject, good=drift <= _RIGHT, text=f"computes, off by {drift:.1e}"))
    return found


def _of_runtime(path: Path, reach: Reach, all_of_them: list[Reach]) -> Finding:
    """Whether a runtime runs the model, be it installed here or not."""
    good = not reach.reason
    able = ",".join(each.extra for each in all_of_them if each.packed is not None)
    others = f", or pack it for devices that run it: edgetool pack --runtimes {able}" if able else ""
    fix = "" if good else f"export it with an older opset or other operators{others}"
    return Finding(f"{path.name} with the extra {reach.extra}", good=good, text=reach.in_words(), fix=fix)


def _of_model(
    path: Path, model: onnx.ModelProto, data: DataFiles | None, deadline: Deadline, ops: CustomOps
) -> list[Finding]:
    found = [
        Finding(f"{path.name}: {trap.where}", good=False, text=trap.problem, fix=trap.fix) for trap in find_traps(model)
    ]
    with (
        tempfile.TemporaryDirectory(prefix="edgetool-") as name,
        Workbench(Path(name), deadline=deadline, libraries=ops.here) as bench,
    ):
        store = WeightStore(Path(name))
        light = read_light(path, store)[0]
        # As `pack` does before it runs a model.
        lowered = ", ".join(lower_versions(light))
        copy = store.save(light, "model.onnx")
        try:
            samples = samples_for(model, copy, bench, data)
            expected = bench.run(copy)
        except OutOfTimeError as exc:
            fix = "give it more time with --timeout, unless it never ends"
            return [*found, Finding(f"{path.name} on cpu", good=False, text=str(exc), fix=fix)]
        except ConversionError as exc:
            missing = missing_operator(str(exc))
            fix = MISSING_FIX if missing else _fix_for(str(exc), made_up=data is None)
            text = missing or explain(str(exc), light)
            return [*found, Finding(f"{path.name} on cpu", good=False, text=text, fix=fix)]
        text = f"runs on {samples.origin}" + (f", once lowered ({lowered})" if lowered else "")
        found.append(Finding(f"{path.name} on cpu", good=True, text=text))
        for each in unanswered(expected, bench.samples):
            fix = "give --data; made-up inputs may not suit it" if data is None and not each.cause else ""
            found.append(Finding(f"{path.name}: output {each.output}", good=False, text=each.in_words(), fix=fix))
        for flat in saturated(expected, bench.samples) if data is not None else ():
            fix = "" if flat.cause else "look at what that output is, and at the rows"
            found.append(Finding(f"{path.name}: output {flat.output}", good=False, text=flat.in_words(), fix=fix))
        for provider in available_providers():
            if provider.name == "cpu":
                continue
            subject = f"{path.name} on {provider.name}"
            try:
                drifts = compare_answers(expected, bench.run(copy, provider.name))
            except (ConversionError, OutOfTimeError) as exc:
                found.append(Finding(subject, good=False, text=str(exc), fix="the agent takes another provider"))
                continue
            worst = max((drift.drift for drift in drifts), default=0.0)
            right = worst <= 10 * _RIGHT
            text = f"{'right' if right else 'WRONG'}, off by {worst:.2g}"
            found.append(Finding(subject, good=right, text=text, fix="" if right else "the agent takes another one"))
    return found


def _fix_for(problem: str, *, made_up: bool) -> str:
    """What helps a model that does not run: other inputs only if it was loaded, and failed on those that it got."""
    if is_about_inputs(problem):
        step = "give it data that suit its inputs, or export it again"
        return "give --data; made-up inputs may not suit it" if made_up else step
    return "export it again, with an older opset or other operators; no data will help a model that does not load"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, str]:
    cpuinfo = Path("/proc/cpuinfo")
    words = set(cpuinfo.read_text(encoding="utf-8").split()) if cpuinfo.exists() else set()
    devices = sorted(str(device) for folder in ("/dev/dri", "/dev/accel") for device in Path(folder).glob("*"))
    devices += [str(device) for device in sorted(Path("/dev").glob("nvidia[0-9]*"))]
    return {
        "architecture": platform.machine(),
        "system": platform.system(),
        "cores": str(os.cpu_count()),
        "instructions": " ".join(flag for flag in _FLAGS if flag in words) or "unknown",
        "accelerators": " ".join(devices) or "none",
    }
