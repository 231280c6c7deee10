"""A convolutional autoencoder of twelve hours of flow, which scales them itself."""

from __future__ import annotations

import torch
from torch import Tensor, nn

__all__ = ["Autoencoder"]


class Autoencoder(nn.Module):
    """Takes and answers windows of shape (batch, 12, 1), in the units of the sensor."""

    mean: Tensor
    spread: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self.down = nn.Conv1d(1, 6, 5, stride=2, padding=2)
        self.further = nn.Conv1d(6, 2, 3, stride=2, padding=1)
        self.back = nn.ConvTranspose1d(2, 6, 4, stride=2, padding=1)
        self.up = nn.ConvTranspose1d(6, 1, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """As the class says."""
        scaled = ((x - self.mean) / self.spread).transpose(1, 2)
        latent = self.further(torch.tanh(self.down(scaled)))
        answer = self.up(torch.tanh(self.back(latent)))
        found: Tensor = answer.transpose(1, 2) * self.spread + self.mean
        return found
