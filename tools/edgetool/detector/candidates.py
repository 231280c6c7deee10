"""Ways to read an output of a model, and the question which of them is meant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edgetool.choices import ANY_HEAD, HeadIs
from edgetool.detector.head import Head
from edgetool.detector.scaling import Scaling

__all__ = ["SHOWN", "Asked", "Candidate", "question_of"]

SHOWN = 8
"""Ways that are shown."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What the user says of the outputs."""

    output: str | None = None
    """The output to take; None for any."""
    head: HeadIs = ANY_HEAD
    horizon: int | None = None
    """Rows from the last one that the model sees to the one that its answer ends with."""
    unscale: Scaling | None = None
    """What a reconstruction or forecast is scaled back by."""
    scalings: tuple[tuple[str, Scaling], ...] = ()
    """Others that it may need, each behind the word that names it."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way to read one output."""

    head: Head
    error: float = 0.0
    """Of an error: its median over the channels, in spreads of each."""
    does: str = ""
    """What it does on the data, in words."""
    horizon: int | None = None
    """Rows ahead of the last one that it ends with, where these are others than an answer of its size suggests."""

    unscale: str = ""
    """The word for the scaling that its answer needs first; empty where it is in the channels' units."""

    @property
    def option(self) -> str:
        """How the user says it."""
        ahead = "" if self.horizon is None else f" --horizon {self.horizon}"
        scaled = f" --unscale {self.unscale}" if self.unscale else ""
        return f"--head {HeadIs(self.head.kind, self.head.which)}{ahead}{scaled}"


def question_of(fit: Sequence[Candidate]) -> str:
    """Which of several ways is meant, with the option for each and what it does on the data."""
    several = len({each.head.output for each in fit}) > 1
    ways = [
        f"{each.option}{f' --output-name {each.head.name}' if several else ''} ({each.does})" for each in fit[:SHOWN]
    ]
    more = f"; and {len(fit) - SHOWN} more" if len(fit) > SHOWN else ""
    what = "which output is the score, and what is it" if several else f"what is output {fit[0].head.name!r}"
    return f"{what}? The data leave it open; say it with one of: {'; '.join(ways)}{more}"
