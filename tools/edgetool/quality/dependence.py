"""How sure a false-alarm rate is: scores resemble their neighbours, and the next month is not the last one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

__all__ = ["NEEDED_ALARMS", "RateInterval", "about", "effective_rows", "interval_of"]

_SHARES = (0.5, 0.2, 0.1, 0.05)
"""Of rows above the levels at which dependence is looked for, beside the rate itself."""
_BLOCKS = {8: 1.717, 16: 1.487, 32: 1.335, 64: 1.231, 128: 1.161}
"""Numbers of blocks that a file is cut into, and what the variance of so many independent numbers stays below
nine times in ten, as a multiple of what is expected: a chi-squared quantile over its degrees of freedom."""
_FEWEST_ROWS = 2
_WALK_BLOCKS = 16
_WALK_CHANCE = 2 - 2.33 * 2 * math.sqrt((_WALK_BLOCKS - 2) / (_WALK_BLOCKS**2 - 1))
"""Of so many blocks that know nothing of each other, the squared steps from one to the next are twice the variance, and
less than this in one file of a hundred (von Neumann's ratio)."""
_DRIFT = 0.32
"""How much, as a standard deviation of its logarithm, the rate of the next period differs from that of this one though
the file shows no dependence at all. Fitted once, on the series of docs/calibrate.md."""
_Z = 1.645
"""Of a normal distribution, nine tenths lie within so many standard deviations."""
_WIDEST = 10.0
_MOST_CAUTION = 10.0
"""Where a file cannot support a rate, the limit is that of a rate lower by the interval's factor, and by 10 at most,
because further out the tail is guessed."""
NEEDED_ALARMS = 2 / ((math.log(_WIDEST) / 2 / _Z) ** 2 - _DRIFT**2)
"""So many independent false alarms must be expected in a file for the ends of the interval to be a factor of ten apart:
5.2."""


def effective_rows(
    scores: NDArray[np.floating],
    rate: float,
    orders: Sequence[NDArray[np.int64]] = (),
    *,
    in_time: bool = True,
) -> float:
    """The number of independent rows that would say as much about a rate as these rows do.

    A file is cut into 8 to 128 blocks, and the share of rows above a level is taken in each. Of independent rows, these
    shares would vary as p (1 - p) / length. The factor by which they vary more is the number of rows that count as one
    (the design effect of a sample taken in clusters; Kish, Survey Sampling, 1965). The largest factor counts, of all
    numbers of blocks and five levels, each first divided by what chance alone stays below nine times in ten.

    Where neighbouring blocks resemble each other, the scores wander, and the next period begins where this one ended:
    what they are expected to wander in it is added.

    Args:
        scores: shape (n,), finite, of normal rows.
        rate: share of normal rows that may be in alarm, above 0 and below 0.5; the highest level.
        orders: for each order in which the rows may depend on each other (asset by asset; as they came), their numbers;
            the order of `scores` when there is none.
        in_time: the last of these orders is that of time, so that scores can be seen to wander. Assets one behind the
            other are in none.

    Returns:
        At least 1.0 and at most n.
    """
    count = len(scores)
    by_size, orders = np.argsort(scores), orders or (np.arange(count),)
    ordered = scores[by_size]
    worst = 1.0
    for share in {*_SHARES, rate}:
        level = ordered[min(int(np.ceil(count * (1 - share))), count - 1)]
        above = (scores >= level).astype(np.float64)
        for order in orders:
            worst = max(worst, _rows_as_one(above[order]))
    if not in_time:
        return max(count / worst, 1.0)
    ranks = np.empty(count)
    below, up_to = (np.searchsorted(ordered, ordered, side) for side in ("left", "right"))
    ranks[by_size] = (below + up_to) / (2 * count)
    # `interval_of` takes 2 / (rate * effective) for the variance of the logarithm of the rate.
    normal = NormalDist()
    by_shift = normal.pdf(normal.inv_cdf(rate)) / rate
    wandering = rate / 2 * by_shift**2 * _wandering(ranks[orders[-1]])
    return max(1 / (worst / count + wandering), 1.0)


def _wandering(ranks: NDArray[np.float64]) -> float:
    """The variance of the shift from this period's scores to the next one's, in standard deviations of normal scores
    squared, that their way through this one lets expect; 0.0 where chance may have made it.

    Args:
        ranks: shape (n,), of the scores, in the order of time: shares of the file, equal scores in their middle.
    """
    if len(ranks) < _FEWEST_ROWS * _WALK_BLOCKS:
        return 0.0
    places = _places(ranks, _WALK_BLOCKS)
    spread = float(np.square(places - places.mean()).sum())
    if not spread or float(np.square(np.diff(places)).sum()) / spread > _WALK_CHANCE:
        return 0.0
    # Of a random walk, the variance of the shift from a part to the next grows with their length.
    return max(parts * float(np.square(np.diff(_places(ranks, parts))).mean()) for parts in (2, 4))


def _places(ranks: NDArray[np.float64], parts: int) -> NDArray[np.float64]:
    """Where the rows of each part lie, in standard deviations of normal scores.

    Their mean rank is the probability that one of them is above any row, which is Phi(place / sqrt(2)).
    """
    length = len(ranks) // parts
    means = ranks[-parts * length :].reshape(parts, length).mean(axis=1)
    return np.array([math.sqrt(2) * NormalDist().inv_cdf(mean) for mean in means.tolist()])


def _rows_as_one(above: NDArray[np.float64]) -> float:
    """The largest factor by which the shares of blocks vary more than those of independent rows."""
    share, worst = float(above.mean()), 1.0
    if not 0 < share < 1:
        return worst
    for blocks, by_chance in _BLOCKS.items():
        length = len(above) // blocks
        if length >= _FEWEST_ROWS:
            shares = above[-blocks * length :].reshape(blocks, length).mean(axis=1)
            worst = max(worst, length * float(shares.var(ddof=1)) / (share * (1 - share)) / by_chance)
    return worst


@dataclass(frozen=True, slots=True)
class RateInterval:
    """Where the share of normal rows in alarm will lie, in a period as long as the file, nine times in ten."""

    rate: float
    """What was asked for."""
    effective_rows: float
    """As many independent rows would say as much as the file's."""
    low: float
    """0.0 where the file cannot support the rate."""
    high: float
    is_supported: bool
    """True if the ends are at most a factor of ten apart: `NEEDED_ALARMS` independent false alarms are expected."""
    limit_rate: float
    """The rate that the limit is made for: lower than `rate` where that cannot be known, so that it is a bound."""
    needed_rows: float
    """Rows like these that would support the rate; the number of rows where they do."""

    def ends_at(self, share: float) -> tuple[float, float]:
        """The interval of a limit that another share of the file reaches, since many scores are equal."""
        if not share:
            return 0.0, self.high
        there = interval_of(share, 1, self.effective_rows)
        if self.is_supported and there.is_supported:
            return there.low, there.high
        return 0.0, max(self.high, there.high)


def interval_of(rate: float, rows: int, effective: float) -> RateInterval:
    """The interval of a rate whose limit was read off, or extrapolated from, so many rows.

    The logarithm of the rate that a next period shows is taken as normal around that of the rate asked for. Its
    variance is 2 / (rate * effective), one share from this file's false alarms and one from the next period's as counts
    of a Poisson process, plus 0.32 squared for what no file shows of the period after it.

    Args:
        rate: share of normal rows in alarm.
        rows: of the file.
        effective: of these, from `effective_rows`.
    """
    alarms = rate * effective
    factor = math.exp(min(_Z * math.sqrt(2 / alarms + _DRIFT**2), 100.0))
    is_supported = alarms >= NEEDED_ALARMS
    return RateInterval(
        rate=rate,
        effective_rows=effective,
        low=rate / factor if is_supported else 0.0,
        high=min(rate * factor, 1.0),
        is_supported=is_supported,
        limit_rate=rate if is_supported else rate / min(factor, _MOST_CAUTION),
        needed_rows=rows * max(NEEDED_ALARMS / alarms, 1.0),
    )


def about(number: float) -> str:
    """A number of rows or hours for a person: three digits, and no exponent."""
    return f"{float(f'{number:.3g}'):g}" if number < 1000 else f"{float(f'{number:.3g}'):.0f}"
