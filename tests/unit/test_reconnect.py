"""When the connection is tried again, and when it is given up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.mqtt.backoff import Backoff
from edge_agent.mqtt.keepalive import Beat, KeepAlive
from edge_agent.mqtt.protocol import ProtocolChoice
from edge_agent.mqtt.settings import MqttProtocol


def longest(low: float, high: float) -> float:
    assert low <= high
    return high


def test_pauses_double_up_to_thirty_seconds() -> None:
    """The limit of the jitter, failure by failure."""
    backoff = Backoff(60, longest)
    assert [backoff.pause_s(permanent=False) for _ in range(7)] == [1, 2, 4, 8, 16, 30, 30]


def test_pauses_are_no_longer_than_the_keepalive() -> None:
    """Who wants a loss noticed in five seconds does not want to wait for thirty afterwards."""
    backoff = Backoff(5, longest)
    assert [backoff.pause_s(permanent=False) for _ in range(5)] == [1, 2, 4, 5, 5]


def test_the_jitter_is_full() -> None:
    """From nothing to the limit, so that a thousand agents do not come back in one moment."""
    backoff = Backoff(60, lambda low, _high: low)
    assert [backoff.pause_s(permanent=False) for _ in range(5)] == [0, 0, 0, 0, 0]


@given(st.integers(1, 50), st.integers(5, 3600))
def test_what_waiting_does_not_heal_is_tried_about_once_a_minute(failures: int, keepalive_s: int) -> None:
    """However many failures there were."""
    backoff = Backoff(keepalive_s)
    for _ in range(failures):
        assert 45 <= backoff.pause_s(permanent=True) <= 75


def test_only_a_connection_that_held_makes_pauses_short_again() -> None:
    """A broker that takes us and ends it at once is not asked twice a second for ever."""
    backoff = Backoff(60, longest)
    backoff.pause_s(permanent=False)
    backoff.was_up(0.2)
    assert backoff.pause_s(permanent=False) == 2
    backoff.was_up(5.0)
    assert backoff.pause_s(permanent=False) == 1


def beats(keepalive: KeepAlive, seconds: range, *, heard: bool = False, stuck: bool = False) -> dict[int, Beat]:
    found = {second: keepalive.beat(float(second), heard=heard, stuck=stuck) for second in seconds}
    return {second: beat for second, beat in found.items() if beat is not Beat.FINE}


def test_silence_is_answered_by_a_ping_and_then_by_giving_up() -> None:
    """Half of the keep-alive, and all of it."""
    keepalive = KeepAlive(10, 0.0)
    assert beats(keepalive, range(1, 11)) == {5: Beat.PING, 10: Beat.SILENT}


def test_whatever_comes_is_a_sign_of_life() -> None:
    """Readings count, though paho never sees them; pings go on, because the broker wants to hear from us too."""
    keepalive = KeepAlive(10, 0.0)
    assert beats(keepalive, range(1, 31), heard=True) == dict.fromkeys([5, 10, 15, 20, 25, 30], Beat.PING)


def test_an_answer_to_a_ping_starts_the_count_anew() -> None:
    """Silent for six seconds, heard, and silent again."""
    keepalive = KeepAlive(10, 0.0)
    beats(keepalive, range(1, 7))
    beats(keepalive, range(7, 8), heard=True)
    found = beats(keepalive, range(8, 18))
    assert [second for second, beat in found.items() if beat is Beat.SILENT] == [17]


def test_a_broker_that_reads_nothing_is_given_up_although_it_sends() -> None:
    """Our acknowledgements and alerts do not get through."""
    keepalive = KeepAlive(10, 0.0)
    found = beats(keepalive, range(1, 11), heard=True, stuck=True)
    assert found[10] is Beat.STUCK


def test_a_pause_of_ours_is_not_the_silence_of_the_broker() -> None:
    """The process was stopped, or a batch took long: there was no chance to hear anything."""
    keepalive = KeepAlive(10, 0.0)
    assert keepalive.beat(60.0, heard=False, stuck=False) is Beat.PING
    assert keepalive.beat(61.0, heard=False, stuck=False) is Beat.FINE


def test_a_broker_that_does_not_know_mqtt_5_is_asked_in_the_older_one() -> None:
    """At once, and when that is not answered either, the newer one is next."""
    choice = ProtocolChoice(MqttProtocol.AUTO)
    assert (choice.speaks_5, choice.is_trial) == (True, True)
    assert choice.unanswered(silent=True)
    assert (choice.speaks_5, choice.is_trial) == (False, False)
    assert not choice.unanswered(silent=False)
    assert choice.speaks_5


def test_a_broker_that_has_spoken_mqtt_5_is_not_doubted_for_one_slow_answer() -> None:
    """A broker that starts under load is slow; the older protocol would cost batches and reasons."""
    choice = ProtocolChoice(MqttProtocol.AUTO)
    choice.accepted()
    assert not choice.is_trial
    assert not any(choice.unanswered(silent=True) for _ in range(10))
    assert [choice.unanswered(silent=False) for _ in range(3)] == [False, False, True]


def test_a_refusal_in_the_older_protocol_proves_nothing_about_the_newer_one() -> None:
    """RabbitMQ 4 answers a wrong password after 3 s, in both: once it is put right, the agent speaks MQTT 5."""
    choice = ProtocolChoice(MqttProtocol.AUTO)
    assert choice.unanswered(silent=True)
    choice.refused()
    assert (choice.speaks_5, choice.is_trial) == (True, False), "with time for a slow answer"
    choice.refused()
    choice.accepted()
    assert not any(choice.unanswered(silent=True) for _ in range(10))
    assert choice.speaks_5


def test_the_newer_protocol_is_asked_again_where_the_broker_was_only_silent() -> None:
    """One slow CONNACK is no reason for 3.1.1 for good; a broker that ends MQTT 5 at once is one."""
    for silent, speaks_5 in ((True, True), (False, False)):
        choice = ProtocolChoice(MqttProtocol.AUTO)
        assert choice.unanswered(silent=silent)
        choice.accepted()
        choice.ended()
        assert (choice.speaks_5, choice.is_trial) == (speaks_5, False)


def test_a_protocol_that_was_asked_for_is_kept() -> None:
    """Whatever the broker says."""
    for wanted, speaks_5 in ((MqttProtocol.V5, True), (MqttProtocol.V311, False)):
        choice = ProtocolChoice(wanted)
        assert not any(choice.unanswered(silent=False) for _ in range(5))
        choice.refused()
        choice.ended()
        assert (choice.speaks_5, choice.is_trial) == (speaks_5, False)
