"""The parts of quantization, one by one and without a runtime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fakes import autoencoder
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from zoo import ZOO, build

from edge_agent.errors import UsageError
from edgetool.choices import Target
from edgetool.commands.compare import match_tensors
from edgetool.graph.repairs import repair
from edgetool.graph.walks import graphs_of
from edgetool.graph.weights import WeightStore, size_of, whole_model
from edgetool.graph.widen import widen
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


@pytest.mark.parametrize("name", list(ZOO))
@pytest.mark.parametrize("stored", [True, False], ids=["stored", "computed"])
def test_what_is_float16_becomes_float32_again(name: str, stored: bool, tmp_path: Path) -> None:
    """Every model of the zoo, stored or computed in float16; inputs and outputs keep their type."""
    model, store = repaired(name, tmp_path)
    facts = facts_of(model)
    if stored:
        store_weights(model, store)
    else:
        keep = {problem.node: problem.reason for problem in guard_ranges(model, facts, store)}
        model = convert_to_half(model, facts, store, keep).model
        retype_io(model, facts)
    borders = [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)]
    halves = {t.name for g in graphs_of(model.graph) for t in g.initializer if t.data_type == TensorProto.FLOAT16}
    assert widen(model, store) == len(halves)
    if not halves:
        return
    assert [value.type.tensor_type.elem_type for value in (*model.graph.input, *model.graph.output)] == borders
    whole = onnx.load_from_string(whole_model(model, store))
    del whole.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(whole, check_type=True, strict_mode=True)
    inside = [value for graph in graphs_of(inferred.graph) for value in graph.value_info]
    assert not [value.name for value in inside if value.type.tensor_type.elem_type == TensorProto.FLOAT16]
    assert not [t for g in graphs_of(whole.graph) for t in g.initializer if t.data_type == TensorProto.FLOAT16]
    if stored:
        assert not [node for node in whole.graph.node if node.op_type == "Cast" and node.input[0] in halves]
