"""`edgetool inspect`: what is in a model, what each precision would bring, and what is known to go wrong with it."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import msgspec
import onnx

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.providers import available_providers
from edge_agent.errors import ConversionError, EdgeError, UsageError
from edgetool.deadline import LOOK_S, Deadline, OutOfTimeError
from edgetool.detector.allowed import open_allowed
from edgetool.graph.custom_ops import CustomOps, read_custom_ops
from edgetool.graph.edits import copy_of, number_nodes
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.onnx_file import load_model, stored_precision
from edgetool.graph.repairs import repair
from edgetool.graph.runtimes import Reach, reach_of
from edgetool.graph.traps import Trap, find_traps
from edgetool.graph.versions import lower_versions
from edgetool.graph.walks import nodes_of
from edgetool.graph.weights import WeightStore, read_light, size_of, tensors_of
from edgetool.paths import StrPath, as_paths
from edgetool.precision.storage import store_weights
from edgetool.signing import public_keys
from edgetool.verify.fitting import explain, samples_for
from edgetool.verify.workbench import Workbench

__all__ = ["InspectReport", "NodeWeight", "Placement", "Port", "inspect"]

_SHOWN_NODES = 20


@dataclass(frozen=True, slots=True)
class Port:
    """An input or output."""

    name: str
    kind: str
    """Type and shape in words."""


@dataclass(frozen=True, slots=True)
class NodeWeight:
    """A node and the constants that it uses."""

    node: str
    operator: str
    parameters: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Placement:
    """What a provider takes of the model."""

    provider: str
    taken: int
    left: list[str]
    """Operators of nodes that it left to the CPU's provider, each once."""
    problem: str
    """Why it does not run there; empty when it does."""


@dataclass(frozen=True, slots=True)
class InspectReport:
    """What is in a model."""

    model: Path
    size_bytes: int
    metadata_bytes: int
    """Bytes that no runtime reads."""
    ir_version: int
    producer: str
    opsets: dict[str, int]
    inputs: list[Port]
    outputs: list[Port]
    operators: dict[str, int]
    """How often each is used, subgraphs included."""
    parameters: int
    weights: str
    nodes: list[NodeWeight]
    """Those with most bytes."""
    would_be: dict[str, int]
    """Size of the file in each precision, with weights stored in it."""
    placements: list[Placement]
    runtimes: list[Reach]
    """What the runtime of each extra makes of it."""
    traps: list[Trap]
    custom_metadata: dict[str, str]
    bundle: Bundle | None
    """The bundle that the model is in; None for a model by itself."""

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        plain = {
            name: getattr(self, name)
            for name in self.__slots__
            if name not in ("model", "inputs", "outputs", "nodes", "placements", "runtimes", "traps", "bundle")
        }
        return {
            "model": str(self.model),
            **plain,
            "inputs": [{"name": port.name, "kind": port.kind} for port in self.inputs],
            "outputs": [{"name": port.name, "kind": port.kind} for port in self.outputs],
            "nodes": [{name: getattr(node, name) for name in node.__slots__} for node in self.nodes],
            "placements": [{name: getattr(p, name) for name in p.__slots__} for p in self.placements],
            "runtimes": [reach.describe() for reach in self.runtimes],
            "traps": [trap.describe() for trap in self.traps],
            "is_signed": self.bundle is not None and self.bundle.is_signed,
            "signed_by": None if self.bundle is None else self.bundle.signed_by or None,
            "manifest": None if self.bundle is None else msgspec.to_builtins(self.bundle.manifest),
        }


def inspect(
    model: StrPath,
    *,
    providers: bool = True,
    custom_ops: StrPath | Sequence[StrPath] = (),
    keys: StrPath | Sequence[StrPath] = (),
    timeout_s: float = LOOK_S,
) -> InspectReport:
    """Look into a model, or into a bundle and the model in it.

    Args:
        model: the ONNX file, or the `.edge` file.
        providers: run it on every installed provider, to see which nodes each takes.
        custom_ops: libraries with operators that no runtime has of its own, which are loaded with the model.
        keys: files of public keys, one of which must have signed the bundle; nobody is asked when none is given.
        timeout_s: seconds for these runs together; a provider that needs more is reported so.

    Raises:
        BundleError: the bundle cannot be read.
        ConversionError: the file is missing, or no ONNX model.
        MissingExtraError: keys are given, and the extra `trust` is not installed.
        TrustError: none of the keys has signed the bundle.
        UsageError: a key is none, or is given with a model by itself; a library is none, is not needed, or is not the
            one that the bundle names.
    """
    model, key_files = Path(model), as_paths(keys)
    trusted = public_keys(key_files) if key_files else None
    ops = read_custom_ops(custom_ops)
    if model.suffix == ".edge":
        bundle = open_bundle(model, trusted)
        if ops.given:
            bundle = replace(open_allowed([model], ops.paths)[0], signed_by=bundle.signed_by)
        with tempfile.TemporaryDirectory(prefix="edgetool-") as name:
            inner = Path(name) / bundle.manifest.model.file
            inner.write_bytes(bundle.model)
            needed = [library.path for library in bundle.libraries]
            found = inspect(inner, providers=providers, custom_ops=needed, timeout_s=timeout_s)
            return replace(found, model=model, bundle=bundle)
    if trusted is not None:
        raise UsageError(f"{model}: --key is of a bundle's signature, and this is a model by itself")
    with tempfile.TemporaryDirectory(prefix="edgetool-") as name:
        store = WeightStore(Path(name))
        original, size_bytes = read_light(model, store)
        whole = load_model(model)
        ops.check((model, whole))
        nodes, parameters = _weigh(original, store)
        stripped = onnx.ModelProto()
        stripped.CopyFrom(original)
        metadata_bytes = strip_metadata(stripped)
        return InspectReport(
            model=model,
            size_bytes=size_bytes,
            metadata_bytes=metadata_bytes,
            ir_version=original.ir_version,
            producer=f"{original.producer_name} {original.producer_version}".strip(),
            opsets={entry.domain or "ai.onnx": entry.version for entry in original.opset_import},
            inputs=[_port(value) for value in original.graph.input],
            outputs=[_port(value) for value in original.graph.output],
            operators=dict(Counter(node.op_type for node in nodes_of(original.graph)).most_common()),
            parameters=parameters,
            weights=stored_precision(original),
            nodes=nodes[:_SHOWN_NODES],
            would_be={"float32": size_bytes - metadata_bytes, **_would_be(stripped, store)},
            placements=_placements(original, store, Deadline(model, timeout_s), ops) if providers else [],
            runtimes=reach_of(whole),
            traps=find_traps(whole),
            custom_metadata={entry.key: entry.value for entry in stripped.metadata_props},
            bundle=None,
        )


def _weigh(model: onnx.ModelProto, store: WeightStore) -> tuple[list[NodeWeight], int]:
    constants = {tensor.name: store.values(tensor) for tensor in tensors_of(model) if tensor.name and _is_plain(tensor)}
    found: list[NodeWeight] = []
    for node in nodes_of(model.graph):
        mine = [constants[name] for name in node.input if name in constants]
        mine += [store.values(a.t) for a in node.attribute if a.HasField("t") and _is_plain(a.t)]
        size = sum(values.nbytes for values in mine)
        size += sum(4 * len(a.floats) + 8 * len(a.ints) for a in node.attribute)
        count = sum(values.size for values in mine)
        if size:
            found.append(NodeWeight(node.name or next(iter(node.output), ""), node.op_type, count, size))
    found.sort(key=lambda weight: -weight.size_bytes)
    parameters = sum(values.size for values in constants.values() if values.dtype.kind == "f")
    return found, int(parameters)


def _is_plain(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type not in (onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED)


def _would_be(model: onnx.ModelProto, store: WeightStore) -> dict[str, int]:
    sizes: dict[str, int] = {}
    for precision in ("float16", "int8"):
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        copy, _ = repair(copy, store, fed=set())
        report = store_weights(copy, store, int8=precision == "int8")
        sizes[precision] = size_of(copy if report.stored else model, store)
    return sizes


def _placements(model: onnx.ModelProto, store: WeightStore, deadline: Deadline, ops: CustomOps) -> list[Placement]:
    found: list[Placement] = []
    copy = copy_of(model)
    # As `pack` does before it runs a model.
    lower_versions(copy)
    number_nodes(copy)
    path = store.save(copy, "model.onnx")
    with Workbench(store.folder, deadline=deadline, libraries=ops.here) as bench:
        try:
            samples_for(model, path, bench)
        except EdgeError as exc:
            return [Placement("cpu", 0, [], str(exc))]
        for provider in available_providers():
            try:
                ran = bench.placement(path, provider.name)
            except (ConversionError, OutOfTimeError) as exc:
                found.append(Placement(provider.name, 0, [], explain(str(exc), copy)))
                continue
            left = sorted({kind for _, kind, where in ran if where != provider.ort_name})
            taken = sum(1 for *_, where in ran if where == provider.ort_name)
            found.append(Placement(provider.name, taken, left, ""))
    return found


def _port(value: onnx.ValueInfoProto) -> Port:
    if not value.type.HasField("tensor_type"):
        return Port(value.name, value.type.WhichOneof("value") or "unknown")
    kind = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(kind.elem_type).lower()
    if not kind.HasField("shape"):
        return Port(value.name, name)
    dims = ", ".join(
        dim.dim_param or (str(dim.dim_value) if dim.HasField("dim_value") else "?") for dim in kind.shape.dim
    )
    return Port(value.name, f"{name} ({dims})")
