"""What PyTorch has saved and no device can use, or may not be run unasked, is refused in one line with what to do."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import swings
import torch
import torch_models as kinds
from processes import run_tool
from swings import CHANNELS, WINDOW

from edge_agent.errors import AccuracyError, ConversionError, DataError, UsageError
from edgetool.commands.export import export

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

W, C = WINDOW, CHANNELS


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swings.write(tmp_path_factory.mktemp("data") / "normal.csv", swings.readings(1200, seed=1))


def test_a_program_for_batches_of_one_size_is_refused_with_a_line_that_helps(tmp_path: Path, normal: Path) -> None:
    """Where that size is built into it, as into the first state of an LSTM; the line is followed here."""
    module = kinds.Lstm().eval()
    torch.export.save(torch.export.export(module, (torch.zeros(4, W, C),)), tmp_path / "m.pt2")
    line = "torch.export.export(model.eval(), (x,), dynamic_shapes=({0: torch.export.Dim('batch')},))"
    told = f"m.pt2 was saved for batches of 4 alone; save it for all sizes: {line}, with x of two items"
    with pytest.raises(ConversionError, match=re.escape(told)):
        export(tmp_path / "m.pt2", data=normal, trust_code=True)
    assert not (tmp_path / "m.onnx").exists()
    torch.export.save(eval(line, {"torch": torch, "model": module, "x": torch.zeros(2, W, C)}), tmp_path / "m.pt2")
    assert export(tmp_path / "m.pt2", data=normal, trust_code=True).agreed.deviation <= 1e-4


def test_random_numbers_are_refused(tmp_path: Path, normal: Path) -> None:
    """By their operator, and in a module that PyTorch exports in training mode."""
    batch = torch.export.Dim("batch")
    for name, module in (("dice", kinds.Dice()), ("dropout", kinds.Dense().train())):
        program = torch.export.export(module, (torch.zeros(2, C),), dynamic_shapes=({0: batch},))
        torch.export.save(program, tmp_path / f"{name}.pt2")
        with pytest.raises(
            (ConversionError, AccuracyError), match=r"draws random numbers.*if self\.training else mean|draws random"
        ):
            export(tmp_path / f"{name}.pt2", data=normal, trust_code=True)


class Trap:
    """Leaves a marker when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.marker,)


def test_nothing_runs_before_somebody_trusts_it(tmp_path: Path, normal: Path) -> None:
    """A pickle in a .pt and in weights; TorchScript; and a program, which PyTorch writes as Python when it reads it."""
    marker = tmp_path / "marker"
    torch.save({"a": Trap(marker)}, tmp_path / "pickle.pt")
    torch.export.save(torch.export.export(kinds.Dense().eval(), (torch.zeros(2, C),)), tmp_path / "good.pt2")
    (tmp_path / "cut.pt2").write_bytes((tmp_path / "good.pt2").read_bytes()[:2000])
    torch.jit.save(torch.jit.script(kinds.Dense().eval()), tmp_path / "script.pt")
    shutil.copy(kinds.__file__, tmp_path / "model.py")
    for source, word, weights in (
        ("pickle.pt", "--trust-pickle", None),
        ("good.pt2", "--trust-code", None),
        ("cut.pt2", "damaged, or was not copied", None),
        ("script.pt", "--trust-code", None),
        ("model.py:Dense", "more than plain tensors", "pickle.pt"),
    ):
        for command in ("export", "pack"):
            told = ["--weights", str(tmp_path / weights), "--shape", "4"] if weights else []
            done = run_tool("edgetool", command, f"{tmp_path}/{source}", "--data", normal, *told)
            assert done.returncode in (2, 65), (source, done.stdout)
            assert word in done.stderr, source
            assert not marker.exists(), source
    done = run_tool("edgetool", "quantize", tmp_path / "good.pt2")
    assert (done.returncode, "edgetool export" in done.stderr) == (65, True)
    with pytest.raises(ConversionError, match=r"expected a torch.nn.Module"):
        export(tmp_path / "pickle.pt", data=normal, trust_pickle=True, shapes=["4"])
    assert marker.exists()


def test_what_is_missing_is_asked_for(tmp_path: Path, normal: Path) -> None:
    """Shapes, the module of weights, the other input; each with the words to give."""
    module = kinds.Dense().eval()
    torch.save(module.state_dict(), tmp_path / "weights.pt")
    shutil.copy(kinds.__file__, tmp_path / "model.py")
    named = f"{tmp_path / 'model.py'}:Dense"
    with pytest.raises(ConversionError, match=r"holds weights without the module.*model\.py:factory --weights"):
        export(tmp_path / "weights.pt", data=normal)
    for kind, shape in (("Dense", "4 for a row"), ("Convolution", "4x60 for .*channels first"), ("Lstm", "60x4 for")):
        with pytest.raises(UsageError, match=rf"does not hold the shape of x; say it.*: --shape {shape}"):
            export(f"{tmp_path / 'model.py'}:{kind}", data=normal)
    # What is known to be missing is asked for at once.
    torch.jit.script(module).save(tmp_path / "script.pt")
    torch.save(module, tmp_path / "whole.pt")
    for name, option in (("script", "--trust-code"), ("whole", "--trust-pickle")):
        with pytest.raises(UsageError, match=rf"{option}, and say the shape of a row or window.* --shape 9x60 where"):
            export(tmp_path / f"{name}.pt", data=normal)
        with pytest.raises(UsageError, match=rf"{option}; better"):
            export(tmp_path / f"{name}.pt", data=normal, shapes=["4"])
    with pytest.raises(UsageError, match=r"--shape '4x': expected the sizes of one row or window"):
        export(named, data=normal, shapes=["4x"])
    with pytest.raises(UsageError, match=r"--shape y:…: model.py:Dense takes x"):
        export(named, data=normal, shapes=["4", "y:3"])
    with pytest.raises(ConversionError, match="has no 'Sparse'"):
        export(f"{tmp_path / 'model.py'}:Sparse", data=normal, shapes=["4"])
    with pytest.raises(ConversionError, match=r"weights of another module: it lacks inner.bias_hh_l0"):
        export(f"{tmp_path / 'model.py'}:Gru", data=normal, shapes=["16x4"], weights=tmp_path / "weights.pt")
    with pytest.raises(ConversionError, match="no such file"):
        export(f"{tmp_path / 'model'}.py:Dense", data=normal, shapes=["4"], weights=tmp_path / "none.pt")
    with pytest.raises(DataError, match="4 channels, which do not fit input 'x' of shape"):
        export(f"{tmp_path / 'model.py'}:SoftSensor", data=normal, shapes=["3"])
    with pytest.raises(UsageError, match=r"--framework lightgbm: .* is of torch"):
        export(tmp_path / "weights.pt", data=normal, framework="lightgbm")
    with pytest.raises(UsageError, match=r"is for module\.py:factory"):
        export(tmp_path / "weights.pt", data=normal, weights=tmp_path / "weights.pt")
    (tmp_path / "sized.py").write_text(
        "from model import Dense\nclass Sized(Dense):\n    def __init__(self, inputs, hidden=3):\n        pass\n"
    )
    told = r"takes inputs, .* def build\(\): return Sized\(inputs=…\), and give .*:build"
    with pytest.raises(ConversionError, match=told):
        export(f"{tmp_path / 'sized.py'}:Sized", data=normal, shapes=["4"])
    torch.save({"net": module.state_dict(), "optimizer": {"lr": 0.1}, "epoch": 3}, tmp_path / "own.pt")
    assert export(named, data=normal, shapes=["4"], weights=tmp_path / "own.pt").agreed.deviation <= 1e-4
    torch.save({"state_dict": module.state_dict(), "ema": module.state_dict()}, tmp_path / "two.pt")
    with pytest.raises(ConversionError, match=r"under state_dict and ema; save those that are meant"):
        export(named, data=normal, shapes=["4"], weights=tmp_path / "two.pt")
    (tmp_path / "junk.pt2").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises((ConversionError, UsageError), match=r"junk.pt2"):
        export(tmp_path / "junk.pt2", data=normal)


def test_raw_readings_into_a_network_of_scaled_ones_are_named_as_the_cause(tmp_path: Path) -> None:
    """And not the batch: far out, its answers hang on the last digits of its sums."""
    rows = swings.readings(400, seed=1)
    raw = (rows * [400, 8, 1, 12] + [101325, 60, 3, 1480]).astype(np.float32)
    data = swings.write(tmp_path / "raw.csv", raw)
    torch.manual_seed(0)
    program = torch.export.export(kinds.Convolution().eval(), (torch.zeros(1, C, W),))
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(AccuracyError, match=r"readings are large beside .* --scale FILE, or --scale data"):
        export(tmp_path / "m.pt2", data=data, trust_code=True, tolerance=1e-9)


_SUMS = """
import torch

class Many(torch.nn.Module):
    def forward(self, x):
        return {"x": x * 2, "mean": x.mean(), "limit": torch.ones(3)}

class One(torch.nn.Module):
    def forward(self, x):
        return x.mean()
"""


def test_what_is_one_for_a_whole_batch_is_no_answer_of_an_item(tmp_path: Path, normal: Path) -> None:
    """It is left out, and told; alone it is refused. An output does not take the name of an input."""
    (tmp_path / "sums.py").write_text(_SUMS, encoding="utf-8")
    made = export(f"{tmp_path / 'sums.py'}:Many", tmp_path / "m.onnx", data=normal, shapes=["4"])
    assert made.outputs == ("x_out",)
    assert [note.split("'")[1] for note in made.notes if "for all items" in note] == ["mean", "limit"]
    with pytest.raises(ConversionError, match=r"answers output for a whole batch at once.*\.mean\(dim=1\)"):
        export(f"{tmp_path / 'sums.py'}:One", tmp_path / "o.onnx", data=normal, shapes=["4"])


_COMPANY = """
import sys
import torch

class Branch(torch.nn.Module):
    def forward(self, x):
        return x * (2.0 if x.shape[0] == 1 else 0.5)

class Squeezed(torch.nn.Module):
    def forward(self, x):
        return x[:, :1].squeeze()

class Nowhere(torch.nn.Module):
    def forward(self, x):
        return x / 0.0 * 0.0

class Double(torch.nn.Linear):
    def __init__(self):
        super().__init__(4, 2, dtype=torch.float64)

class Exits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        sys.exit(0)
"""


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Branch", "has another output for item 0 alone"),
        ("Squeezed", "has another output for item 0 alone|fails for a batch of 1"),
        ("Nowhere", "not a finite number for any item"),
        ("Double", "is the model in float32"),
        ("Exits", "raised SystemExit"),
    ],
)
def test_what_no_device_can_use_is_refused_in_one_line(name: str, problem: str, tmp_path: Path, normal: Path) -> None:
    """Another answer alone than in a batch, none at all, another type, a file that ends the program."""
    (tmp_path / "company.py").write_text(_COMPANY, encoding="utf-8")
    with pytest.raises((AccuracyError, ConversionError), match=problem):
        export(f"{tmp_path / 'company.py'}:{name}", tmp_path / "m.onnx", data=normal, shapes=["4"])
    assert not (tmp_path / "m.onnx").exists()
