"""What `engines.py` found, as one table: who is right, who is faster, and by how much."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.golden_vectors import golden_deviation

__all__ = ["BEATEN_BY", "Rounds", "Row", "answers_off", "chosen", "compared", "read_row", "table", "wins"]

BEATEN_BY = 1.3
"""Another engine that is faster than the agent by more than this is told with its reason in docs/benchmarks.md."""
RIGHT_WITHIN = 0.01
"""The tolerance of bundles: an engine whose answers are farther off has not run the same model."""

Rounds = dict[int, list[float]]
"""Of each batch size, the median microseconds of each turn; turns of one place were made one after the other."""


@dataclass
class Row:
    """One engine with one model and one number of threads."""

    model: str
    name: str
    form: str
    threads: int
    failed: str = ""
    """Why there are no figures."""
    version: str = ""
    installed_bytes: int = 0
    start_s: float = 0.0
    """From the start of its process to its first answer."""
    memory_bytes: int = 0
    """Resident, after batches of all sizes."""
    off: float = math.inf
    """Largest deviation of an answer from the agent's in float32, as `golden_deviation` measures it."""
    rounds: Rounds = field(default_factory=dict)
    p99_us: dict[int, float] = field(default_factory=dict)

    @property
    def is_agent(self) -> bool:
        """True of the agent's own engine."""
        return self.name.startswith("agent, ")

    @property
    def is_right(self) -> bool:
        """True if it has figures, and answers that a bundle's tolerance allows; smaller forms are `pack`'s to judge."""
        return not self.failed and (self.off <= RIGHT_WITHIN or self.form != "float32")

    def us(self, size: int) -> float:
        """Median time of a batch, microseconds."""
        return statistics.median(self.rounds[size])


def read_row(figures: dict[str, Any]) -> Row:
    """A row as JSON has it, where the keys of `rounds` and `p99_us` are text."""
    by_size = {name: {int(size): each for size, each in figures[name].items()} for name in ("rounds", "p99_us")}
    return Row(**{**figures, **by_size})


def answers_off(found: list[float], agents: list[float]) -> float:
    """How far off answers are from the agent's; infinity where their number differs or one is no number."""
    return golden_deviation(np.array(found), np.array(agents))


def chosen(rows: list[Row], size: int) -> Row | None:
    """The agent's choice: its fastest provider in float32, as the agent finds it (docs/providers.md).

    Args:
        rows: of one model and one number of threads.
        size: of the batch.

    Returns:
        None where no provider is right.
    """
    own = [row for row in rows if row.is_agent and row.form == "float32" and row.is_right]
    return min(own, key=lambda row: row.us(size)) if own else None


def compared(row: Row, choice: Row, size: int) -> float:
    """The row's time over the choice's: the median of the ratios of turns that followed each other."""
    pairs = zip(row.rounds[size], choice.rounds[size], strict=True)
    return statistics.median(mine / theirs for mine, theirs in pairs)


def wins(rows: list[Row]) -> list[str]:
    """A line for each engine that beats the agent's choice by more than `BEATEN_BY`."""
    lines: list[str] = []
    for (model, threads), group in _groups(rows).items():
        for row in group:
            if row.is_agent or not row.is_right:
                continue
            for size in row.rounds:
                choice = chosen(group, size)
                ratio = compared(row, choice, size) if choice else 1.0
                if choice and ratio < 1 / BEATEN_BY:
                    lines.append(
                        f"{model}, batch {size}, {threads} thread{'s' * (threads > 1)}: {row.name} takes {ratio:.2f} "
                        f"of the time of {choice.name}"
                    )
    return lines


def table(rows: list[Row]) -> str:
    """The Markdown table, and below it a line for each engine with its version and size.

    A cell with two figures has the one with one thread first. Ratios are to the agent's choice.
    """
    threads = sorted({row.threads for row in rows})
    columns = (
        "model",
        "engine",
        "batch 1, p50 / p99 us",
        "batch 64, rows/s",
        "x choice, batch 1",
        "x choice, batch 64",
    )
    head = [*columns, "start, s", "memory, MB", "off by"]
    lines = [f"| {' | '.join(head)} |", "| --- | --- | " + " | ".join(["---:"] * (len(head) - 2)) + " |"]
    groups = _groups(rows)
    seen: list[tuple[str, str, str]] = []
    for row in rows:
        if (key := (row.model, row.name, row.form)) not in seen:
            seen.append(key)
    for model, name, form in seen:
        mine = [row for row in rows if (row.model, row.name, row.form) == (model, name, form)]
        title = f"{name}, {form}" if mine[0].is_agent else name
        if all(row.failed for row in mine):
            lines.append(f"| {model} | {title} | {mine[0].failed.replace('|', '/')} |" + " |" * (len(head) - 3))
            continue
        cells = [
            _cells(row, groups[row.model, row.threads]) for count in threads for row in mine if row.threads == count
        ]
        merged = ["; ".join(cell) for cell in zip(*cells, strict=True)]
        lines.append(f"| {model} | {title} | {' | '.join(merged)} |")
    engines = dict.fromkeys(
        f"- {row.name}: {row.version}, {row.installed_bytes / 1e6:.0f} MB installed" for row in rows if not row.failed
    )
    return "\n".join([*lines, "", *engines, ""])


def _cells(row: Row, group: list[Row]) -> list[str]:
    """The figures of one row, as text."""
    if row.failed:
        return ["-"] * 7
    ratios = []
    for size in (1, 64):
        choice = chosen(group, size)
        ratios.append(f"{compared(row, choice, size):.2f}" if choice else "-")
    wrong = "" if row.is_right else " **wrong**"
    return [
        f"{row.us(1):.0f} / {row.p99_us[1]:.0f}",
        f"{64 / row.us(64) * 1e6:,.0f}",
        *ratios,
        f"{row.start_s:.2f}",
        f"{row.memory_bytes / 1e6:.0f}",
        f"{row.off:.0e}{wrong}",
    ]


def _groups(rows: list[Row]) -> dict[tuple[str, int], list[Row]]:
    """Rows that were measured in turns with each other."""
    groups: dict[tuple[str, int], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.model, row.threads), []).append(row)
    return groups
