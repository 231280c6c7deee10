"""What is done to a graph without running it, and how its weights are kept."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from zoo import build

from edge_agent.errors import ConversionError
from edgetool.graph import weights
from edgetool.graph.edits import Names
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.prune import prune_weights
from edgetool.graph.repairs import repair
from edgetool.graph.traps import find_traps
from edgetool.graph.walks import bytes_of, nodes_of
from edgetool.graph.weights import WeightStore, load_light, to_bytes, whole_model


def repaired(name: str, folder: Path) -> tuple[onnx.ModelProto, WeightStore]:
    store = WeightStore(folder)
    return repair(build(name).model, store, fed=set())[0], store


def test_metadata_of_the_framework_go_and_the_users_stay() -> None:
    """No path of the training machine is left in the bytes."""
    model = build("with_metadata").model
    saved = strip_metadata(model)
    assert saved > 1000
    assert b"/home/someone" not in model.SerializeToString()
    assert [(entry.key, entry.value) for entry in model.metadata_props] == [("owner", "line 4")]


def test_stripping_a_clean_model_saves_nothing() -> None:
    """An empty text costs two bytes in a protobuf, so fields are cleared and not emptied."""
    assert strip_metadata(build("mlp").model) == 0


@pytest.mark.parametrize("name", ["unnamed_nodes", "doubled_names", "branches", "local_function", "loop"])
def test_after_repair_every_node_has_a_name_of_its_own(name: str, tmp_path: Path) -> None:
    """In subgraphs and inlined functions too."""
    model, _ = repaired(name, tmp_path)
    names = [node.name for node in nodes_of(model.graph)]
    assert all(names)
    assert len(set(names)) == len(names)


def test_repair_inlines_functions_and_unlists_constants(tmp_path: Path) -> None:
    """Nothing is left that a converter would not look into."""
    model, _ = repaired("local_function", tmp_path)
    assert not model.functions
    listed, _ = repaired("listed_constants", tmp_path)
    assert [value.name for value in listed.graph.input] == ["x"]


def test_a_default_that_the_samples_feed_stays_an_input(tmp_path: Path) -> None:
    """It is a value that the caller replaces, not a constant."""
    model = repair(build("listed_constants").model, WeightStore(tmp_path), fed={"x", "b1"})[0]
    assert [value.name for value in model.graph.input] == ["x", "b1"]


def test_constant_nodes_become_initializers(tmp_path: Path) -> None:
    """All three forms of them."""
    model, _ = repaired("constant_nodes", tmp_path)
    assert {tensor.name for tensor in model.graph.initializer} == {"w", "half", "bias"}


@given(st.lists(st.sampled_from(["a", "b", "a_2", ""]), max_size=12))
def test_fresh_names_never_repeat(wanted: list[str]) -> None:
    """Whatever is asked for."""
    names = Names(onnx.ModelProto())
    given_out = [names.fresh(name) for name in wanted]
    assert len(set(given_out)) == len(given_out)


def test_pruning_zeroes_the_smallest_weights(tmp_path: Path) -> None:
    """As many as asked for, and no large one."""
    model, store = repaired("mlp", tmp_path)
    report = prune_weights(model, store, 0.5)
    assert report.zeroed == pytest.approx(0.5 * report.of, rel=0.02)
    values = store.values(next(t for t in model.graph.initializer if t.name == "w1"))
    assert np.abs(values[values != 0]).min() > 0.01


def test_large_weights_live_beside_the_model(tmp_path: Path) -> None:
    """And come back to the last bit."""
    model = build("wide_mlp").model
    before = [numpy_helper.to_array(tensor) for tensor in model.graph.initializer]
    store = WeightStore(tmp_path)
    light = load_light(tmp_path / "x.onnx", model, store)
    assert light.ByteSize() < 10_000
    whole = onnx.load_from_string(whole_model(light, store))
    for left, right in zip(before, whole.graph.initializer, strict=True):
        np.testing.assert_array_equal(left, numpy_helper.to_array(right))


@pytest.mark.parametrize(
    ("dtype", "values", "fits"),
    [(np.float32, 300_000, False), (np.float32, 200_000, True), (np.int8, 900_000, True), (np.float64, 150_000, False)],
)
def test_the_limit_of_one_file_counts_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: type[np.generic], values: int, fits: bool
) -> None:
    """Not values: from 2 to 8 GB of float32, protobuf's own exception left as a traceback."""
    monkeypatch.setattr(weights, "_PROTOBUF_LIMIT_BYTES", 1_000_000)
    store, model = WeightStore(tmp_path), onnx.ModelProto()
    model.graph.initializer.append(store.tensor(np.zeros(values, dtype), "w"))
    if fits:
        assert len(whole_model(model, store)) == pytest.approx(values * np.dtype(dtype).itemsize, abs=1000)
        return
    with pytest.raises(ConversionError, match="one ONNX file holds less than 2048"):
        whole_model(model, store)


def test_what_protobuf_refuses_is_told(tmp_path: Path) -> None:
    """Whatever its reason: its exception never leaves."""

    class Refusing:
        graph = onnx.GraphProto()

        def SerializeToString(self, *, deterministic: bool) -> bytes:  # noqa: N802
            raise RuntimeError("Failed to serialize proto" if deterministic else "")

    with pytest.raises(ConversionError, match=r"m\.onnx: has 0 MB of constants, and .* \(Failed to serialize proto\)"):
        to_bytes(cast("onnx.ModelProto", Refusing()), tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        (TensorProto.FLOAT, 24),
        (TensorProto.BFLOAT16, 12),
        (TensorProto.DOUBLE, 48),
        (TensorProto.BOOL, 6),
        (TensorProto.STRING, 0),
    ],
)
def test_bytes_of_a_constant_are_those_of_its_values(kind: int, size: int) -> None:
    """By type and shape; text has no size of its own."""
    assert bytes_of(onnx.TensorProto(data_type=kind, dims=[2, 3])) == size


def test_missing_external_data_are_named(tmp_path: Path) -> None:
    """With the tensor that they are of."""
    model = build("mlp").model
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="gone.bin")
    with pytest.raises(ConversionError, match="tensor 'w1' cannot be read"):
        load_light(tmp_path / "x.onnx", model, WeightStore(tmp_path))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("unnamed_nodes", "have no name of their own"),
        ("listed_constants", "listed as inputs"),
        ("described_constants", "value_info entries"),
        ("local_function", "local functions"),
        ("row_transpose", "makes ONNX Runtime 1.24 to 1.31 crash"),
        ("branches", "OpenVINO 1.24 runs the wrong branch"),
        ("scaler_and_product", "whose rank it cannot tell"),
        ("raw_units", "float16 ends at 65504"),
        ("tiny_epsilon", "rounds to zero"),
        ("convolutions", None),
        ("doubles", "float64"),
        ("with_metadata", "source paths of the training machine"),
    ],
)
def test_known_traps_are_found(name: str, words: str | None) -> None:
    """Each with a fix, and none in a model that has none."""
    traps = find_traps(build(name).model)
    if words is None:
        assert not [trap for trap in traps if "name" not in trap.problem]
        return
    assert any(words in trap.problem for trap in traps)
    assert all(trap.fix for trap in traps)


def test_what_reaches_no_output_is_dropped(tmp_path: Path) -> None:
    """A node and a constant that only training needed; not an input, which callers feed."""
    model = build("mlp").model
    model.graph.node.append(helper.make_node("MatMul", ["x", "head"], ["loss"], "head"))
    model.graph.initializer.append(numpy_helper.from_array(np.ones((32, 9), np.float32), "head"))
    model.graph.input.append(helper.make_tensor_value_info("label", TensorProto.FLOAT, ["n"]))
    repaired, notes = repair(model, WeightStore(tmp_path), fed={"x", "label"})
    assert [node.name for node in repaired.graph.node] == ["layer0", "layer1", "layer2"]
    assert "head" not in {tensor.name for tensor in repaired.graph.initializer}
    assert [value.name for value in repaired.graph.input] == ["x", "label"]
    assert "1 nodes and 1 constants reached no output" in notes
