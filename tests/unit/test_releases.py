"""What each runtime runs, by a table: of what is installed, it says the truth."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from edge_agent.engine import readable
from edge_agent.engine.providers import import_runtime
from edge_agent.engine.releases import NEWEST, OLDEST, READS, first_release, in_words, runtimes_from
from edge_agent.engine.wheels import PACKAGES
from edge_agent.errors import ConversionError, UsageError
from edgetool.graph.runtimes import check_runtimes, parse_runtimes, reach_of, runtimes_of, too_new_for

PATH = Path("m.onnx")
HERE = onnx.defs.onnx_opset_version()


def model(operator: str = "Relu", *, opset: int, ir: int = 10, domain: str = "") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(operator, ["x"], ["y"], domain=domain)],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def test_the_installed_runtime_reads_what_the_table_says() -> None:
    """And nothing above it."""
    ort = import_runtime()
    here = tuple(int(part) for part in ort.__version__.split(".")[:2])
    reads = READS[max(release for release in READS if release <= here)]
    assert readable._takes(ort, reads.ir) and not readable._takes(ort, reads.ir + 1)  # noqa: PT018
    for domain, opset in reads.opsets.items():
        assert readable._takes(ort, 8, domain, opset)
        assert not readable._takes(ort, 8, domain, opset + 1)


def test_the_oldest_releases_are_those_that_can_be_installed() -> None:
    """As pyproject.toml bounds them."""
    extras = tomllib.loads(Path("pyproject.toml").read_text())["project"]["optional-dependencies"]
    for extra, package in PACKAGES.items():
        bound = re.fullmatch(rf"{package}>=(\d+)\.(\d+)(\.\d+)?", extras[extra][0])
        assert bound is not None
        assert OLDEST[extra] == (int(bound[1]), int(bound[2])) <= NEWEST[extra]


@pytest.mark.parametrize(
    ("ir", "opsets", "expected"),
    [
        (10, {"ai.onnx": 21}, {"cpu": "1.23", "openvino": "1.24"}),
        (12, {"ai.onnx": 21}, {"cpu": "1.24", "openvino": "1.24"}),
        (13, {"ai.onnx": 26, "ai.onnx.ml": 5}, {"cpu": "1.25"}),
        (14, {"ai.onnx": 21, "mine": 7}, {"cpu": "1.32"}),
        (15, {"ai.onnx": 21}, {}),
        (10, {"ai.onnx": 21, "ai.onnx.ml": 6}, {}),
    ],
)
def test_who_reads_which_versions(ir: int, opsets: dict[str, int], expected: dict[str, str]) -> None:
    """The oldest release of each extra; a domain of somebody's own says nothing."""
    assert runtimes_from(first_release(ir, opsets)) == expected


def test_runtimes_in_words() -> None:
    """An extra of a later version of ours is passed over."""
    assert in_words({"cpu": "1.25", "npu": "1.40"}) == "onnxruntime 1.25 or later (extra cpu)"
    assert in_words({}) == "no runtime that is known here"


@pytest.mark.skipif(HERE < 28, reason="the installed onnx does not know these operators")
@pytest.mark.parametrize(
    ("operator", "opset", "runs", "refused"),
    [
        ("Relu", 26, {"cpu": "1.25"}, "its opset of ai.onnx is 26"),
        ("CumProd", 26, {"cpu": "1.25"}, "operator CumProd of ai.onnx is of version 26"),
        ("Swish", 24, {"cpu": "1.24", "openvino": "1.24"}, "operator Swish of ai.onnx is of version 24"),
        ("RMSNormalization", 23, {"cpu": "1.23", "openvino": "1.24"}, ""),
        ("Attention", 25, {"cpu": "1.32"}, "operator Attention of ai.onnx is of version 25"),
        ("SwiGLU", 28, {}, "operator SwiGLU of ai.onnx is of version 28"),
        ("RoiAlign", 22, {}, "operator RoiAlign of ai.onnx is of version 22"),
    ],
)
def test_an_operator_that_came_later_is_refused_by_name(
    operator: str, opset: int, runs: dict[str, str], refused: str
) -> None:
    """With its domain and version, and with who runs it."""
    made = model(operator, opset=opset)
    assert runtimes_of(made) == runs
    if not refused:
        check_runtimes(PATH, made, ())
        return
    with pytest.raises(ConversionError) as caught:
        check_runtimes(PATH, made, ())
    told = str(caught.value)
    assert refused in told
    assert "\n" not in told
    assert ("--runtimes " + ",".join(runs) in told) == bool(runs)
    if runs:
        check_runtimes(PATH, made, tuple(runs))
    if "openvino" not in runs:
        with pytest.raises(ConversionError, match=r"onnxruntime-openvino 1\.24 does not run it"):
            check_runtimes(PATH, made, ("openvino",))


@pytest.mark.parametrize(
    ("operator", "runs"),
    [
        ("CDist", {"cpu": "1.23", "openvino": "1.24"}),
        ("MoE", {"cpu": "1.24", "openvino": "1.24"}),
        ("GatedAdd", {"cpu": "1.30"}),
    ],
)
def test_an_operator_of_the_runtime_s_own_domain_came_with_a_release(operator: str, runs: dict[str, str]) -> None:
    """Its version is 1 for ever, so only the name tells."""
    made = model(operator, opset=21, domain="com.microsoft")
    assert runtimes_of(made) == runs
    if "openvino" not in runs:
        with pytest.raises(ConversionError, match=r"operator GatedAdd of com\.microsoft is of version 1"):
            check_runtimes(PATH, made, ())


def test_names_of_runtimes() -> None:
    """As the extras are called."""
    assert parse_runtimes(None) == ()
    assert parse_runtimes("cpu, openvino") == ("cpu", "openvino")
    with pytest.raises(UsageError, match=r"--runtimes 'cuda': expected names of cpu, openvino, such as cpu"):
        parse_runtimes("cuda")


@pytest.mark.skipif(HERE < 26, reason="the installed onnx does not know this opset")
def test_what_a_runtime_makes_of_a_model_as_it_is_and_packed() -> None:
    """Relu is the same since long; the cumulative product came with opset 26."""
    cpu, openvino = sorted(reach_of(model(opset=26, ir=13)), key=lambda reach: reach.extra)
    assert (cpu.as_it_is, cpu.packed, cpu.reason) == ("1.25", "1.23", "")
    assert cpu.in_words() == "onnxruntime 1.23 and later run it once it is packed; as it is, 1.25 and later do"
    assert (openvino.as_it_is, openvino.packed, openvino.reason) == (None, "1.24", "")
    assert openvino.in_words() == "onnxruntime-openvino 1.24 and later run it once it is packed"
    cpu, openvino = sorted(reach_of(model("CumProd", opset=26, ir=13)), key=lambda reach: reach.extra)
    assert (cpu.packed, openvino.packed) == ("1.25", None)
    told = "onnxruntime-openvino does not run it: operator CumProd of ai.onnx is of version 26"
    assert openvino.in_words() == told


@pytest.mark.skipif(HERE < 26, reason="the installed onnx does not know this opset")
@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (
            "1.24.1",
            "operator CumProd of ai.onnx is of version 26; onnxruntime 1.25 or later (extra cpu) runs it",
        ),
        ("1.31.1", ""),
        ("unknown", ""),
        ("", ""),
    ],
)
def test_a_runtime_that_is_too_old(version: str, expected: str) -> None:
    """In words, with the one to install."""
    assert too_new_for(model("CumProd", opset=26), version) == expected
