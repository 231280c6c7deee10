"""Draws graphs with Graphviz, in the form of the `graphviz-pure` package or of an installed `dot`."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import onnx

from edge_agent.errors import MissingExtraError
from edge_agent.messages.text import shown

__all__ = ["draw_graph", "find_program"]

_MAX_NODES = 700
_TIMEOUT_S = 60.0
_WEIGHTY = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "LSTM", "GRU", "RNN", "MatMulInteger", "QLinearMatMul"}
)


def draw_graph(graph: onnx.GraphProto) -> tuple[str, str]:
    """The main graph of a model as SVG.

    Returns:
        The drawing, or an empty text and the reason why there is none.

    Raises:
        MissingExtraError: nothing that draws graphs is installed.
    """
    if len(graph.node) > _MAX_NODES:
        return "", f"{len(graph.node)} nodes are too many to look at in one picture"
    program = find_program()
    try:
        done = subprocess.run(
            [program, "-Tsvg"], input=_dot(graph).encode(), capture_output=True, timeout=_TIMEOUT_S, check=True
        )
    except (subprocess.SubprocessError, OSError) as exc:
        return "", f"{Path(program).name} failed ({exc})"
    return done.stdout.decode(errors="replace"), ""


def find_program() -> str:
    """The program that draws: that of this environment, or any on the path.

    Raises:
        MissingExtraError: there is none.
    """
    # An environment's programs need not be on the path; which() knows what they end with on Windows.
    beside = shutil.which("graphviz-pure", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("graphviz-pure") or shutil.which("dot")
    if found is None:
        raise MissingExtraError("graphviz-pure", "reports")
    return found


def _dot(graph: onnx.GraphProto) -> str:
    lines = [
        "digraph {",
        'rankdir=TB; node [shape=box style="rounded,filled" fillcolor="#eef2f7" fontname="sans-serif"];',
    ]
    makers: dict[str, str] = {}
    constants = {tensor.name for tensor in graph.initializer}
    for number, value in enumerate(value for value in graph.input if value.name not in constants):
        makers[value.name] = f"i{number}"
        lines.append(f'i{number} [label={_quoted(value.name)} shape=ellipse fillcolor="#dff2e1"];')
    for number, node in enumerate(graph.node):
        makers.update((name, f"n{number}") for name in node.output if name)
        color = ' fillcolor="#cfe0fb"' if node.op_type in _WEIGHTY else ""
        lines.append(f"n{number} [label={_quoted(node.op_type)} tooltip={_quoted(node.name)}{color}];")
    for number, node in enumerate(graph.node):
        edges = dict.fromkeys((makers[name], name) for name in node.input if name in makers)
        lines += [f"{maker} -> n{number} [tooltip={_quoted(name)}];" for maker, name in edges]
    for number, value in enumerate(graph.output):
        lines.append(f'o{number} [label={_quoted(value.name)} shape=ellipse fillcolor="#fde9d0"];')
        if value.name in makers:
            lines.append(f"{makers[value.name]} -> o{number};")
    return "\n".join([*lines, "}"])


def _quoted(text: str) -> str:
    return '"' + shown(text).replace("\\", "\\\\").replace('"', '\\"') + '"'
