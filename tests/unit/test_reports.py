"""Whoever asks for a chart or a drawn graph hears what is missing before the work, and not after it."""

from __future__ import annotations

import shutil
import sys
import tomllib
from pathlib import Path

import pytest

from edge_agent.errors import ConversionError, MissingExtraError
from edgetool.cli import main
from edgetool.commands.bench import BenchReport
from edgetool.reports.drawing import find_program
from edgetool.reports.looked_at import plot_bench

ROOT = Path(__file__).parents[2]
NEEDED = "which is not installed; run: pip install 'edge-agent[reports]'"


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installation without the extra, and without Graphviz of the system."""
    monkeypatch.setitem(sys.modules, "leather", None)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "package"),
    [
        (["inspect", "none.onnx", "--html", "p.html"], "graphviz-pure"),
        (["bench", "none.onnx", "--plot", "p.svg"], "leather"),
    ],
)
def test_what_draws_is_asked_for_before_the_work(
    bare: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], package: str
) -> None:
    """The model, which is not there, has not been looked at."""
    assert main(arguments) == 69
    assert capsys.readouterr().err == f"edgetool: needs {package}, {NEEDED}\n"
    assert list(bare.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        ["compare", "none.onnx", "none.onnx", "--html", "p.html"],
        ["quantize", "none.onnx", "--report", "p.html"],
        ["inspect", "none.onnx"],
        ["bench", "none.onnx", "--provider", "cpu"],
    ],
)
def test_what_draws_nothing_needs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """It gets as far as the model, which is not there."""
    monkeypatch.setitem(sys.modules, "leather", None)
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 65
    assert "none.onnx: no such file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "none.onnx", "--html", "away/p.html"],
        ["compare", "none.onnx", "none.onnx", "--html", "away/p.html"],
        ["bench", "none.onnx", "--plot", "away/p.svg"],
        ["quantize", "none.onnx", "--report", "away/p.html"],
    ],
)
def test_a_folder_that_is_not_there_is_told_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """Minutes of timing would be lost otherwise."""
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert "there is no folder away" in capsys.readouterr().err


def test_graphviz_of_the_system_will_do(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any `dot` on the path."""
    with pytest.raises(MissingExtraError):
        find_program()
    dot = bare / "dot"
    dot.write_text("#!/bin/sh\n")
    dot.chmod(0o755)
    monkeypatch.setenv("PATH", str(bare))
    assert find_program() == shutil.which("dot") == str(dot)


def test_the_host_tool_needs_no_library_that_draws() -> None:
    """They are an extra of their own, and part of what the locked requirements hold."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert [need.partition(">")[0] for need in extras["reports"]] == ["leather", "graphviz-pure"]
    assert not {"leather", "graphviz-pure"} & {need.partition(">")[0] for need in extras["host"]}
    locked = (ROOT / "requirements" / "development.txt").read_text(encoding="utf-8")
    assert "leather==" in locked
    assert "graphviz-pure==" in locked
    assert "--extra reports" in (ROOT / "Makefile").read_text(encoding="utf-8")


def test_nothing_that_was_timed_is_no_picture(tmp_path: Path) -> None:
    """It is told why there is nothing to draw; leather would end in a traceback."""
    with pytest.raises(ConversionError, match=r"nothing was timed: pump: provider cpu: failed$"):
        plot_bench(tmp_path / "plot.svg", BenchReport([], ["pump: provider cpu: failed"]))
    assert not (tmp_path / "plot.svg").exists()
