"""Ways to read an output of a model, and the question which of them is meant."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from edgetool.choices import ANY_HEAD, HeadIs, HeadKind
from edgetool.detector.head import Head
from edgetool.detector.scaling import Scaling

__all__ = ["SHOWN", "Asked", "Candidate", "by_name", "is_error_name", "is_score_name", "question_of"]

_SCORE_NAME = re.compile(
    r"(^|[_./])(anomaly|outlier)?_?scores?([_.]|$)|score_samples|decision_function|anomaly|log_?lik|nll"
)
"""An output of such a name is a score, if it can be one."""
_VERDICT_NAME = re.compile(r"(^|[_./])(is|flag|label|pred|verdict|alarm|alert)([_.]|$)|flags?$|labels?$")
"""One of such a name is a verdict, also where it is about anomalies, and counts only where there is no other."""
_ERROR_NAME = re.compile(r"(^|[_./])(residuals?|errors?|err|diff(erences?)?|loss(es)?)([_.]|$)")
"""One of such a name that has the size of the readings is what they differ by from an answer, and no answer."""

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


def is_score_name(name: str) -> bool:
    """True of an output that is called a score."""
    return bool(_SCORE_NAME.search(name.lower()))


def is_error_name(name: str) -> bool:
    """True of an output that is called an error."""
    return bool(_ERROR_NAME.search(name.lower()))


def by_name(fit: list[Candidate]) -> list[Candidate]:
    """Where several outputs fit, those that can be a score and are called so."""
    fit = [each for each in fit if not _VERDICT_NAME.search(each.head.name.lower())] or fit
    if len({each.head.output for each in fit}) < 2:
        return fit
    return [each for each in fit if each.head.kind is HeadKind.SCORE and is_score_name(each.head.name)] or fit
