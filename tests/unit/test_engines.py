"""What the comparison with other engines makes of its figures: a wrong conversion never wins, turns are compared."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from engine_child import installed_bytes, reason_of
from engine_installs import last_error
from engine_models import with_fixed_batch, without_scaler
from engine_table import Row, answers_off, chosen, compared, read_row, table, wins
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator


def row(name: str, single_us: list[float], many_us: list[float] | None = None, *, off: float = 0.0) -> Row:
    """A row of one model with one thread, in float32."""
    rounds = {1: single_us, 64: many_us or single_us}
    p99_us = {size: max(times) for size, times in rounds.items()}
    return Row("pump", name, "float32", 1, version="1.2", off=off, rounds=rounds, p99_us=p99_us)


def test_the_agents_choice_is_its_fastest_right_provider_at_each_batch() -> None:
    cpu, openvino = row("agent, cpu", [10, 11, 12], [90, 91, 92]), row("agent, openvino", [30, 31, 32], [60, 61, 62])
    wrong = row("agent, wrong", [1, 1, 1], off=0.5)
    assert chosen([cpu, openvino, wrong], 1) is cpu
    assert chosen([cpu, openvino, wrong], 64) is openvino
    assert chosen([wrong], 1) is None


def test_a_ratio_is_the_median_of_turns_that_followed_each_other() -> None:
    """The machine was four times slower in the last turns, for both."""
    assert compared(row("x", [5, 5, 20, 20, 20]), row("agent, cpu", [10, 10, 40, 40, 40]), 1) == 0.5


def test_an_engine_that_is_much_faster_is_told() -> None:
    rows = [row("agent, cpu", [10, 10, 10]), row("quick", [5, 5, 5], [9, 9, 9])]
    assert wins(rows) == ["pump, batch 1, 1 thread: quick takes 0.50 of the time of agent, cpu"]


def test_an_engine_with_other_answers_wins_nothing_and_is_marked() -> None:
    rows = [row("agent, cpu", [10, 10, 10]), row("cheat", [1, 1, 1], off=0.02)]
    assert wins(rows) == []
    line = next(line for line in table(rows).splitlines() if "cheat" in line and line.startswith("|"))
    assert "**wrong**" in line


def test_answers_that_are_no_numbers_or_too_few_are_infinitely_far_off() -> None:
    agents = [1.0, 2.0, 4.0]
    assert answers_off([1.0, 2.0, 4.04], agents) == pytest.approx(0.01)
    assert math.isinf(answers_off([1.0, 2.0], agents))
    assert math.isinf(answers_off([1.0, 2.0, math.nan], agents))


def test_the_table_has_a_line_for_each_engine_with_what_it_cannot_do() -> None:
    failed = Row("pump", "other", "float32", 1, failed="No conversion rule found for operations: LSTM")
    text = table([row("agent, cpu", [10, 10, 10], [64, 64, 64]), failed])
    head, rule, first, second, *_ = text.splitlines()
    assert first == "| pump | agent, cpu, float32 | 10 / 10 | 1,000,000 | 1.00 | 1.00 | 0.00 | 0 | 0e+00 |"
    assert second.startswith("| pump | other | No conversion rule found for operations: LSTM |")
    assert {line.count("|") for line in (head, rule, first, second)} == {10}
    assert "- agent, cpu: 1.2, 0 MB installed" in text


def test_rows_come_back_from_json_as_they_were() -> None:
    one = row("agent, cpu", [10.0, 11.5], [64.0, 65.0], off=0.001)
    assert read_row(json.loads(json.dumps(asdict(one)))) == one


def test_one_thread_stands_before_two_in_a_cell() -> None:
    two = Row("pump", "agent, cpu", "float32", 2, off=0.0, rounds={1: [7.0], 64: [32.0]}, p99_us={1: 8.0, 64: 40.0})
    assert "| 10 / 10; 7 / 8 | 6,400,000; 2,000,000 |" in table([row("agent, cpu", [10], [10]), two])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            "Exception from core.cpp:84:\nCheck failed\nSummary:\n-- No conversion rule found for operations: A\n",
            "No conversion rule found for operations: A",
        ),
        ("tract has one thread", "tract has one thread"),
        ("", "no word why"),
        ("x" * 500, "x" * 120),
    ],
)
def test_the_line_of_an_error_that_says_what_is_missing_is_told(text: str, reason: str) -> None:
    assert reason_of(text) == reason


def test_of_pips_words_the_error_is_told() -> None:
    said = "WARNING: a location is ignored\nERROR: No matching distribution found for x==1\nWARNING: old pip"
    assert last_error(said) == "ERROR: No matching distribution found for x==1"


def test_what_is_installed_counts_what_a_package_needs() -> None:
    """paho-mqtt needs nothing; packages that are not here count nothing."""
    alone, numpy = installed_bytes(["paho-mqtt"]), installed_bytes(["numpy"])
    assert 100_000 < alone < numpy
    assert installed_bytes(["edge-agent"]) > alone + numpy
    assert installed_bytes(["no-such-package-here"]) == 0


def test_other_engines_are_given_the_same_function(tmp_path: Path) -> None:
    """The scaling as a difference and a product, and one size of batch, give the same answers."""
    nodes = [
        helper.make_node("Scaler", ["readings"], ["y"], domain="ai.onnx.ml", offset=[1.0, 2.0], scale=[0.5, 4.0]),
        helper.make_node("Shape", ["readings"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Concat", ["batch", "two"], ["target"], axis=0),
        helper.make_node("Reshape", ["y", "target"], ["score"]),
    ]
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in ("readings", "score"))
    weights = [numpy_helper.from_array(np.array([number]), name) for name, number in (("zero", 0), ("two", 2))]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", [given], [made], weights), opset_imports=opsets, ir_version=9
    )
    rows = np.array([[1.0, 2.0], [3.0, -4.0], [0.1, 0.2]], np.float32)
    expected: Any = ReferenceEvaluator(model).run(None, {"readings": rows})
    onnx.save(without_scaler(model), tmp_path / "plain.onnx")
    fixed = with_fixed_batch(tmp_path / "plain.onnx", 3, tmp_path / "fixed.onnx")
    found = onnx.load(fixed)
    assert [node.op_type for node in found.graph.node if node.op_type != "Reshape"] == ["Sub", "Mul"]
    answers: Any = ReferenceEvaluator(found).run(None, {"readings": rows})
    assert np.array_equal(answers, expected)
