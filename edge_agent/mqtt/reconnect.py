"""What follows when a connection ended or did not come up: when to try again, in which protocol, and what is told."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from edge_agent.mqtt.backoff import Backoff
from edge_agent.mqtt.protocol import ProtocolChoice
from edge_agent.mqtt.settings import BrokerSettings
from edge_agent.mqtt.trouble import Reason, Trouble

__all__ = ["Reconnect"]

log = logging.getLogger(__name__)

_MAY_BE_THE_PROTOCOL = (Reason.CLOSED, Reason.NO_ANSWER, Reason.PROTOCOL)
_SHORT_LIFE_S, _SHORT_LIVES = 15.0, 3
"""After that many connections in a row that lasted for less, another client may have our identifier."""


class Reconnect:
    """Knows why there is no connection, and when the next attempt is due.

    Args:
        settings: the broker.
        clock: gives now, on the monotonic clock, in seconds.
    """

    def __init__(self, settings: BrokerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._protocol = ProtocolChoice(settings.protocol)
        self._backoff = Backoff(settings.keepalive_s)
        self._short_lives = 0
        self.due_mono_s = 0.0
        """When the next attempt is due."""
        self.trouble: Trouble | None = None
        """Why there is no connection; None while there is one, and before the first attempt."""

    @property
    def speaks_5(self) -> bool:
        """Whether the next attempt is with MQTT 5, or else with 3.1.1."""
        return self._protocol.speaks_5

    @property
    def is_trial(self) -> bool:
        """Whether the broker may not know the next attempt's protocol: then its answer is not waited for long."""
        return self._protocol.is_trial

    def came_up(self) -> None:
        """Note that the broker has accepted a connection."""
        self.trouble = None
        self._protocol.answered()

    def at_once(self) -> None:
        """Make the next attempt due now."""
        self.due_mono_s = self._clock()

    def lost(self, trouble: Trouble, *, up_s: float | None, was_answered: bool, is_refusal: bool) -> None:
        """Note that a connection ended.

        Args:
            trouble: why.
            up_s: how long the connection lasted since the broker accepted it; None when the broker did not.
            was_answered: whether the broker had answered our CONNECT.
            is_refusal: whether the end may be the refusal of a message, which the next connection finds out more about.
        """
        # What one connection lasts says nothing; two clients of one name end each other's for ever.
        if not is_refusal:
            self._short_lives = self._short_lives + 1 if 0 < (up_s or 0.0) < _SHORT_LIFE_S else 0
        if self._short_lives >= _SHORT_LIVES:
            trouble = trouble.again_and_again()
        if was_answered:
            self._protocol.answered()
            # The next connection finds out more, so it need not wait.
            self._backoff.was_up(math.inf if is_refusal else up_s or 0.0)
        elif trouble.reason in _MAY_BE_THE_PROTOCOL and self._protocol.unanswered(
            silent=trouble.reason is Reason.NO_ANSWER
        ):
            # An older broker ends a connection that it does not understand, or says nothing.
            log.log(
                logging.DEBUG if self.trouble is not None else logging.INFO,
                "broker does not answer MQTT 5, trying 3.1.1 error=%r",
                trouble.detail,
            )
            self.at_once()
            return
        else:
            trouble = trouble.before_an_answer()
        self._pause(trouble, was_up=up_s is not None, is_refusal=is_refusal)

    def not_opened(self, trouble: Trouble) -> None:
        """Note that an attempt failed before our CONNECT was sent."""
        self._pause(trouble.before_an_answer(), was_up=False, is_refusal=False)

    def _pause(self, trouble: Trouble, *, was_up: bool, is_refusal: bool) -> None:
        pause_s = self._backoff.pause_s(permanent=trouble.is_permanent and not is_refusal)
        self.due_mono_s = self._clock() + pause_s
        if trouble != self.trouble:
            log.log(
                logging.ERROR if trouble.is_permanent else logging.WARNING,
                "broker %s host=%s port=%d reason=%s error=%r retry_s=%.1f%s",
                "connection lost" if was_up else "not connected",
                self._settings.host,
                self._settings.port,
                trouble.reason,
                trouble.detail,
                pause_s,
                f"; {trouble.advice}" if trouble.advice else "",
            )
        else:
            log.debug("broker still not connected error=%r retry_s=%.1f", trouble.detail, pause_s)
        self.trouble = trouble
