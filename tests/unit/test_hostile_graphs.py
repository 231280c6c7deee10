"""Models whose names, sizes or numbers were made to cost time or memory cost none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.errors import ConversionError, DataError
from edgetool.commands.compare import match_tensors
from edgetool.graph.edits import Names
from edgetool.graph.integers import integer_operators
from edgetool.graph.onnx_file import load_model
from edgetool.verify import samples
from edgetool.verify.samples import TooLargeError, generate_samples, make_batch
from edgetool.verify.verifier import state_pairs


def value(name: str, shape: Sequence[int | str] = ("N", 4)) -> onnx.ValueInfoProto:
    """An input or output of floats."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def model_of(
    nodes: Sequence[onnx.NodeProto], inputs: Sequence[onnx.ValueInfoProto], outputs: Sequence[onnx.ValueInfoProto]
) -> onnx.ModelProto:
    """A model."""
    return helper.make_model(helper.make_graph(nodes, "g", inputs, outputs))


@pytest.mark.timeout(10)
def test_a_name_of_a_megabyte_is_matched_at_once() -> None:
    """What converters put behind a name was taken off a piece at a time, over the whole name."""
    name = "t" + "_half" * 200_000
    model = model_of([helper.make_node("Abs", ["x"], [name])], [value("x")], [value(name)])
    assert match_tensors(model, model) == [(name, name)]


def test_what_converters_add_is_still_looked_through() -> None:
    """Several times, and with numbers."""
    left = model_of([helper.make_node("Abs", ["x"], ["t"])], [value("x")], [value("t")])
    right = model_of([helper.make_node("Abs", ["x"], ["t_half_2_cast_output_quantized"])], [value("x")], [value("y")])
    assert match_tensors(left, right) == [("t", "t_half_2_cast_output_quantized")]


@pytest.mark.timeout(10)
def test_thousands_of_states_are_paired_at_once() -> None:
    """Each input was held against each output."""
    names = [f"layer{chr(97 + n % 26)}{'xyz'[n % 3] * (n // 26 + 1)}" for n in range(3000)]
    nodes = [helper.make_node("Abs", [f"{name}_in"], [f"{name}_out"]) for name in names]
    inputs = [value("x"), *(value(f"{name}_in") for name in names)]
    model = model_of(nodes, inputs, [value(f"{name}_out") for name in names])
    assert state_pairs(model) == [(f"{name}_in", f"{name}_out") for name in names]


@pytest.mark.timeout(10)
def test_as_many_nodes_as_one_likes_may_want_one_name() -> None:
    """Each began to count anew."""
    names = Names(model_of([], [value("x")], [value("x")]))
    found = [names.fresh("Abs_") for _ in range(50_000)]
    assert found[:3] == ["Abs_", "Abs__2", "Abs__3"]
    assert len(set(found)) == 50_000


def test_made_up_samples_have_a_bound() -> None:
    """Eight terabytes were asked for, which ended in a traceback."""
    model = model_of([], [value("x", (1_000_000, 1_000_000))], [value("x")])
    for make in (lambda: generate_samples(model, None), lambda: make_batch(model, 1_000_000)):
        with pytest.raises(TooLargeError) as caught:
            make()
        assert isinstance(caught.value, DataError)
        assert "input 'x' takes 1000000000000 values, and at most 268435456 are made up" in str(caught.value)


def test_large_samples_are_fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four of them fit, and not eight; with a small limit, because making them takes time."""
    monkeypatch.setattr(samples, "_MADE_UP_LIMIT", 400)
    model = model_of([], [value("x", (1, 100))], [value("x")])
    assert len(generate_samples(model, None).samples) == 4


@pytest.mark.parametrize("where", ["initializer", "attribute"])
@pytest.mark.parametrize(("dims", "held"), [([4], 1), ([10**12], 4), ([-1], 1), ([2, 2], 5)])
def test_a_constant_that_does_not_fill_its_shape_is_damage(
    tmp_path: Path, where: str, dims: list[int], held: int
) -> None:
    """Wherever it is kept, and in whichever field; some ended in a traceback."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=dims, float_data=[1.0] * held)
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"])], [value("x")], [value("y")])
    if where == "initializer":
        model.graph.initializer.append(tensor)
    else:
        model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    for external in (True, False):
        with pytest.raises(ConversionError, match=rf"is damaged: 'w' has {held} values, expected "):
            load_model(tmp_path / "m.onnx", external=external)


@pytest.mark.parametrize(
    ("old", "told"),
    [
        (b"output", "ValueInfoProto name|NodeProto output"),
        (b"operator", "NodeProto name"),
        (b"maker", "ModelProto producer_name"),
        (b"batch", "Dimension dim_param"),
    ],
)
def test_a_name_that_is_no_text_is_told(tmp_path: Path, old: bytes, told: str) -> None:
    """Wherever it stands: protobuf gives it as bytes, which ended in tracebacks."""
    node = helper.make_node("Abs", ["x"], ["output"], name="operator")
    model = model_of([node], [value("x", ("batch", 4))], [value("output", ("batch", 4))])
    model.producer_name = "maker"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString().replace(old, b"\xff" * len(old)))
    with pytest.raises(ConversionError, match=rf"is not an ONNX model \(({told}) is not UTF-8"):
        load_model(tmp_path / "m.onnx")


def test_an_empty_constant_of_a_shape_that_no_array_has_is_damage(tmp_path: Path) -> None:
    """Its values fill it, since there are none; numpy refuses it all the same."""
    model = model_of([helper.make_node("Add", ["x", "w"], ["y"])], [value("x")], [value("y")])
    model.graph.initializer.append(onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[0, 1 << 62]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match="is damaged: 'w' has the shape"):
        load_model(tmp_path / "m.onnx")


def test_types_that_onnx_has_not_are_told(tmp_path: Path) -> None:
    """Of a constant, an input or an output: the fuzzing found each of them."""
    for place in ("constant", "input", "output"):
        model = model_of([helper.make_node("Add", ["x", "w"], ["y"])], [value("x")], [value("y")])
        weight = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], raw_data=bytes(16))
        model.graph.initializer.append(weight)
        if place == "constant":
            model.graph.initializer[0].data_type = 119
        else:
            getattr(model.graph, place)[0].type.tensor_type.elem_type = 88
        (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
        with pytest.raises(ConversionError, match=r"'[wxy]' (of type 119 cannot be read|has type 88, which onnx)"):
            load_model(tmp_path / "m.onnx")


_SHORT = {
    "rounds nothing": (
        helper.make_node("QuantizeLinear", [], ["q"], name="n"),
        "QuantizeLinear 'n' has 0 inputs, .* 2",
    ),
    "makes no constant": (helper.make_node("Constant", [], [], value_float=1.0), "Constant '' has 0 outputs, .* 1"),
    "turns nothing": (helper.make_node("Transpose", ["x"], [], perm=[1, 0]), "Transpose '' has 0 outputs, .* 1"),
    "one factor": (helper.make_node("MatMul", ["x"], ["q"], domain="ai.onnx"), "MatMul '' has 1 inputs, .* 2"),
    "holds nothing": (helper.make_node("SVMRegressor", [], ["q"], domain="ai.onnx.ml"), "SVMRegressor '' has 0 inputs"),
}


@pytest.mark.parametrize("where", ["graph", "branch", "function"])
@pytest.mark.parametrize("name", list(_SHORT))
def test_an_operator_without_its_inputs_or_outputs_is_damage(tmp_path: Path, where: str, name: str) -> None:
    """Wherever it stands: whoever looked at the graph before a runtime did, ended in a traceback."""
    node, told = _SHORT[name]
    model = model_of([helper.make_node("Abs", ["x"], ["y"])], [value("x")], [value("y")])
    if where == "graph":
        model.graph.node.append(node)
    elif where == "branch":
        branch = helper.make_graph([node], "branch", [], [value("z")])
        model.graph.node.append(helper.make_node("If", ["b"], ["z"], then_branch=branch, else_branch=branch))
    else:
        model.functions.append(helper.make_function("local", "f", [], [], [node], [helper.make_opsetid("", 17)]))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ConversionError, match=f"is damaged: {told}.*; export it again"):
        load_model(tmp_path / "m.onnx", external=False)


@pytest.mark.parametrize("opset", [-(1 << 40), 0, 17, 1 << 40])
def test_operators_that_onnx_does_not_know_may_have_any_number(tmp_path: Path, opset: int) -> None:
    """A runtime's own ones, and what an optional input was left out of."""
    nodes = [
        helper.make_node("QuantizeLinear", [], [], domain="com.microsoft"),
        helper.make_node("Unheard", [], []),
        helper.make_node("Clip", ["x"], ["y"]),
    ]
    model = model_of(nodes, [value("x")], [value("y")])
    model.opset_import[0].version = opset
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert len(load_model(tmp_path / "m.onnx").graph.node) == 3
    assert integer_operators(model) == []
