"""A recurrent forecaster: the next hour of flow from the twelve before it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Forecaster"]


class Forecaster(nn.Module):
    """Takes windows of shape (batch, 12, 1), and answers the hour behind each, (batch, 1, 1), in the sensor's units."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.memory = nn.GRU(1, 8, batch_first=True)
        self.step = nn.Linear(8, 1)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        scaled = (x - self.mean) / self.spread
        hidden, _ = self.memory(scaled)
        # The last hour is the best simple guess; the network tells what is to be added.
        found: Tensor = (scaled[:, -1:] + self.step(hidden[:, -1:])) * self.spread + self.mean
        return found
