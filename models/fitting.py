"""What the example models in PyTorch share: how they are trained, always to the same weights on one machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

__all__ = ["fit"]


def fit(
    module: nn.Module, given: NDArray[np.float64], wanted: NDArray[np.float64], path: Path, *, seed: int, steps: int
) -> float:
    """Train a module with the buffers `mean` and `spread`, and write its weights.

    Args:
        module: makes of `given` what is `wanted`, in the units of the sensor.
        given: shape (n, rows, 1).
        wanted: shape (n, rows, 1).
        path: of the `.safetensors`.
        seed: of the weights.
        steps: over all windows at once.

    Returns:
        The mean square error at the end, in units of the square of the spread.
    """
    torch.manual_seed(seed)
    for layer in module.children():
        layer.reset_parameters()
    spread = torch.tensor(given.std(), dtype=torch.float32)
    module.load_state_dict({"mean": torch.tensor(given.mean(), dtype=torch.float32), "spread": spread}, strict=False)
    before, after = (torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for part in (given, wanted))
    optimizer = torch.optim.Adam(module.parameters(), lr=0.01, weight_decay=1e-4)
    error = Tensor()
    for _ in range(steps):
        optimizer.zero_grad()
        error = nn.functional.mse_loss(module(before) / spread, after / spread)
        error.backward()
        optimizer.step()
    safetensors.torch.save_file(module.state_dict(), path)
    return float(error.detach())
