"""Recurrent networks that were saved with an example of one window: the one is built into them, and is taken out."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import swings
import torch
from numpy.typing import NDArray
from torch import nn
from torch_models import WINDOW as W

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import ConversionError
from edgetool.commands.export import export
from edgetool.commands.pack import pack
from edgetool.graph.onnx_file import load_model
from edgetool.verify.workbench import Workbench

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
C, H = swings.CHANNELS, 8


class Repeated(nn.Module):  # type: ignore[misc]
    """Two LSTMs; the last answer of the first, repeated, is what the second one takes."""

    def __init__(self, layers: int = 1, both: bool = False) -> None:
        super().__init__()
        self.encoder = nn.LSTM(C, H, layers, batch_first=True, bidirectional=both)
        self.decoder = nn.LSTM(2 * H if both else H, H, layers, batch_first=True)
        self.out = nn.Linear(H, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        each, _ = self.encoder(x)
        again, _ = self.decoder(each[:, -1:].repeat(1, x.shape[1], 1))
        return self.out(again)


class Started(Repeated):
    """The decoder takes zeros, and starts with the encoder's last state."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, state = self.encoder(x)
        again, _ = self.decoder(torch.zeros(x.size(0), x.size(1), H), state)
        return self.out(again)


class Gated(nn.Module):  # type: ignore[misc]
    """GRUs, whose code is repeated."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.GRU(C, H, batch_first=True)
        self.decoder = nn.GRU(H, H, batch_first=True)
        self.out = nn.Linear(H, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        _, code = self.encoder(x)
        again, _ = self.decoder(code.permute(1, 0, 2).repeat(1, x.shape[1], 1))
        return self.out(again)


class Cells(nn.Module):  # type: ignore[misc]
    """One step after the other in Python, from zeros of the batch's size."""

    def __init__(self) -> None:
        super().__init__()
        self.cell, self.out = nn.LSTMCell(C, H), nn.Linear(H, C)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = c = torch.zeros(x.size(0), H)
        found = []
        for row in range(x.shape[1]):
            h, c = self.cell(x[:, row], (h, c))
            found.append(self.out(h))
        return torch.stack(found, 1)


class Token(nn.Module):  # type: ignore[misc]
    """A row of its own in front of each window, before attention over all of them."""

    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.ones(1, 1, C) / 3)
        self.attention = nn.MultiheadAttention(C, 1, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        whole = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        return self.attention(whole, whole, whole, need_weights=False)[0][:, 1:]


KINDS: dict[str, Callable[[], nn.Module]] = {
    "repeated": Repeated,
    "both ways": lambda: Repeated(2, both=True),
    "started": Started,
    "gated": Gated,
    "cells": Cells,
    "token": Token,
}


def _module(name: str) -> nn.Module:
    torch.manual_seed(0)
    module = KINDS[name]().eval()
    with torch.no_grad():
        for weights in module.parameters():
            weights.mul_(3)  # As they are made, an answer hardly depends on what is given.
    return module


def _alone(module: nn.Module, windows: NDArray[np.float32]) -> NDArray[np.float32]:
    """What PyTorch answers for each window by itself."""
    with torch.no_grad():
        return np.concatenate([module(torch.from_numpy(window[None])).numpy() for window in windows])


@pytest.fixture(scope="module")
def windows() -> NDArray[np.float32]:
    rows = swings.readings(400, seed=2).astype(np.float32)
    return np.ascontiguousarray(np.lib.stride_tricks.sliding_window_view(rows, W, axis=0).transpose(0, 2, 1))[:257]


@pytest.mark.parametrize("name", KINDS)
def test_a_program_that_was_saved_with_one_window_answers_any_number(
    name: str, tmp_path: Path, windows: NDArray[np.float32]
) -> None:
    """As PyTorch answers each alone."""
    module = _module(name)
    torch.export.save(torch.export.export(module, (torch.zeros(1, W, C),)), tmp_path / "m.pt2")
    np.savez(tmp_path / "x.npz", x=windows)
    report = export(tmp_path / "m.pt2", example=tmp_path / "x.npz", trust_code=True, tolerance=1e-3)
    wanted, output = _alone(module, windows), report.outputs[0]
    dims = load_model(report.output).graph.output[0].type.tensor_type.shape.dim
    assert [dim.dim_param or dim.dim_value for dim in dims] == ["batch", W, C]
    with Workbench(tmp_path) as bench:
        for size in (1, 3, 257):
            parts = [{"x": windows[start : start + size]} for start in range(0, min(3 * size, len(windows)), size)]
            found = bench.run(report.output, on=bench.keep_samples(parts))
            answers = np.concatenate([part[output] for part in found])
            np.testing.assert_allclose(answers, wanted[: len(answers)], atol=1e-4 * wanted.std())


@pytest.mark.parametrize("name", ["both ways", "started", "token"])
def test_a_file_of_onnx_that_was_made_with_one_window_is_packed(
    name: str, tmp_path: Path, windows: NDArray[np.float32]
) -> None:
    """Its score is the mean square of PyTorch's own error."""
    module = _module(name)
    torch.onnx.export(
        module, (torch.zeros(1, W, C),), tmp_path / "m.onnx", dynamo=True, verbose=False, external_data=False
    )
    data = swings.write(tmp_path / "normal.csv", swings.readings(600, seed=1))
    report = pack(tmp_path / "m.onnx", data=data, head="reconstruction", score="mse", accept_weak=True)
    wanted = np.square(windows - _alone(module, windows)).mean(axis=(1, 2))
    engine = OrtEngine(open_bundle(report.bundle).model, PROVIDERS["cpu"])
    for size in (1, 3, 257):
        np.testing.assert_allclose(engine.score(windows[:size]).score, wanted[:size], rtol=1e-4)


class Joined(nn.Module):  # type: ignore[misc]
    """All windows of a batch in one, so that there is no answer of each."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x - x.reshape(-1, C).squeeze()[0]


def test_what_cannot_be_freed_is_refused_with_a_line_that_helps(tmp_path: Path) -> None:
    """The line is followed here, by a module whose sizes are those of what it takes."""
    module = Joined().eval()
    path = tmp_path / "m.onnx"
    torch.onnx.export(module, (torch.zeros(1, W, C),), path, dynamo=True, verbose=False, external_data=False)
    data = swings.write(tmp_path / "normal.csv", swings.readings(600, seed=1))
    line = "torch.onnx.export(model, (x,), path, dynamo=True, dynamic_shapes=({0: torch.export.Dim('batch')},))"
    told = f"Export it with a free first axis: in PyTorch {line}, with x of two rows"
    with pytest.raises(ConversionError, match=re.escape(told)):
        pack(path, data=data, head="reconstruction", accept_weak=True)
    eval(line, {"torch": torch, "model": _module("repeated"), "path": path, "x": torch.zeros(2, W, C)})
    assert pack(path, data=data, head="reconstruction", accept_weak=True).repairs == []
