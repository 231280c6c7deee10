"""Which parts of a model can take part together: each is tried alone, and the shares of the drift are added up."""

from __future__ import annotations

import numpy as np

from edgetool.precision.context import Context

__all__ = ["BUDGETS", "max_probes", "within"]

_PROBES = ((4 << 20, 24), (32 << 20, 12), (1 << 62, 6))
"""Parts that are tried alone, by the size of the model: each is a load and a run. A count, because a time limit would
give other bytes on another day."""
BUDGETS = (0.7, 0.35, 0.15)
"""Shares of the drift allowed that the chosen parts may use up together, tried in this order."""


def max_probes(context: Context) -> int:
    """How many parts of a model are tried alone."""
    return next(count for limit, count in _PROBES if context.size_bytes < limit)


def within(used: dict[str, float], budget: float) -> set[str]:
    """The parts, least first, that together use no more of the limits than a share of them."""
    chosen: set[str] = set()
    total = 0.0
    for name in sorted(used, key=lambda key: (used[key], key)):
        total += used[name]
        if not np.isfinite(total) or total > budget:
            break
        chosen.add(name)
    return chosen
