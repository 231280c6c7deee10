"""onnxconverter-common's float16 form: tried first, judged as every form, taken where it is as good as our own."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from pathlib import Path

import onnx
import pytest
from zoo import build
from zoo_parts import write_npz

import edgetool
from edgetool.cli import main
from edgetool.graph.walks import nodes_of
from edgetool.precision.context import Converter


def put(folder: Path, name: str) -> tuple[Path, Path]:
    made = build(name)
    model, data = folder / f"{name}.onnx", folder / f"{name}.npz"
    onnx.save(made.model, model)
    write_npz(data, made.samples)
    return model, data


def test_the_librarys_form_is_taken_where_it_is_as_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The report names it, in text, JSON and HTML, and the model that came in is the one that is still there."""
    model, data = put(tmp_path, "mlp")
    before, page = hashlib.sha256(model.read_bytes()).digest(), tmp_path / "report.html"
    options = ["quantize", str(model), "--target", "gpu", "--data", str(data)]
    assert main([*options, "--report", str(page)]) == 0
    assert "converted  to float16 by onnxconverter-common" in capsys.readouterr().out
    assert "<td>converted to float16 by</td><td>onnxconverter-common</td>" in page.read_text(encoding="utf-8")
    assert main([*options, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["verdict"], report["converter"], report["rungs_not_taken"]) == (
        "converted",
        "onnxconverter-common",
        [],
    )
    assert hashlib.sha256(model.read_bytes()).digest() == before
    names = [node.name for node in nodes_of(onnx.load(report["output"]).graph)]
    assert all(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("branches", r"onnxconverter-common: provider cpu: Node \(choose\) Op \(If\)"),
        ("gru_optional", r"onnxconverter-common: fails \("),
        ("energy_overflow", r"onnxconverter-common: is right, and has \d+ nodes with its casts, ours \d+"),
    ],
)
def test_our_own_form_is_taken_where_the_librarys_is_not(tmp_path: Path, name: str, reason: str) -> None:
    """It does not load, the library fails, or it is right and has more casts: each is told."""
    model, data = put(tmp_path, name)
    report = edgetool.quantize(model, target="gpu", data=data)
    assert report.converter is Converter.OWN
    assert [rung.reason for rung in report.rungs if re.match(reason, rung.reason)]


def test_nothing_is_converted_for_a_cpu(tmp_path: Path) -> None:
    """There, float16 is a way to store weights."""
    model, data = put(tmp_path, "mlp")
    report = edgetool.quantize(model, data=data)
    assert (report.verdict, report.converter) == (edgetool.Verdict.STORED, None)


def test_without_the_library_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no other form is taken in silence."""
    model, data = put(tmp_path, "mlp")
    monkeypatch.setitem(sys.modules, "onnxconverter_common", None)
    with pytest.raises(edgetool.MissingExtraError, match=r"edge-agent\[host\]"):
        edgetool.quantize(model, target="gpu", data=data)
