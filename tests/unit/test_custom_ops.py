"""What of a model is an operator of a library, and what a runtime says of one that it does not know."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from edgetool.graph.custom_ops import custom_domains, missing_operator


def model_of(*nodes: onnx.NodeProto, functions: tuple[onnx.FunctionProto, ...] = ()) -> onnx.ModelProto:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    return helper.make_model(helper.make_graph(nodes, "g", ports[:1], ports[1:]), functions=functions)


def node_of(domain: str, kind: str = "Thing") -> onnx.NodeProto:
    return helper.make_node(kind, ["x"], ["y"], domain=domain)


@pytest.mark.parametrize(
    "domain", ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "com.microsoft.nchwc", "ai.onnx.preview.training"]
)
def test_what_onnx_and_the_runtimes_have_is_of_no_library(domain: str) -> None:
    """Whatever the operator: a newer one of these is the runtime's to know."""
    assert custom_domains(model_of(node_of(domain))) == ()


@pytest.mark.parametrize("domain", ["ai.onnx.contrib", "com.microsoft.extensions", "ai.onnxes", "pump.ops"])
def test_any_other_domain_is_of_a_library(domain: str) -> None:
    """Two that only begin like the runtimes' own are onnxruntime-extensions'."""
    assert custom_domains(model_of(node_of("ai.onnx.ml"), node_of(domain))) == (domain,)


def test_operators_inside_of_others_count_and_local_functions_do_not() -> None:
    """A branch of If, and the body of a function; the function itself is in the file."""
    branch = helper.make_graph([node_of("b.ops")], "branch", [], [])
    chosen = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    imports = [helper.make_opsetid("a.ops", 1)]
    function = helper.make_function("local", "Mine", ["x"], ["y"], [node_of("a.ops")], imports)
    model = model_of(node_of("local", "Mine"), chosen, functions=(function,))
    assert custom_domains(model) == ("a.ops", "b.ops")
    assert custom_domains(model_of(node_of("local", "Other"), functions=(function,))) == ("a.ops", "local")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            "provider cpu: Fatal error: ai.onnx.contrib:NegPos(-1) is not a registered function/op",
            "operator NegPos of domain ai.onnx.contrib is none of the runtime's, nor of a library that was given",
        ),
        ("Fatal error: com.microsoft:Newest(-1) is not a registered function/op", ""),
        ("No Op registered for Newest with domain_version of 99", ""),
    ],
)
def test_only_an_operator_of_a_library_is_asked_for(said: str, told: str) -> None:
    """One of the runtime's own domain is in a newer runtime, and in no library."""
    assert missing_operator(said) == told
