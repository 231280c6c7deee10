"""The parts of quantization, one by one and without a runtime."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import numpy as np
import onnx
import pytest
from fakes import autoencoder
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from zoo import ZOO, build

from edge_agent.errors import ConversionError, UsageError
from edgetool.choices import Target
from edgetool.commands.compare import match_tensors
from edgetool.graph import weights
from edgetool.graph.edits import Names
from edgetool.graph.metadata import strip_metadata
from edgetool.graph.prune import prune_weights
from edgetool.graph.repairs import repair
from edgetool.graph.traps import find_traps
from edgetool.graph.walks import bytes_of, graphs_of, nodes_of
from edgetool.graph.weights import WeightStore, load_light, size_of, to_bytes, whole_model
from edgetool.precision.context import match_nodes
from edgetool.precision.facts import Facts
from edgetool.precision.float16.convert import Mode, convert_to_half
from edgetool.precision.float16.operators import half_slots
from edgetool.precision.float16.ranges import guard_ranges
from edgetool.precision.float16.retype import retype_io
from edgetool.precision.int8.convert import Scheme, activations_for, convert_to_int8, heavy_nodes
from edgetool.precision.storage import quantize_values, store_weights
from edgetool.verify.drift import compare_answers
from edgetool.verify.scores import agree_on_scores
from edgetool.verify.verifier import state_pairs


def facts_of(model: onnx.ModelProto, **ranges: tuple[float, float]) -> Facts:
    """Types by inference; ranges as given, symmetric around 1 where nothing is given."""
    types: dict[str, int] = {}
    inferred = onnx.shape_inference.infer_shapes(model)
    for graph in graphs_of(inferred.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            types[value.name] = value.type.tensor_type.elem_type
        types.update((tensor.name, tensor.data_type) for tensor in graph.initializer)
    seen = {
        name: {
            "dtype": np.dtype(np.float32 if kind == 1 else np.int64).str,
            "rank": 2,
            "low": ranges.get(name, (-1.0, 1.0))[0],
            "high": ranges.get(name, (-1.0, 1.0))[1],
            "peak": max(map(abs, ranges.get(name, (-1.0, 1.0)))),
            "least": 0.1,
            "sample": 3,
            "finite": True,
        }
        for name, kind in types.items()
    }
    return Facts(types, seen)


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


@pytest.mark.parametrize("name", list(ZOO))
def test_a_float16_graph_is_well_typed(name: str, tmp_path: Path) -> None:
    """Strict type inference accepts every converted model of the zoo."""
    model, store = repaired(name, tmp_path)
    facts = facts_of(model)
    keep = {problem.node: problem.reason for problem in guard_ranges(model, facts, store)}
    half = convert_to_half(model, facts, store, keep)
    whole = onnx.load_from_string(whole_model(half.model, store))
    del whole.graph.value_info[:]
    onnx.shape_inference.infer_shapes(whole, check_type=True, strict_mode=True)


def test_inputs_and_outputs_stay_float32(tmp_path: Path) -> None:
    """Unless float16 is asked for."""
    model, store = repaired("mlp", tmp_path)
    half = convert_to_half(model, facts_of(model), store, {})
    kinds = [value.type.tensor_type.elem_type for value in (*half.model.graph.input, *half.model.graph.output)]
    assert kinds == [TensorProto.FLOAT, TensorProto.FLOAT]
    retype_io(half.model, facts_of(model))
    kinds = [value.type.tensor_type.elem_type for value in (*half.model.graph.input, *half.model.graph.output)]
    assert kinds == [TensorProto.FLOAT16, TensorProto.FLOAT16]


def test_a_kept_node_stays_float32_with_its_weights(tmp_path: Path) -> None:
    """And a cast stands on each side of it."""
    model, store = repaired("mlp", tmp_path)
    half = convert_to_half(model, facts_of(model), store, {"layer0": "asked for"})
    kinds = {tensor.name: tensor.data_type for tensor in half.model.graph.initializer}
    assert kinds["w1"] == TensorProto.FLOAT
    assert kinds["w2_half"] == TensorProto.FLOAT16
    assert half.converted == ["layer1", "layer2"]


def test_branches_take_captured_tensors_in_float16(tmp_path: Path) -> None:
    """The cast stands outside, where both branches can use it."""
    model, store = repaired("branches", tmp_path)
    half = convert_to_half(model, facts_of(model), store, {})
    assert {"a", "m", "b"} <= set(half.converted)
    assert half.half_bytes >= 2 * 24 * 24 * 4


def test_strict_mode_rounds_every_float16_result(tmp_path: Path) -> None:
    """Two casts behind each converted node, and no float16 tensor between nodes."""
    model, store = repaired("mlp", tmp_path)
    strict = convert_to_half(model, facts_of(model), store, {}, mode=Mode.STRICT)
    casts = [node for node in strict.model.graph.node if node.op_type == "Cast"]
    assert len(casts) == 2 * 4


def test_row_transposes_stay_float32(tmp_path: Path) -> None:
    """ONNX Runtime crashes when it fuses a float16 one into a product."""
    model, store = repaired("row_transpose", tmp_path)
    half = convert_to_half(model, facts_of(model), store, {})
    assert "turn" not in half.converted
    assert "back" not in half.converted
    assert "product" in half.converted


@pytest.mark.parametrize(
    ("operator", "convertible"),
    [("MatMul", True), ("Cast", False), ("QuantizeLinear", False), ("NonMaxSuppression", False)],
)
def test_the_standard_decides_what_can_be_float16(operator: str, convertible: bool) -> None:
    """Read from the operator's schema."""
    node = helper.make_node(operator, ["a", "b"][: 2 if operator != "Cast" else 1], ["c"])
    assert (half_slots(node, 17, lambda _: True) is not None) == convertible


def test_the_range_guard_names_tensor_value_and_sample(tmp_path: Path) -> None:
    """A person has to find it in the data."""
    model, store = repaired("raw_units", tmp_path)
    problem = guard_ranges(model, facts_of(model, x=(100800, 101899)), store)[0]
    assert (problem.node, problem.tensor, problem.value, problem.sample) == ("centre", "x", 101899, 3)
    fixed = guard_ranges(model, facts_of(model), store)[0]
    assert (fixed.node, fixed.tensor, fixed.value, fixed.sample) == ("centre", "mean", 101325.0, None)
    by_data = guard_ranges(model, facts_of(model, s=(-70000, 3)), store)
    assert [(p.tensor, p.value, p.sample) for p in by_data if p.node == "product"] == [("s", 70000, 3)]


@pytest.mark.parametrize("name", ["hidden_overflow", "mask_1e9", "tiny_epsilon"])
def test_the_guard_sees_what_no_output_shows(name: str, tmp_path: Path) -> None:
    """Squares inside an operator, masks, and an epsilon that vanishes."""
    model, store = repaired(name, tmp_path)
    problems = guard_ranges(model, facts_of(model, h=(-700, 700)), store)
    assert {p.node for p in problems} & {"norm", "mask", "guard"}


@given(st.integers(1, 6), st.integers(1, 6), st.floats(1e-3, 1e3))
def test_int8_values_are_off_by_half_a_step_at_most(rows: int, columns: int, scale: float) -> None:
    """For each column a step of its own."""
    values = (np.random.default_rng(rows).standard_normal((rows, columns)) * scale).astype(np.float32)
    whole, steps = quantize_values(values, (1,))
    assert np.all(np.abs(values - whole * steps) <= steps * 0.5001)


def test_storage_shrinks_weights_and_leaves_the_graph_float32(tmp_path: Path) -> None:
    """In int8 matrices become a quarter, and what is short becomes float16."""
    model, store = repaired("mlp", tmp_path)
    before = size_of(model, store)
    report = store_weights(model, store, int8=True)
    assert report.int8 == ["w1", "w2"]
    assert set(report.stored) == {"w1", "w2", "b1"}
    assert size_of(model, store) < 0.4 * before
    onnx.checker.check_model(onnx.load_from_string(whole_model(model, store)))


@pytest.mark.parametrize("scheme", list(Scheme))
def test_an_int8_graph_is_valid(scheme: Scheme, tmp_path: Path) -> None:
    """For both schemes, and for convolutions in the static one."""
    for name in ("mlp", "wide_mlp", "convolutions"):
        model, store = repaired(name, tmp_path)
        facts = facts_of(model)
        heavy = {node.name for node in heavy_nodes(model, facts)}
        assert heavy
        made = convert_to_int8(model, facts, store, scheme, activations_for(Target.CPU), heavy)
        onnx.checker.check_model(onnx.load_from_string(whole_model(made.model, store)))


def test_gpus_get_symmetric_activations() -> None:
    """Their integer kernels have no zero point."""
    how = activations_for(Target.GPU)
    assert how.signed
    assert how.symmetric


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


def test_keep_takes_names_and_types(tmp_path: Path) -> None:
    """And refuses what matches nothing."""
    model, _ = repaired("mlp", tmp_path)
    assert set(match_nodes(model, ["Gemm"])) == {"layer0", "layer2"}
    assert set(match_nodes(model, ["layer1"])) == {"layer1"}
    with pytest.raises(UsageError, match="--keep 'Conv': no node has this name or type; the model has: Gemm, Relu"):
        match_nodes(model, ["Conv"])


def test_states_are_found_by_name_and_shape() -> None:
    """And a model that only repeats its input has none."""
    assert state_pairs(build("stateful").model) == [("state", "new_state")]
    assert state_pairs(autoencoder(values=4, hidden=2)) == []


def test_scores_are_compared_by_order_and_verdict() -> None:
    """A shift of all scores keeps their order and flips verdicts."""
    scores = np.arange(10, dtype=np.float32)
    agreement = agree_on_scores([{"score": scores}], [{"score": scores + 2}], threshold=5.0)[0]
    assert agreement.rank_correlation == pytest.approx(1.0)
    assert agreement.verdicts_flipped == 2
    reversed_ = agree_on_scores([{"score": scores}], [{"score": scores[::-1].copy()}], threshold=None)[0]
    assert reversed_.rank_correlation == pytest.approx(-1.0)
    assert reversed_.verdicts_flipped is None


def test_float16_answers_are_compared_in_full_precision() -> None:
    """Infinity in the same place is the same."""
    left = [{"y": np.array([1.0, np.inf], np.float32)}]
    right = [{"y": np.array([1.001, np.inf], np.float16)}]
    assert compare_answers(left, right)[0].drift == pytest.approx(1e-3, rel=0.1)


def test_layers_match_through_the_names_of_converters(tmp_path: Path) -> None:
    """`h` finds `h_half`, and a number that belongs to the name stays part of it."""
    model, store = repaired("mlp", tmp_path)
    half = convert_to_half(model, facts_of(model), store, {})
    assert match_tensors(model, half.model) == [("h", "h_half"), ("r", "r_half"), ("y", "y")]
    ours = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["v_1"]), helper.make_node("Abs", ["x"], ["v_2"])], "g", [], []
    )
    theirs = helper.make_graph([helper.make_node("Relu", ["x"], ["v_2"])], "g", [], [])
    assert match_tensors(helper.make_model(ours), helper.make_model(theirs)) == [("v_2", "v_2")]


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
