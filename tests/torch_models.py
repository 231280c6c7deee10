"""Detectors in PyTorch of the kinds that people train, small enough to be trained in a test.

Also what `module.py:factory` names in the tests of the export, which is why each can be made without an argument.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

CHANNELS, WINDOW = 4, 16
Windows = NDArray[np.float32]


class Dense(nn.Module):
    """Takes and answers a row."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(CHANNELS, 8), nn.Tanh(), nn.Dropout(0.1), nn.Linear(8, 2))
        self.decoder = nn.Sequential(nn.Tanh(), nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, CHANNELS))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.decoder(self.encoder(x))
        return found


class Flat(nn.Module):
    """Takes a window as one row of numbers, and answers it with its latent; a buffer has the name of an output."""

    latent: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(WINDOW * CHANNELS, 6), nn.Linear(6, WINDOW * CHANNELS)
        self.register_buffer("latent", torch.ones(6))

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        latent = torch.tanh(self.encoder(x)) * self.latent
        return {"reconstruction": self.decoder(latent), "latent": latent, "again": latent}


class Lstm(nn.Module):
    """A recurrent autoencoder."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.LSTM(CHANNELS, 12, batch_first=True)
        self.decoder = nn.LSTM(12, 12, batch_first=True)
        self.output = nn.Linear(12, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        _, (last, _) = self.encoder(x)
        repeated = last[-1].unsqueeze(1).repeat(1, x.shape[1], 1)
        found: Tensor = self.output(self.decoder(repeated)[0])
        return found


class Gru(nn.Module):
    """A bidirectional one."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(CHANNELS, 6, batch_first=True, bidirectional=True)
        self.output = nn.Linear(12, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.output(self.inner(x)[0])
        return found


class Convolution(nn.Module):
    """Takes a window with the channels first."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Sequential(nn.Conv1d(CHANNELS, 8, 3, stride=2, padding=1), nn.BatchNorm1d(8), nn.ReLU())
        self.up = nn.ConvTranspose1d(8, CHANNELS, 4, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.up(self.down(x))
        return found


class Attention(nn.Module):
    """A layer of a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.into = nn.Linear(CHANNELS, 8)
        self.layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.output = nn.Linear(8, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.output(self.layer(self.into(x)))
        return found


class Variational(nn.Module):
    """Samples while it is trained, and answers with the mean."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(CHANNELS, 8), nn.Linear(2, CHANNELS)
        self.mean, self.log_variance = nn.Linear(8, 2), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden = torch.tanh(self.encoder(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden)
        noise = torch.randn_like(mean) * torch.exp(log_variance / 2) if self.training else torch.zeros_like(mean)
        return self.decoder(mean + noise), mean, log_variance


class Forecaster(nn.Module):
    """Tells the row behind a window."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv1d(CHANNELS, 8, 5)
        self.output = nn.Linear(8, CHANNELS)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.inner(x.transpose(1, 2))).mean(dim=2)
        found: Tensor = self.output(hidden).unsqueeze(1)
        return found


class SoftSensor(nn.Module):
    """Tells the last channel from the others."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(CHANNELS - 1, 8), nn.ReLU(), nn.Linear(8, 1))

    def forward(self, x: Tensor) -> Tensor:
        found: Tensor = self.inner(x)
        return found


class Stateful(nn.Module):
    """Answers a row, and remembers what it has seen; the batch is the second axis of its state."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.GRU(CHANNELS, 6, batch_first=True)
        self.output = nn.Linear(6, CHANNELS)

    def forward(self, x: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        hidden, after = self.inner(x, h)
        return self.output(hidden), after


class Steps(nn.Module):
    """Adds up the rows of a window of any length."""

    def forward(self, x: Tensor) -> Tensor:
        return x * 0.9 + 0.01 * torch.cumsum(x, dim=1)


class Dice(nn.Module):
    """Draws random numbers when it answers."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.randn_like(x)


def trained(module: nn.Module, given: Any, wanted: Windows, *, steps: int = 150) -> nn.Module:
    """A module that answers about what is wanted, in evaluation mode."""
    torch.manual_seed(0)
    for layer in module.modules():
        reset: Any = getattr(layer, "reset_parameters", None)
        if reset is not None:
            reset()
    optimizer = torch.optim.Adam(module.parameters(), lr=0.02)
    tensors = [torch.from_numpy(np.ascontiguousarray(each)) for each in given]
    target = torch.from_numpy(np.ascontiguousarray(wanted))
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        answer = module(*tensors)
        first = next(iter(answer.values())) if isinstance(answer, dict) else answer
        first = first[0] if isinstance(first, tuple) else first
        nn.functional.mse_loss(first, target).backward()
        optimizer.step()
    return module.eval()
