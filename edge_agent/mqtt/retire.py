"""Ends an agent's session at a broker, and takes away what it retained there: for an agent that does not come back."""

from __future__ import annotations

import select
import time
from dataclasses import dataclass

from edge_agent.mqtt.address import Address
from edge_agent.mqtt.brokers import Connection
from edge_agent.mqtt.link import Link
from edge_agent.mqtt.message import Answer, Message
from edge_agent.mqtt.opening import Opener, PahoClient
from edge_agent.mqtt.protocol import ProtocolChoice
from edge_agent.mqtt.topic_access import TopicAccess
from edge_agent.mqtt.trouble import MAY_BE_THE_PROTOCOL, Reason, Trouble

__all__ = ["Retired", "retire"]

_ANSWER_LIMIT_S = 10.0
_STEP_S = 0.1
_READ_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Retired:
    """What was done at one address."""

    address: str
    """As a URL."""
    client_id: str
    is_ended: bool
    """Whether we got there, so that there is no session any more."""
    cleared: tuple[str, ...] = ()
    """Topics on which nothing is retained any more."""
    problem: str | None = None
    """Why not everything could be done; None if it was."""


def retire(connection: Connection, address: Address, topics: list[str]) -> Retired:
    """Connect once with a clean start and no session expiry, clear retained messages, and disconnect.

    Whoever is connected by this identifier is thrown out, and the broker publishes its last will: before it takes our
    messages, so nothing of it stays.

    Args:
        connection: the agent's, to a broker.
        address: one of the broker's.
        topics: that a retained message of ours may stand on.
    """
    settings = connection.settings
    protocol = ProtocolChoice(settings.protocol)
    opener = Opener(settings, client_id=connection.client_id, wake=lambda: None, keeps_session=False)
    url = settings.url_of(address)
    while True:
        client = _open(opener, address, speaks_5=protocol.speaks_5)
        if isinstance(client, Trouble):
            return Retired(url, connection.client_id, is_ended=False, problem=client.before_an_answer().words)
        visit = _Visit(client, settings.keepalive_s)
        try:
            trouble = visit.come_up()
            if trouble is None:
                cleared, problem = visit.clear(topics)
                visit.link.say_goodbye(None)
                # The session ends with the connection, whoever ends that.
                return Retired(url, connection.client_id, is_ended=True, cleared=cleared, problem=problem)
        finally:
            visit.link.close()
        silent = trouble.reason is Reason.NO_ANSWER
        may_be = not visit.link.was_answered and trouble.reason in MAY_BE_THE_PROTOCOL
        if not (may_be and protocol.unanswered(silent=silent)):
            return Retired(url, connection.client_id, is_ended=False, problem=trouble.words)


def _open(opener: Opener, address: Address, *, speaks_5: bool) -> PahoClient | Trouble:
    opener.begin(time.monotonic(), address, speaks_5=speaks_5, will=None)
    while (result := opener.result()) is None:
        opener.tick(time.monotonic())
        time.sleep(_STEP_S / 10)  # the attempt is on a thread of its own, and this command has nothing else to do
    return result


class _Visit:
    """One connection.

    Args:
        client: whose CONNECT is not sent yet.
        keepalive_s: of the settings.
    """

    def __init__(self, client: PahoClient, keepalive_s: float) -> None:
        assert client.wire is not None
        self._access = TopicAccess()
        self.link = Link(
            client,
            client.wire,
            subscriptions=[],
            former=[],
            birth=None,
            access=self._access,
            keepalive_s=keepalive_s,
            answer_limit_s=_ANSWER_LIMIT_S,
        )

    def come_up(self) -> Trouble | None:
        """Wait until the broker has accepted us; gives why it did not."""
        while not self.link.is_up and self.link.trouble is None:
            self._step()
        return self.link.trouble

    def clear(self, topics: list[str]) -> tuple[tuple[str, ...], str | None]:
        """Clear what is retained on these topics; gives those where it was, and why not all of them."""
        sent = {self.link.publish(Message(topic, b"", qos=1, retain=True)): topic for topic in topics}
        cleared: list[str] = []
        limit_mono_s = time.monotonic() + _ANSWER_LIMIT_S
        while sent and self.link.trouble is None and time.monotonic() < limit_mono_s:
            self._step()
            for mid, answer in self.link.answers():
                topic = sent.pop(mid, "")
                cleared += [topic] if answer is Answer.TAKEN else []
        left = [topic for topic in topics if topic not in cleared]
        if not left:
            return tuple(cleared), None
        answers = {self._access.refused.get(topic) for topic in left} - {None}
        why = ", ".join(map(str, answers)) or (self.link.trouble.detail if self.link.trouble else "no answer")
        return tuple(cleared), f"not cleared: {', '.join(left)}: {why}"

    def _step(self) -> None:
        self.link.flush()
        select.select([self.link.socket_number], [], [], _STEP_S)
        self.link.receive([], _READ_AT_ONCE)
        self.link.beat(time.monotonic(), is_read=True)
