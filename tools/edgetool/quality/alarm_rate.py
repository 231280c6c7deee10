"""The false-alarm rate at which so many alerts are raised."""

from __future__ import annotations

import numpy as np

from edge_agent.stream.threshold import limits_at
from edgetool.quality.alerts import Scored, alerts_at

__all__ = ["rate_for"]

_STEP = 1.1
_MOST = 0.4
_ENOUGH_ALERTS = 5


def rate_for(scored: Scored, wanted: float) -> float:
    """The largest share of scores in alarm at which no more alerts are raised than wanted, looked for from few on.

    From few on, because at a low limit one alert never ends, and is only one. Where less than one is wanted, the number
    of rows in an alert is that of the highest limit with five alerts.

    Args:
        scored: normal scores, at least two of them different.
        wanted: alerts in all of them together, above 0.

    Returns:
        Above 0.0 and at most 0.4.
    """
    count = len(scored.score)
    ordered = np.sort(scored.score).astype(np.float64)
    median = float(np.median(ordered))
    best, rate, rows_each = 0.0, 1 / count, 1.0
    while rate <= _MOST:
        limit = limits_at(float(ordered[max(int(np.ceil(count * (1 - rate))) - 1, 0)]), median)
        alerts = alerts_at(scored, limit)
        rows_each = float(np.count_nonzero(scored.score >= limit.alarm)) / max(len(alerts.raised), 1)
        enough = len(alerts.raised) >= _ENOUGH_ALERTS
        if len(alerts.raised) <= wanted:
            best = rate
        if len(alerts.raised) > wanted and (best or enough):
            break
        rate *= _STEP
    return min(best or wanted * rows_each / count, _MOST)
