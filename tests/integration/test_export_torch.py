"""What PyTorch has saved becomes a bundle in one command, with PyTorch's own scores; and nothing in it runs unasked."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import safetensors.torch
import torch
import torch_models as kinds
from numpy.typing import NDArray
from processes import run_tool
from torch import nn

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import AccuracyError, ConversionError, DataError, UsageError
from edgetool.commands.export import export
from edgetool.commands.pack import pack

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

Windows = NDArray[np.float32]
Scores = NDArray[np.float64]
NAMES = "a,b,c,d"
W, C = kinds.WINDOW, kinds.CHANNELS


def write(path: Path, rows: Windows) -> Path:
    text = "\n".join(",".join(repr(float(value)) for value in row) for row in rows)
    path.write_text(f"{NAMES}\n{text}\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("data") / "normal.csv", kinds.readings(1200, seed=1))


def _mean_square(found: Any, wanted: Windows) -> Scores:
    error = found.reshape(len(wanted), -1).astype(np.float64) - wanted.reshape(len(wanted), -1)
    means: Scores = (error**2).mean(axis=1)
    return means


def _run(module: nn.Module, *given: Windows) -> list[Any]:
    with torch.no_grad():
        answer = module(*(torch.from_numpy(np.ascontiguousarray(each)) for each in given))
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, tuple) else [answer]
    return [part.numpy() for part in parts]


def _turned(windows: Windows) -> Windows:
    return np.ascontiguousarray(windows.transpose(0, 2, 1))


@dataclass(frozen=True)
class Case:
    """A detector: how it is trained, saved and packed, and what PyTorch itself makes of windows."""

    kind: type[nn.Module]
    window: int
    given: Callable[[Windows], Windows] = lambda windows: windows
    wanted: Callable[[Windows], Windows] = lambda windows: windows
    score: Callable[[nn.Module, Windows], Scores] | None = None
    saved: str = "program"
    options: dict[str, Any] = field(default_factory=dict)

    def scores(self, module: nn.Module, windows: Windows) -> Scores:
        """PyTorch's own."""
        if self.score is not None:
            return self.score(module, windows)
        return _mean_square(_run(module, self.given(windows))[0], self.wanted(windows))


def _last(windows: Windows) -> Windows:
    return windows[:, -1:]


def _before(windows: Windows) -> Windows:
    return np.ascontiguousarray(windows[:, :-1])


def _row(windows: Windows) -> Windows:
    return np.ascontiguousarray(windows[:, 0])


def _of_soft_sensor(module: nn.Module, windows: Windows) -> Scores:
    found = _run(module, _row(windows)[:, :-1])[0]
    errors: Scores = (found[:, 0].astype(np.float64) - windows[:, 0, -1]) ** 2
    return errors


MODELS = {
    "dense": Case(kinds.Dense, 1, _row, _row),
    "flat window, several outputs of one tensor": Case(
        kinds.Flat, W, lambda w: w.reshape(len(w), -1), lambda w: w.reshape(len(w), -1),
        options={"window": W, "layout": "rows-first", "score_output": "reconstruction"},
    ),
    "LSTM from its class": Case(kinds.Lstm, W, saved="factory"),
    "GRU in TorchScript": Case(kinds.Gru, W, saved="script"),
    "convolution, channels first": Case(kinds.Convolution, W, _turned, _turned),
    "attention": Case(kinds.Attention, W),
    "variational": Case(kinds.Variational, 1, _row, _row, options={"score_output": "output_0"}),
    "forecaster": Case(kinds.Forecaster, W + 1, _before, _last, options={"head": "forecast", "horizon": 1}),
    "traced dense": Case(kinds.Dense, 1, _row, _row, saved="trace"),
    "soft sensor": Case(
        kinds.SoftSensor, 1, lambda w: _row(w)[:, :-1], lambda w: w[:, 0, -1:], _of_soft_sensor,
        options={"head": "residual:d"},
    ),
}  # fmt: skip


def _save(module: nn.Module, folder: Path, how: str, given: Windows) -> tuple[Path | str, dict[str, Any]]:
    """In a form of PyTorch's; and what `export` has to be told of it."""
    shape = "x".join(str(size) for size in given.shape[1:])
    two = torch.from_numpy(np.ascontiguousarray(given[:2]))
    if how == "program":
        batch = torch.export.Dim("batch")
        program = torch.export.export(module, (two,), dynamic_shapes=({0: batch},))
        torch.export.save(program, folder / "model.pt2")
        return folder / "model.pt2", {"trust_code": True}
    if how == "factory":
        safetensors.torch.save_file(module.state_dict(), folder / "weights.safetensors")
        shutil.copy(kinds.__file__, folder / "model.py")
        told = {"weights": folder / "weights.safetensors", "shapes": [shape]}
        return f"{folder / 'model.py'}:{type(module).__name__}", told
    made = torch.jit.script(module) if how == "script" else torch.jit.trace(module, (two,))
    torch.jit.save(made, folder / "model.pt")
    return folder / "model.pt", {"shapes": [shape], "trust_code": True}


@pytest.mark.parametrize("name", MODELS)
def test_the_agent_scores_as_pytorch_does(name: str, tmp_path: Path, normal: Path) -> None:
    """From the saved file to the bundle at once; every score, and every verdict at the limit."""
    case = MODELS[name]
    seen = kinds.windows(kinds.readings(600), case.window)
    module = kinds.trained(case.kind(), [case.given(seen)], case.wanted(seen))
    source, told = _save(module, tmp_path, case.saved, case.given(seen))
    report = pack(source, tmp_path / "m-1.0.0.edge", data=normal, score="mse", accept_weak=True, **case.options, **told)
    exported = report.manifest.exported
    assert exported is not None
    assert exported.framework.startswith("PyTorch")
    assert exported.deviation <= 1e-4
    assert exported.rows > 1000
    probe = kinds.readings(500, seed=2)
    probe[200:220, 1] += 1.5
    windows = kinds.windows(probe, case.window)
    found = OrtEngine(open_bundle(report.bundle).model, PROVIDERS["cpu"]).score(windows).score.astype(np.float64)
    expected = case.scores(module, windows)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())
    alarm = report.manifest.threshold.alarm
    assert ((found >= alarm) == (expected >= alarm)).all()
    assert 0 < (found >= alarm).sum() < len(found)


def test_a_state_is_kept_as_the_module_keeps_it(tmp_path: Path, normal: Path) -> None:
    """The batch is the second axis of a state in PyTorch; one reading after the other, as on the device."""
    module = kinds.Stateful().eval()
    batch = torch.export.Dim("batch")
    given = (torch.zeros(2, 1, C), torch.zeros(1, 2, 6))
    program = torch.export.export(module, given, dynamic_shapes=({0: batch}, {1: batch}))
    torch.export.save(program, tmp_path / "gru.pt2")
    report = pack(
        tmp_path / "gru.pt2",
        tmp_path / "gru-1.0.0.edge",
        data=normal,
        trust_code=True,
        state=["h:output_1@1"],
        score_output="output_0",
        head="reconstruction",
        score="mse",
        accept_weak=True,
    )
    engine = OrtEngine(open_bundle(report.bundle).model, PROVIDERS["cpu"])
    state, h = np.zeros((1, report.manifest.model.state_size), np.float32), np.zeros((1, 1, 6), np.float32)
    for row in kinds.readings(40, seed=3):
        scored = engine.score(row[np.newaxis, np.newaxis], state)
        answer, h = _run(module, row[np.newaxis, np.newaxis], h)
        assert scored.state is not None
        state = scored.state
        np.testing.assert_allclose(scored.score, _mean_square(answer, row[np.newaxis]), rtol=1e-4)
    # A module, which does not know its shapes, is told them with the place of the batch.
    shutil.copy(kinds.__file__, tmp_path / "model.py")
    made = export(f"{tmp_path / 'model.py'}:Stateful", tmp_path / "g.onnx", shapes=["1x4", "h:1x6@1"])
    assert [value.name for value in onnx.load(made.output).graph.input] == ["x", "h"]
    assert "compared on made-up values" in made.notes[1]


def test_what_pytorch_writes_is_named_and_open(tmp_path: Path, normal: Path) -> None:
    """Outputs after the keys of the answer, though a buffer has such a name and two are one tensor; the batch is open,
    and so is the window where that is asked for; the same source gives the same bytes, without a path in them.
    """
    shutil.copy(kinds.__file__, tmp_path / "model.py")
    export(f"{tmp_path / 'model.py'}:Flat", tmp_path / "flat.onnx", data=normal, shapes=["64"])
    flat = onnx.load(tmp_path / "flat.onnx")
    onnx.checker.check_model(flat, full_check=True)
    assert [value.name for value in flat.graph.output] == ["reconstruction", "latent", "again"]
    assert [dim.dim_param or dim.dim_value for dim in flat.graph.input[0].type.tensor_type.shape.dim] == ["batch", 64]
    (tmp_path / "model.py").write_text(_FIXED, encoding="utf-8")
    for name in ("one", "two"):
        output = tmp_path / f"{name}.onnx"
        export(f"{tmp_path / 'model.py'}:fixed", output, data=normal, shapes=["16x4"], open_time=True)
    content = (tmp_path / "one.onnx").read_bytes()
    assert content == (tmp_path / "two.onnx").read_bytes()
    assert str(tmp_path).encode() not in content
    assert b"site-packages" not in content
    model = onnx.load_from_string(content)
    shape = [dim.dim_param or dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", "time", 4]
    report = pack(tmp_path / "one.onnx", tmp_path / "o-1.0.0.edge", data=normal, window=24, accept_weak=True)
    assert report.manifest.window == 24


_FIXED = """
import torch

def fixed():
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Tanh(), torch.nn.Linear(4, 4))
"""


def test_a_program_for_a_batch_of_one_is_opened_or_refused(tmp_path: Path, normal: Path) -> None:
    """Traced again; an LSTM has the one built into its first state."""
    for kind, shape in ((kinds.Convolution, (1, C, W)), (kinds.Attention, (1, W, C)), (kinds.Lstm, (1, W, C))):
        program = torch.export.export(kind().eval(), (torch.zeros(shape),))
        torch.export.save(program, tmp_path / f"{kind.__name__}.pt2")
    assert export(tmp_path / "Convolution.pt2", data=normal, trust_code=True).agreed.deviation <= 1e-4
    for name in ("Attention", "Lstm"):
        with pytest.raises(ConversionError, match=r"saved for batches of 1 alone; save it for all sizes.*dynamic_sh"):
            export(tmp_path / f"{name}.pt2", data=normal, trust_code=True)
        assert not (tmp_path / f"{name}.onnx").exists()


def test_random_numbers_are_refused(tmp_path: Path, normal: Path) -> None:
    """By their operator, and in a module that PyTorch exports in training mode."""
    batch = torch.export.Dim("batch")
    for name, module in (("dice", kinds.Dice()), ("dropout", kinds.Dense().train())):
        program = torch.export.export(module, (torch.zeros(2, C),), dynamic_shapes=({0: batch},))
        torch.export.save(program, tmp_path / f"{name}.pt2")
        with pytest.raises(
            (ConversionError, AccuracyError), match=r"draws random numbers.*model\.eval\(\)|draws random"
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
    with pytest.raises(UsageError, match=r"does not hold the shape of x; say it.*--shape 9"):
        export(named, data=normal)
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
    (tmp_path / "junk.pt2").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises((ConversionError, UsageError), match=r"junk.pt2"):
        export(tmp_path / "junk.pt2", data=normal)


def test_a_checkpoint_of_lightning_has_its_weights_one_level_down(tmp_path: Path, normal: Path) -> None:
    """Below `state_dict`, with the name of the module before each."""
    module = kinds.trained(
        kinds.Dense(), [_row(kinds.windows(kinds.readings(), 1))], _row(kinds.windows(kinds.readings(), 1))
    )
    state = {f"model.{name}": value for name, value in module.state_dict().items()}
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "last.ckpt")
    shutil.copy(kinds.__file__, tmp_path / "model.py")
    named = f"{tmp_path / 'model.py'}:Dense"
    export(named, tmp_path / "a.onnx", data=normal, shapes=["4"], weights=tmp_path / "last.ckpt")
    safetensors.torch.save_file(module.state_dict(), tmp_path / "plain.safetensors")
    export(named, tmp_path / "b.onnx", data=normal, shapes=["4"], weights=tmp_path / "plain.safetensors")
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_items_of_the_user_are_compared_on(tmp_path: Path) -> None:
    """An array for each input; another shape is told."""
    shutil.copy(kinds.__file__, tmp_path / "model.py")
    named = f"{tmp_path / 'model.py'}:Lstm"
    np.savez(tmp_path / "items.npz", x=kinds.windows(kinds.readings(200)))
    made = export(named, tmp_path / "m.onnx", example=tmp_path / "items.npz", shapes=["16x4"])
    assert made.agreed.rows > 185
    assert not any("made-up" in note for note in made.notes)
    np.savez(tmp_path / "other.npz", x=kinds.readings(200))
    with pytest.raises(DataError, match=r"x has shape \(200, 4\), expected \(n, 16, 4\)"):
        export(named, tmp_path / "m.onnx", example=tmp_path / "other.npz", shapes=["16x4"])


def test_what_a_stranger_tripped_over(tmp_path: Path, normal: Path) -> None:
    """Weights of a checkpoint beside others, none at all, expected scores in a column, readings that are scaled."""
    shutil.copy(kinds.__file__, tmp_path / "model.py")
    rows = kinds.readings(600)
    module = kinds.trained(kinds.Dense(), [rows], rows)
    state = {f"net.{name}": value for name, value in module.state_dict().items()} | {"metric.total": torch.zeros(1)}
    torch.save({"epoch": 3, "loss": 0.1, "model_state_dict": state}, tmp_path / "tutorial.tar")
    named = f"{tmp_path / 'model.py'}:Dense"
    made = export(named, tmp_path / "a.onnx", data=normal, shapes=["4"], weights=tmp_path / "tutorial.tar")
    assert not made.notes
    untrained = export(named, tmp_path / "b.onnx", data=normal, shapes=["4"])
    assert "no --weights: the module has those that model.py:Dense has given it" in untrained.notes[0]
    seen = kinds.readings(1200, seed=1)
    scores = _mean_square(_run(module, seen)[0], seen)
    lines = normal.read_text(encoding="utf-8").splitlines()
    mine = [f"{lines[0]},mine", *(f"{line},{score}" for line, score in zip(lines[1:], scores, strict=True))]
    (tmp_path / "mine.csv").write_text("\n".join(mine), encoding="utf-8")
    told = {"shapes": ["4"], "weights": tmp_path / "tutorial.tar", "score": "mse", "accept_weak": True}
    report = pack(named, tmp_path / "m-1.0.0.edge", data=tmp_path / "mine.csv", expect="mine", **told)  # type: ignore[arg-type]
    assert report.manifest.expected is not None
    # Far from what it has seen, a saturated network would be compared there.
    far = write(tmp_path / "far.csv", (seen * 300 + 5000).astype(np.float32))
    np.savez(tmp_path / "scaler.npz", mean=np.full(4, 5000.0), scale=np.full(4, 300.0))
    scaled = pack(named, tmp_path / "s-1.0.0.edge", data=far, scale=str(tmp_path / "scaler.npz"), **told)  # type: ignore[arg-type]
    assert scaled.manifest.exported is not None
    assert scaled.manifest.exported.deviation <= 1e-4


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
