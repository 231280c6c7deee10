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
import swings
import torch
import torch_models as kinds
from swings import CHANNELS, WINDOW, Scores, Windows
from torch import nn

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import DataError
from edgetool.commands.export import export
from edgetool.commands.pack import pack

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")

W, C = WINDOW, CHANNELS


@pytest.fixture(scope="module")
def normal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return swings.write(tmp_path_factory.mktemp("data") / "normal.csv", swings.readings(1200, seed=1))


def _run(module: nn.Module, *given: Windows) -> list[Any]:
    with torch.no_grad():
        answer = module(*(torch.from_numpy(np.ascontiguousarray(each)) for each in given))
    parts = answer.values() if isinstance(answer, dict) else answer if isinstance(answer, tuple) else [answer]
    return [part.numpy() for part in parts]


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
        return swings.mean_square(_run(module, self.given(windows))[0], self.wanted(windows))


def _last(windows: Windows) -> Windows:
    return windows[:, -1:]


def _before(windows: Windows) -> Windows:
    return np.ascontiguousarray(windows[:, :-1])


def _of_soft_sensor(module: nn.Module, windows: Windows) -> Scores:
    found = _run(module, swings.row(windows)[:, :-1])[0]
    errors: Scores = (found[:, 0].astype(np.float64) - windows[:, 0, -1]) ** 2
    return errors


MODELS = {
    "dense": Case(kinds.Dense, 1, swings.row, swings.row),
    "flat window, several outputs of one tensor": Case(
        kinds.Flat, W, lambda w: w.reshape(len(w), -1), lambda w: w.reshape(len(w), -1),
        options={"window": W, "layout": "rows-first", "score_output": "reconstruction"},
    ),
    "LSTM from its class": Case(kinds.Lstm, W, saved="factory"),
    "GRU in TorchScript": Case(kinds.Gru, W, saved="script"),
    "convolution, channels first": Case(kinds.Convolution, W, swings.turned, swings.turned),
    "attention": Case(kinds.Attention, W),
    "variational": Case(kinds.Variational, 1, swings.row, swings.row, options={"score_output": "output_0"}),
    "forecaster": Case(kinds.Forecaster, W + 1, _before, _last, options={"head": "forecast", "horizon": 1}),
    "traced dense": Case(kinds.Dense, 1, swings.row, swings.row, saved="trace"),
    "soft sensor": Case(
        kinds.SoftSensor, 1, lambda w: swings.row(w)[:, :-1], lambda w: w[:, 0, -1:], _of_soft_sensor,
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
    seen = swings.windows(swings.readings(600), case.window)
    module = kinds.trained(case.kind(), [case.given(seen)], case.wanted(seen))
    source, told = _save(module, tmp_path, case.saved, case.given(seen))
    report = pack(source, tmp_path / "m-1.0.0.edge", data=normal, score="mse", accept_weak=True, **case.options, **told)
    exported = report.manifest.exported
    assert exported is not None
    assert exported.framework.startswith("PyTorch")
    assert exported.deviation <= 1e-4
    assert exported.rows > 1000
    probe = swings.readings(500, seed=2)
    probe[200:220, 1] += 1.5
    windows = swings.windows(probe, case.window)
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
    for row in swings.readings(40, seed=3):
        scored = engine.score(row[np.newaxis, np.newaxis], state)
        answer, h = _run(module, row[np.newaxis, np.newaxis], h)
        assert scored.state is not None
        state = scored.state
        np.testing.assert_allclose(scored.score, swings.mean_square(answer, row[np.newaxis]), rtol=1e-4)
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


def test_a_checkpoint_of_lightning_has_its_weights_one_level_down(tmp_path: Path, normal: Path) -> None:
    """Below `state_dict`, with the name of the module before each."""
    module = kinds.trained(
        kinds.Dense(),
        [swings.row(swings.windows(swings.readings(), 1))],
        swings.row(swings.windows(swings.readings(), 1)),
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
    np.savez(tmp_path / "items.npz", x=swings.windows(swings.readings(200)))
    made = export(named, tmp_path / "m.onnx", example=tmp_path / "items.npz", shapes=["16x4"])
    assert made.agreed.rows > 185
    assert not any("made-up" in note for note in made.notes)
    np.savez(tmp_path / "other.npz", x=swings.readings(200))
    with pytest.raises(DataError, match=r"x has shape \(200, 4\), expected \(n, 16, 4\)"):
        export(named, tmp_path / "m.onnx", example=tmp_path / "other.npz", shapes=["16x4"])


def test_what_a_stranger_tripped_over(tmp_path: Path, normal: Path) -> None:
    """Weights of a checkpoint beside others, none at all, expected scores in a column, readings that are scaled."""
    shutil.copy(kinds.__file__, tmp_path / "model.py")
    rows = swings.readings(600)
    module = kinds.trained(kinds.Dense(), [rows], rows)
    state = {f"net.{name}": value for name, value in module.state_dict().items()} | {"metric.total": torch.zeros(1)}
    torch.save({"epoch": 3, "loss": 0.1, "model_state_dict": state}, tmp_path / "tutorial.tar")
    named = f"{tmp_path / 'model.py'}:Dense"
    made = export(named, tmp_path / "a.onnx", data=normal, shapes=["4"], weights=tmp_path / "tutorial.tar")
    assert not made.notes
    untrained = export(named, tmp_path / "b.onnx", data=normal, shapes=["4"])
    assert "no --weights: the module has those that model.py:Dense has given it" in untrained.notes[0]
    seen = swings.readings(1200, seed=1)
    scores = swings.mean_square(_run(module, seen)[0], seen)
    lines = normal.read_text(encoding="utf-8").splitlines()
    mine = [f"{lines[0]},mine", *(f"{line},{score}" for line, score in zip(lines[1:], scores, strict=True))]
    (tmp_path / "mine.csv").write_text("\n".join(mine), encoding="utf-8")
    told: dict[str, Any] = {
        "shapes": ["4"],
        "weights": tmp_path / "tutorial.tar",
        "score": "mse",
        "accept_weak": True,
    }
    report = pack(named, tmp_path / "m-1.0.0.edge", data=tmp_path / "mine.csv", expect="mine", **told)
    assert report.manifest.expected is not None
    # Far from what it has seen, a saturated network would be compared there.
    far = swings.write(tmp_path / "far.csv", (seen * 300 + 5000).astype(np.float32))
    np.savez(tmp_path / "scaler.npz", mean=np.full(4, 5000.0), scale=np.full(4, 300.0))
    scaled = pack(named, tmp_path / "s-1.0.0.edge", data=far, scale=str(tmp_path / "scaler.npz"), **told)
    assert scaled.manifest.exported is not None
    assert scaled.manifest.exported.deviation <= 1e-4


@pytest.mark.parametrize("batch_is_open", [True, False])
def test_a_program_keeps_its_open_window(batch_is_open: bool, tmp_path: Path, normal: Path) -> None:
    """Compared in windows as long as --window says, and shorter ones; also where the batch has to be opened first."""
    time = torch.export.Dim("time", min=2)
    sizes: dict[int, Any] = {1: time} | ({0: torch.export.Dim("batch")} if batch_is_open else {})
    given = torch.zeros(2, W, C)
    program = torch.export.export(kinds.Steps().eval(), (given,), dynamic_shapes=(sizes,))
    torch.export.save(program, tmp_path / "steps.pt2")
    made = export(tmp_path / "steps.pt2", data=normal, trust_code=True)
    shape = [dim.dim_param or dim.dim_value for dim in onnx.load(made.output).graph.input[0].type.tensor_type.shape.dim]
    assert shape == ["batch", "time", C]
    report = pack(
        tmp_path / "steps.pt2", tmp_path / "s-1.0.0.edge", data=normal, trust_code=True, window=24,
        head="reconstruction", score="mse", accept_weak=True,
    )  # fmt: skip
    seen = swings.windows(swings.readings(200, seed=2), 24)
    found = OrtEngine(open_bundle(report.bundle).model, PROVIDERS["cpu"]).score(seen).score
    expected = swings.mean_square(_run(kinds.Steps().eval(), seen)[0], seen)
    np.testing.assert_allclose(found, expected, atol=1e-4 * expected.std())
