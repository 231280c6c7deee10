"""Finds out how many unacknowledged messages the broker sends before it waits.

Messages may be held unacknowledged only below that limit, or the broker would send nothing until they are
acknowledged. No packet tells it: mosquitto's is 20 with MQTT 3.1.1, and with MQTT 5 what the agent asks for; other
brokers have limits of their own. So each commit that no message led to is a question:

    quiet        for five usual gaps between two messages, none came
    question     acknowledge all that is held
    answer       three come in less than half a gap, or at once soon after: the broker had stopped. Or a sender that was
                 busy for a moment catches up; but a broker stops at about the same number each time. The third time in
                 a short time it is believed to be the limit
    no answer    they come one by one, or later: the senders had paused, and the limit is higher

While no limit is known, a question is asked as soon as more is held than ever before, and it is quiet. Where less than
three are held, three cannot come at once. There, it is an answer if the next one comes soon after the question.

Nothing of this is sure. A broker with Nagle's algorithm sends one message, and the others a delayed acknowledgement
later. mosquitto 2.0.11 with a limit of 20 sends up to 20 for each acknowledgement of a batch, so hundreds
(findings/mosquitto_inflight_of_batches.sh). So whatever is believed, what is held is acknowledged after eight gaps in
which none came.
"""

from __future__ import annotations

import math

__all__ = ["InFlight"]

_MOST = 1000
"""What the agent asks brokers for (`mqtt.opening`)."""
_QUIET_GAPS = 5
_QUIET_LEAST_S = 0.1
"""TCP alone makes groups with pauses of 40 ms: Nagle's algorithm there, and a delayed acknowledgement here."""
_STILL_GAPS = 8
"""Of readings of many senders that know nothing of each other, one gap in 3,000 is so long."""
_LONGEST_GAP_S = 5.0
"""A longer pause counts as so long, because it says little of the gaps to come."""
_WEIGHT = 1 / 8
_ANSWER = 3
"""Messages of an answer."""
_STOPS = 3
"""Stops at about the same number that make a limit."""
_ANSWER_S = 1.0
"""An answer begins within this time after the question, or is none: the longest way to the broker and back."""
_AT_ONCE_LEAST_S, _SOON_LEAST_S = 0.001, 0.005
"""No shorter times are told apart, for what comes at once, and soon after a question."""
_LATER_S = 0.25
"""Within this after the first message of an answer, the others come at once: 40 ms are usual."""
_BELIEVED_S, _BELIEVED_MOST_S = 30.0, 600.0
"""Then a limit is found out anew, each time that it was the same after twice the time."""


class InFlight:
    """The limit of one connection. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._limit: int | None = None
        self._limit_until_s = 0.0
        self._believed = (0, _BELIEVED_S)
        """The last limit that was found, and for how long it was believed, seconds."""
        self._more_than = 0
        """The broker is known to send more than so many."""
        self._gap_s = 0.0
        """Usual time between two messages; 0 until there were two."""
        self._last_s = -math.inf
        self._asked: tuple[int, float] | None = None
        """How many were acknowledged, and when."""
        self._answer = 0
        self._answer_s = 0.0
        self._stops: dict[int, tuple[int, int, float]] = {}
        """How often the broker seemed to have stopped at about this many, at the least of them, and since when."""

    def came(self, count: int, unacknowledged: int, now_s: float) -> None:
        """Messages have come together.

        Args:
            count: of them.
            unacknowledged: all that are, these included.
            now_s: when they came.
        """
        gap_s = min(now_s - self._last_s, _LONGEST_GAP_S) / count
        if self._asked is not None:
            self._hear(*self._asked, count, now_s)
            self._gap_s = self._gap_s or gap_s
        elif self._last_s > -math.inf:
            self._gap_s += (gap_s - self._gap_s) * (_WEIGHT if self._gap_s else 1.0)
        self._last_s = now_s
        self._more_than = max(self._more_than, unacknowledged - 1)
        if self._limit is not None and now_s > self._limit_until_s:
            self._more_than = self._limit - 1
            self._limit = None

    def acknowledged(self, count: int, now_s: float) -> None:
        """All messages were acknowledged, while no other had come.

        Args:
            count: of them.
            now_s: when.
        """
        self._asked, self._answer = (count, now_s), 0

    def is_full(self, unacknowledged: int) -> bool:
        """True if it is time to acknowledge, at half the limit: the broker sends the other half meanwhile."""
        return 2 * unacknowledged >= (self._limit or _MOST)

    def due_s(self, unacknowledged: int) -> float:
        """When the broker may have stopped, if nothing comes until then."""
        is_known = self._limit is not None or unacknowledged <= self._more_than
        gaps = _STILL_GAPS if is_known else _QUIET_GAPS
        return self._last_s + max(_QUIET_LEAST_S, gaps * self._gap_s)

    def _hear(self, asked_at: int, asked_s: float, count: int, now_s: float) -> None:
        """Messages have come after a question."""
        if asked_at < _ANSWER:
            self._asked = None
            if now_s - asked_s <= max(_SOON_LEAST_S, self._gap_s / 3):
                self._note_stop(asked_at, now_s)
            return
        if not self._answer:
            self._answer_s = now_s
        at_once_s = max(_AT_ONCE_LEAST_S, self._gap_s / 2)
        is_late = now_s - self._answer_s > at_once_s and count < _ANSWER
        if self._answer_s - asked_s > _ANSWER_S or now_s - self._answer_s > _LATER_S:
            self._asked = None
            self._more_than = max(self._more_than, asked_at)
            return
        self._answer += 0 if is_late else count
        if self._answer >= _ANSWER:
            self._asked = None
            self._note_stop(asked_at, now_s)

    def _note_stop(self, count: int, now_s: float) -> None:
        """The broker has stopped at so many, as it seems; believe it if it did so several times in a short time."""
        # mosquitto with a limit of 20 has been seen to stop at 20, 26, 28 and 36.
        alike = -count.bit_length() if count >= 8 else count
        times, least, since_s = self._stops.get(alike, (0, count, now_s))
        least = min(least, count)
        wanted = _STOPS
        former, believed_s = self._believed
        if former <= count < 2 * former:
            wanted, least = 1, former
        # From one stop to the next come so many messages and a pause.
        if now_s - since_s > 2 * wanted * (count + _STILL_GAPS) * max(self._gap_s, _QUIET_LEAST_S / _STILL_GAPS):
            times, least, since_s = 0, count, now_s
        self._stops[alike] = (times + 1, least, since_s)
        if times + 1 < wanted or self._limit is not None:
            return
        believed_s = min(2 * believed_s, _BELIEVED_MOST_S) if least == former else _BELIEVED_S
        self._limit, self._limit_until_s, self._believed = least, now_s + believed_s, (least, believed_s)
        self._stops.clear()
