"""Whose fault it is that a model does not load: the bundle's, that of a runtime that is too old, or a provider's."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from edge_agent.bundle import Bundle, ModelPart
from edge_agent.engine.providers import PROVIDERS, SAFEST, import_runtime
from edge_agent.engine.releases import in_words
from edge_agent.engine.runtime import installed_runtimes, make_session, runtime_reason
from edge_agent.engine.session import session_options
from edge_agent.errors import BundleError, ProviderError
from edge_agent.files.shared_library import Library

__all__ = ["check_readable", "is_about_memory", "is_about_operators"]

_ABOUT_THE_MODEL = frozenset(
    {"InvalidProtobuf", "InvalidGraph", "InvalidArgument", "NoModel", "Fail", "RuntimeException"}
)
"""Classes of the runtime's errors. Not `NotImplemented`: the model is read, and this provider lacks a kernel."""
_PLAIN_IR, _PLAIN_OPSET = 8, 17
"""Every runtime that this agent runs on takes them."""
_MOST_VERSION = 1 << 20


def is_about_memory(reason: str) -> bool:
    """True if the text of a runtime's error speaks of memory, which says nothing about a model."""
    return "bad_alloc" in reason or "allocate memory" in reason


def is_about_operators(reason: str) -> bool:
    """True if the text of a runtime's error says that it does not know an operator."""
    return "is not a registered function/op" in reason


def check_readable(bundle: Bundle) -> None:
    """Load a model on the processor, as it is written and without running it. Called in a process that may be killed.

    What the processor's own provider cannot even parse, no other provider can: each gets what that parser made.

    Args:
        bundle: an open bundle, whose model some provider has not loaded.

    Raises:
        BundleError: nothing here can load it.
        ConfigError: a library with its operators is not the one that it has to be.
        EngineError: one does not load.
        ProviderError: nothing here can load it, and its manifest names a newer runtime than this one.
    """
    ort = import_runtime()
    options = _plain_options(ort, bundle.libraries)
    try:
        make_session(ort, bundle.model, options, [(PROVIDERS[SAFEST].ort_name, {})])
    # The runtime's errors are classes of its C++ module; their only common base is Exception.
    except Exception as exc:
        reason = runtime_reason(exc)
        part = bundle.manifest.model
        is_missing_kernel = type(exc).__name__ == "NotImplemented" and not _is_for(ort, part)
        is_about_the_model = type(exc).__name__ in _ABOUT_THE_MODEL or is_missing_kernel
        if not is_about_the_model or is_about_memory(reason):
            return
        needs = _newer_than(ort, part)
        if needs:
            step = "update the runtime here, or pack a model of an older opset"
            if part.runtimes:
                step = f"install {in_words(part.runtimes)}, or pack it for this device too: edgetool pack"
            raise ProviderError(f"{bundle.path}: the model {needs}; {step} ({reason})") from exc
        problem = f"{bundle.manifest.model.file} cannot be loaded by onnxruntime {ort.__version__}"
        step = "export the model and pack it again"
        if is_about_operators(reason):
            step = "pack it again with the library that has this operator: edgetool pack --custom-ops"
        raise BundleError(f"{bundle.path}: {problem} ({reason}); {step}") from exc


def _plain_options(ort: Any, libraries: Sequence[Library] = ()) -> Any:
    options = session_options(ort, PROVIDERS[SAFEST], 1, libraries)
    # Else constants are folded, which runs parts of the model.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _newer_than(ort: Any, part: ModelPart) -> str:
    """What a manifest says that the model needs and this runtime has not; empty if nothing."""
    here = f"onnxruntime {ort.__version__}"
    if part.ir_version and not _takes(ort, part.ir_version):
        most = _most(part.ir_version, lambda version: _takes(ort, version))
        return f"is of ONNX IR version {part.ir_version}, and {here} reads versions up to {most}"
    for domain, opset in part.opsets.items():
        if not _takes(ort, _PLAIN_IR, domain, opset):
            most = _most(opset, lambda version, domain=domain: _takes(ort, _PLAIN_IR, domain, version))
            return f"needs opset {opset} of {domain}, and {here} has opsets up to {most}"
    if not _is_for(ort, part):
        return f"has operators that {here} does not compute"
    if _release(part.runtime) > _release(ort.__version__):
        return f"was packed with onnxruntime {part.runtime}, and here is {here}"
    return ""


def _is_for(ort: Any, part: ModelPart) -> bool:
    """False if the manifest says that the installed runtime does not run the model."""
    extra = "openvino" if "onnxruntime-openvino" in installed_runtimes() else "cpu"
    needed = part.runtimes.get(extra, "")
    return not part.runtimes or (bool(needed) and _release(ort.__version__) >= _release(needed))


def _release(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, such as (1, 24, 1); empty if it begins with none."""
    found = re.match(r"\d{1,9}(\.\d{1,9})*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def _takes(ort: Any, ir_version: int, domain: str = "ai.onnx", opset: int = _PLAIN_OPSET) -> bool:
    """True if the runtime loads a model of these versions in which nothing else can be wrong."""
    try:
        make_session(
            ort, _empty_model(ir_version, domain, opset), _plain_options(ort), [(PROVIDERS[SAFEST].ort_name, {})]
        )
    except Exception:  # noqa: BLE001  # as above, and the only question is whether it loads
        return False
    return True


def _most(too_new: int, takes: Any) -> int:
    """The newest version that is taken, by halving; 0 if none is."""
    low, high = 0, min(too_new, _MOST_VERSION)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if takes(middle) else (low, middle)
    return low


def _empty_model(ir_version: int, domain: str, opset: int) -> bytes:
    """A model without nodes whose output is its input, one float32. Written by hand: the device has no `onnx`."""
    value = _field(1, b"x") + _field(2, _field(1, _number(1, 1) + _field(2, _field(1, _number(1, 1)))))
    graph = _field(2, b"g") + _field(11, value) + _field(12, value)
    imports = {"ai.onnx": _PLAIN_OPSET, domain: opset}
    listed = b"".join(
        _field(8, _field(1, b"" if name == "ai.onnx" else name.encode()) + _number(2, version))
        for name, version in imports.items()
    )
    return _number(1, ir_version) + _field(7, graph) + listed


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    """A number as protobuf writes it: seven bits a byte, the lowest first."""
    coded = bytearray()
    while value > 0x7F:
        coded.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*coded, value])
