"""A model that never ends, or takes for ever to load, costs a command no more time than it is given."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edgetool.cli import main


def save(path: Path, graph: onnx.GraphProto) -> Path:
    """A model that any runtime here reads."""
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def rows(name: str) -> onnx.ValueInfoProto:
    """A table of four columns."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", 4])


@pytest.fixture
def endless(tmp_path: Path) -> Path:
    """A Loop whose condition stays true."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Abs", ["v"], ["v_out"])],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            rows("v"),
        ],
        [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []), rows("v_out")],
    )
    loop = helper.make_node("Loop", ["", "true", "x"], ["y"], body=body)
    true = helper.make_tensor("true", TensorProto.BOOL, [], [True])
    return save(tmp_path / "endless.onnx", helper.make_graph([loop], "g", [rows("x")], [rows("y")], [true]))


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    """Branches in each other, 27 of them, for which ONNX Runtime takes twice the time for each."""
    inner = helper.make_graph([helper.make_node("Abs", ["x"], ["r0"])], "b0", [], [rows("r0")])
    for depth in range(1, 28):
        other = helper.make_graph([helper.make_node("Neg", ["x"], [f"e{depth}"])], "e", [], [rows(f"e{depth}")])
        node = helper.make_node("If", ["high"], [f"r{depth}"], then_branch=inner, else_branch=other)
        inner = helper.make_graph([node], f"b{depth}", [], [rows(f"r{depth}")])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0),
        helper.make_node("Greater", ["peak", "zero"], ["high"]),
    ]
    nodes.extend(inner.node)
    zero = helper.make_tensor("zero", TensorProto.FLOAT, [], [0.0])
    return save(tmp_path / "nested.onnx", helper.make_graph(nodes, "g", [rows("x")], [rows("r27")], [zero]))


@pytest.mark.parametrize("command", ["quantize", "optimize", "compare", "pack"])
def test_a_model_that_never_ends_ends_the_command(
    tmp_path: Path, endless: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """After half of its time, which is as long as one answer may take; three limits of 300 s came one after another."""
    table = tmp_path / "d.csv"
    table.write_text("a,b,c,d\n" + "1,2,3,4\n" * 200)
    more = {"compare": [str(endless)], "pack": ["--data", str(table)]}.get(command, [])
    started = time.monotonic()
    assert main([command, str(endless), *more, "--timeout", "4"]) == 65
    assert time.monotonic() - started < 4 + 10
    told = capsys.readouterr().err.strip()
    assert re.search(r"gave no answer in [12]\.\d s, its share of --timeout 4", told)
    assert str(endless) in told
    assert len(told.splitlines()) == 1
    assert not list(tmp_path.glob("*.edge")) + list(tmp_path.glob("endless.*.onnx"))


def test_bench_leaves_out_what_never_ends(endless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The other models would still be timed."""
    assert main(["bench", str(endless), "--provider", "cpu", "--batch", "1", "--timeout", "4", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["rows"] == []
    (left_out,) = report["left_out"]
    assert re.fullmatch(
        r"endless\.onnx: provider cpu: gave no answer in [12]\.\d s, its share of --timeout 4", left_out
    )


@pytest.mark.parametrize("kind", ["endless", "nested"])
def test_inspect_shows_what_it_knows_without_a_run(
    kind: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    """Operators, sizes and traps; and that nobody knows which provider takes which node."""
    path = request.getfixturevalue(kind)
    started = time.monotonic()
    assert main(["inspect", str(path), "--timeout", "3", "--json"]) == 0
    assert time.monotonic() - started < 3 + 10
    report = json.loads(capsys.readouterr().out)
    assert report["operators"]["Loop" if kind == "endless" else "If"] > 0
    assert report["would_be"]["float16"] > 0
    assert [(place["provider"], place["taken"]) for place in report["placements"]] == [("cpu", 0)]
    assert "while it was first run and gave no answer in" in report["placements"][0]["problem"]


def test_doctor_finds_that_a_model_does_not_end(endless: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As one finding among others."""
    assert main(["doctor", str(endless), "--timeout", "12", "--json"]) == 0
    findings = json.loads(capsys.readouterr().out)["findings"]
    (found,) = [f for f in findings if f["subject"] == "endless.onnx on cpu"]
    assert not found["good"]
    assert found["fix"] == "give it more time with --timeout, unless it never ends"


@pytest.mark.parametrize("timeout", ["0", "-1", "soon"])
def test_a_time_is_asked_for(endless: Path, timeout: str) -> None:
    """Before anything is read."""
    assert main(["quantize", str(endless), "--timeout", timeout]) == 2


def test_a_quote_in_a_name_is_no_fault_of_the_provider(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The runtime writes names into its profile as they are, and what one makes of JSON was read as nodes."""
    names = ['a"b', "c\\d", 'e","args":{"provider":"X","op_name":"Y"},"x":"', "same", "same"]
    nodes = [
        helper.make_node("Abs" if n % 2 else "Neg", [f't"{n}'], [f't"{n + 1}'], name=name)
        for n, name in enumerate(names)
    ]
    path = save(tmp_path / "m.onnx", helper.make_graph(nodes, "g", [rows('t"0')], [rows('t"5')]))
    assert main(["bench", str(path), "--batch", "1", "--provider", "cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["left_out"] == []
    assert [(row["nodes"], row["not_placed"]) for row in report["rows"]] == [(5, 0)]
    assert main(["inspect", str(path), "--json"]) == 0
    place = json.loads(capsys.readouterr().out)["placements"][0]
    assert (place["provider"], place["taken"], place["problem"]) == ("cpu", 5, "")
