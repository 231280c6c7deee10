"""What follows when a connection ended or did not come up: where and when to try again, in which protocol, and what is
told.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable

from edge_agent.mqtt.backoff import STABLE_S, Backoff
from edge_agent.mqtt.protocol import ProtocolChoice
from edge_agent.mqtt.rounds import Place, Rounds
from edge_agent.mqtt.settings import BrokerSettings
from edge_agent.mqtt.topic_access import TopicAccess
from edge_agent.mqtt.trouble import MAY_BE_THE_PROTOCOL, Reason, Trouble

__all__ = ["Reconnect"]

log = logging.getLogger(__name__)

_ANSWER_LIMIT_S = 10.0
_TRIAL_LIMIT_S = 3.0
"""Seconds for an answer to MQTT 5 from a broker that may not know it: some brokers say nothing then."""
_SHORT_LIFE_S, _SHORT_LIVES = 15.0, 3
"""After that many connections in a row that lasted for less, another client may have our identifier."""

_GONE = (Reason.SILENT, Reason.UNAVAILABLE)
"""Ends of a connection after which another attempt there would take its time to fail."""


class Reconnect:
    """Knows why there is no connection, and where and when the next attempt is due.

    Args:
        settings: the broker.
        clock: gives now, on the monotonic clock, in seconds.
    """

    def __init__(
        self, settings: BrokerSettings, clock: Callable[[], float] = time.monotonic, client_id: str = ""
    ) -> None:
        self._clock = clock
        self._client_id = client_id
        self._backoff = Backoff(settings.keepalive_s)
        places = [
            Place(address, settings.url_of(address), ProtocolChoice(settings.protocol), TopicAccess(clock))
            for address in settings.addresses
        ]
        self._rounds = Rounds(places, self._backoff)
        self._short_lives = 0
        self.due_mono_s = 0.0
        """When the next attempt is due."""
        self.trouble: Trouble | None = None
        """Why there is no connection; None while there is one, and before the first attempt."""
        self._troubled = self.place
        """Where that was."""

    @property
    def place(self) -> Place:
        """Where the connection is, or where the next attempt goes."""
        return self._rounds.place

    @property
    def shown_place(self) -> Place:
        """What `trouble` is of, or where the connection is."""
        return self.place if self.trouble is None else self._troubled

    @property
    def places(self) -> list[Place]:
        """Every address of the broker, in the order of the settings."""
        return self._rounds.places

    @property
    def speaks_5(self) -> bool:
        """Whether the next attempt is with MQTT 5, or else with 3.1.1."""
        return self.place.protocol.speaks_5

    @property
    def answer_limit_s(self) -> float:
        """For how long the next attempt's answer is waited for, seconds."""
        return _TRIAL_LIMIT_S if self.place.protocol.is_trial else _ANSWER_LIMIT_S

    def came_up(self) -> None:
        """Note that the broker has accepted a connection."""
        self.trouble = self.place.trouble = None
        self.place.protocol.accepted()

    def at_once(self) -> None:
        """Make the next attempt due now."""
        self.due_mono_s = self._clock()

    def files_changed(self) -> None:
        """Note that what the broker refused us for may have been put right."""
        self._rounds.unblock()

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
            if up_s is None:
                self.place.protocol.refused()
            else:
                self.place.protocol.ended()
            # The next connection finds out more, so it need not wait.
            self._backoff.was_up(math.inf if is_refusal else up_s or 0.0)
        elif trouble.reason in MAY_BE_THE_PROTOCOL and self.place.protocol.unanswered(
            silent=trouble.reason is Reason.NO_ANSWER
        ):
            # An older broker ends a connection that it does not understand, or says nothing.
            log.log(
                logging.DEBUG if self.place.trouble is not None else logging.INFO,
                "broker does not answer MQTT 5, trying 3.1.1 error=%r",
                trouble.detail,
            )
            self.at_once()
            return
        else:
            trouble = trouble.before_an_answer()
        self._go_on(trouble, up_s=up_s, is_refusal=is_refusal)

    def not_opened(self, trouble: Trouble) -> None:
        """Note that an attempt failed before our CONNECT was sent."""
        self._go_on(trouble.before_an_answer(), up_s=None, is_refusal=False)

    def _go_on(self, trouble: Trouble, *, up_s: float | None, is_refusal: bool) -> None:
        place, now = self.place, self._clock()
        pause_s = self._pause_s(trouble, now, held=(up_s or 0.0) >= STABLE_S, is_refusal=is_refusal)
        self.due_mono_s = now + pause_s
        if trouble != place.trouble:
            log.log(
                logging.ERROR if trouble.is_permanent else logging.WARNING,
                "broker %s host=%s port=%d reason=%s error=%r%s retry_s=%.1f client=%s%s",
                "not connected" if up_s is None else "connection lost",
                *place.address,
                trouble.reason,
                trouble.detail,
                "" if len(self.places) == 1 else f" next={self.place.address}",
                pause_s,
                self._client_id,
                f"; {trouble.advice}" if trouble.advice else "",
            )
        else:
            log.debug(
                "broker still not connected host=%s error=%r retry_s=%.1f", place.address, trouble.detail, pause_s
            )
        self.trouble = place.trouble = trouble
        self._troubled = place

    def _pause_s(self, trouble: Trouble, now_mono_s: float, *, held: bool, is_refusal: bool) -> float:
        if held:
            self._rounds.served()
            if is_refusal or not (trouble.is_permanent or trouble.reason in _GONE):
                return self._rounds.stay()
        elif is_refusal and self._rounds.may_ask():
            # What was learnt is of this broker, so it is the one that has to be asked; but not in a fast loop.
            return self._backoff.pause_s(permanent=False)
        return self._rounds.move_on(now_mono_s, permanent=trouble.is_permanent and not is_refusal)
