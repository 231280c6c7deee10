"""Sparkplug B: births, aliases, deaths.

No payload here was made by our code, but by pysparkplug 0.6.0 and by sparkplug-payload 1.0.3 of Eclipse Tahu, which
write nulls and negative numbers in different ways (2026-11-30).
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.settings import topic_filters
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Readings, Rejection, RejectReason
from edge_agent.messages.topic import Topic
from edge_agent.sources.births import Births
from edge_agent.sources.decode import Decoder
from edge_agent.sources.formats import SPARKPLUG
from edge_agent.sources.formats.sparkplug import read_payload, rebirth_command
from edge_agent.sources.mapping.mapping import with_preset
from edge_agent.sources.mapping.settings import PayloadSettings

AT_S = 1_763_700_000.25
NBIRTH = bytes.fromhex(
    "08fa8bd9a5aa3312120a05626453657118fa8bd9a5aa332004580312210a144e6f646520436f6e74726f6c2f5265626972746818fa8bd9a5aa33"
    "200b70001800"
)
DBIRTH = bytes.fromhex(
    "08fa8bd9a5aa33121e0a087072657373757265100118fa8bd9a5aa33200a69000000000000104012160a04666c6f77100218fa8bd9a5aa332009"
    "650000003f12160a056c6576656c100318fa8bd9a5aa33200250f9ff0312190a05636f756e74100418fa8bd9a5aa332008588080808080201212"
    "0a0372756e100518fa8bd9a5aa33200b700112160a057374617465100618fa8bd9a5aa33200c7a026f6b1801"
)
"""pressure 4.0 (1), flow 0.5 (2), level -7 in 16 bits (3), count 2**40 (4), run true (5), state "ok" (6); seq 1."""
DDATA = bytes.fromhex(
    "08e293d9a5aa331212100118e293d9a5aa33696666666666661040120b100218e293d9a5aa333801120d100318e293d9a5aa3350f8ff031802"
)
"""A second later: pressure 4.1, flow is null, level -8, by aliases and without datatypes; seq 2."""
HISTORICAL = bytes.fromhex(
    "08ca9bd9a5aa331216100118f2e4d8a5aa33200a280169cdcccccccccc23401214100118ca9bd9a5aa33200a69cdcccccccccc10401803"
)
"""Two seconds later: pressure 9.9 of five seconds before, and 4.2 of now; seq 3."""
TAHU_DBIRTH = bytes.fromhex(
    "08fa8bd9a5aa33121a0a087072657373757265100118fa8bd9a5aa3320096500008040121a0a04666c6f77100218fa8bd9a5aa33200a69000000"
    "000000e03f12180a056c6576656c100318fa8bd9a5aa33200250f9ffffff0f12190a05636f756e74100418fa8bd9a5aa33200858808080808020"
    "12120a0372756e100518fa8bd9a5aa33200b700112280a057374617465100618fa8bd9a5aa33200c4a100a075175616c6974791205080318c001"
    "7a026f6b1801"
)
"""The metrics of `DBIRTH`; level has 32 bits, and state the quality 192."""
TAHU_DDATA = bytes.fromhex(
    "08e293d9a5aa331210100118e293d9a5aa3320096533338340120d100218e293d9a5aa33200a38011211100318e293d9a5aa33200250f8ffffff"
    "0f1802"
)
"""The values of `DDATA`, with their datatypes."""
TAHU_BAD = bytes.fromhex(
    "08ca9bd9a5aa331222100118ca9bd9a5aa3320094a100a075175616c6974791205080318f4036566661e411214100218ca9bd9a5aa33200a6900"
    "0000000000e83f1212100118c2f4d8a5aa33200928016566661e411803"
)
"""Two seconds later: pressure 9.9 of quality 500, flow 0.75, and pressure 9.9 of five seconds before."""
CHANNELS = ("pressure", "flow", "level")
SAMPLE = Path(__file__).parents[2].parent / "shared" / "senders" / "sparkplug.json"
ROOT = "spBv1.0/plant"


class Listener:
    """A decoder with the topics of a stream."""

    def __init__(self, *topics: str, channels: tuple[str, ...] = CHANNELS) -> None:
        written = topics or (f"{ROOT}/DDATA/node1/+",)
        self.filters = topic_filters(written, None, SPARKPLUG)
        payload = with_preset(PayloadSettings(preset="sparkplug-b"))
        self.decoder = Decoder(channels, payload=payload, topics=written)

    def hear(self, topic: str, payload: bytes) -> tuple[Readings, list[Rejection]]:
        """One message on `spBv1.0/plant/...`."""
        name = f"{ROOT}/{topic}"
        route = self.filters.route_of(name)
        assert route is not None
        return self.decoder.decode([Delivery(Topic(name.encode(), *route), payload, 0, False)], 5.0)

    @property
    def births(self) -> Births:
        """Of the decoder."""
        assert isinstance(self.decoder.metadata, Births)
        return self.decoder.metadata


def test_a_birth_is_a_reading_and_says_what_the_aliases_mean() -> None:
    """Names, datatypes with a sign, a null; the asset is the device, the time the metrics'."""
    listener = Listener()
    assert len(listener.hear("NBIRTH/node1", NBIRTH)[0]) == 0
    found, rejections = listener.hear("DBIRTH/node1/pump1", DBIRTH)
    assert not rejections
    assert (found.assets, found.times) == (["pump1"], [AT_S])
    np.testing.assert_array_equal(found.values, [[4.0, 0.5, -7]])
    found, rejections = listener.hear("DDATA/node1/pump1", DDATA)
    assert not rejections
    assert found.times == [AT_S + 1]
    np.testing.assert_allclose(found.values, [[4.1, np.nan, -8]], rtol=1e-6)
    assert dict(listener.decoder.ignored) == {"count": 1, "run": 1, "state": 1}
    assert listener.births.describe() == {"known": 2, "deaths": 0, "gaps": 0, "historical": 0}


def test_what_another_implementation_writes_is_the_same() -> None:
    """A value of a bad quality is missing, and one of the past is counted."""
    listener = Listener()
    values = [
        [4.0, 0.5, -7],
        [4.1, np.nan, -8],
        [np.nan, 0.75, np.nan],
    ]
    for kind, payload, expected in zip(
        ("DBIRTH", "DDATA", "DDATA"), (TAHU_DBIRTH, TAHU_DDATA, TAHU_BAD), values, strict=True
    ):
        found, rejections = listener.hear(f"{kind}/node1/pump1", payload)
        assert not rejections
        np.testing.assert_allclose(found.values, [expected], rtol=1e-6)
    assert listener.births.historical == 1
    assert listener.decoder.unreadable.describe() == {"pressure": 1}


def test_what_is_of_the_past_is_not_scored() -> None:
    """It is counted; what is of now is a reading."""
    listener = Listener()
    listener.hear("DBIRTH/node1/pump1", DBIRTH)
    found, _ = listener.hear("DDATA/node1/pump1", HISTORICAL)
    assert found.times == [AT_S + 2]
    np.testing.assert_allclose(found.values, [[4.2, np.nan, np.nan]], rtol=1e-6)
    assert listener.births.historical == 1


def test_a_restart_understands_data_at_once() -> None:
    """By the births of the journal; one that has not changed is not written again."""
    listener = Listener()
    listener.hear("DBIRTH/node1/pump1", DBIRTH)
    records = listener.births.take_changed()
    listener.hear("DBIRTH/node1/pump1", DBIRTH)
    assert listener.births.take_changed() == []
    again = Listener()
    assert again.births.restore([*records, ("a1", b"x"), ("#birth/plant/node1/x", b"damaged")]) == [("a1", b"x")]
    found, rejections = again.hear("DDATA/node1/pump1", DDATA)
    assert (len(found), rejections) == (1, [])
    assert again.births.records() == records


def test_an_alias_of_no_birth_is_asked_for_once() -> None:
    """By a command to the node, and the message is told."""
    listener = Listener()
    _, (rejection,) = listener.hear("DDATA/node1/pump1", DDATA)
    assert rejection.reason is RejectReason.NO_BIRTH
    assert "alias 1 is of no birth of plant/node1/pump1" in rejection.detail
    listener.hear("DDATA/node1/pump1", DDATA)
    ((topic, payload),) = listener.births.take_commands()
    assert topic == f"{ROOT}/NCMD/node1"
    (metric,) = read_payload(payload).metrics
    assert (metric.name, metric.datatype, metric.value) == ("Node Control/Rebirth", 11, True)


@pytest.mark.parametrize("death", ["DDEATH/node1/pump1", "NDEATH/node1"])
def test_a_death_ends_what_was_said(death: str) -> None:
    """Of a device, or of all devices of a node; nothing of it is scored."""
    listener = Listener()
    listener.hear("DBIRTH/node1/pump1", DBIRTH)
    listener.births.take_changed()
    found, rejections = listener.hear(death, b"")
    assert (len(found), rejections) == (0, [])
    assert listener.births.take_changed() == [("#birth/plant/node1/pump1", b"")]
    assert listener.hear("DDATA/node1/pump1", DDATA)[1][0].reason is RejectReason.NO_BIRTH
    assert listener.births.deaths == 1
    gone = {f"{ROOT}/DDATA/node1/pump1", *([f"{ROOT}/NDATA/node1"] if death.startswith("N") else [])}
    assert listener.births.take_gone() == gone
    listener.hear(death, b"")
    listener.hear("DBIRTH/node1/pump1", DBIRTH)
    assert f"{ROOT}/DDATA/node1/pump1" not in listener.births.take_gone()


def test_a_gap_in_the_numbers_is_counted_and_asked_about() -> None:
    """Where all messages of a node are heard; who hears one device only cannot tell."""
    listener = Listener()
    listener.hear("NBIRTH/node1", NBIRTH)
    listener.hear("DBIRTH/node1/pump1", DBIRTH)
    listener.hear("DDATA/node1/pump1", HISTORICAL)
    assert listener.births.gaps == 1
    assert len(listener.births.take_commands()) == 1
    one = Listener(f"{ROOT}/DDATA/node1/pump1")
    one.hear("DBIRTH/node1/pump1", DBIRTH)
    one.hear("DDATA/node1/pump1", HISTORICAL)
    assert one.births.gaps == 0


def test_nodes_and_devices_may_be_in_one_stream() -> None:
    """A node's metrics are of the asset that is called as the node; without its topic they are none."""
    both = Listener(f"{ROOT}/DDATA/{{any}}/+", f"{ROOT}/NDATA/+")
    found, _ = both.hear("NBIRTH/node1", DBIRTH)
    assert found.assets == ["node1"]
    found, _ = both.hear("DBIRTH/node1/pump1", DBIRTH)
    assert found.assets == ["pump1"]
    assert len(Listener().hear("NBIRTH/node1", DBIRTH)[0]) == 0


def test_the_topics_of_births_and_deaths_are_subscribed_to() -> None:
    """Beside what is written."""
    assert topic_filters(f"{ROOT}/DDATA/node1/+", None, SPARKPLUG).subscriptions == [
        f"{ROOT}/+/node1/+",
        f"{ROOT}/+/node1",
    ]
    for wrong in ("sensors/+/pump", f"{ROOT}/DDATA"):
        with pytest.raises(ValueError, match="for Sparkplug"):
            topic_filters(wrong, None, SPARKPLUG)


def test_commands_of_hosts_are_none_of_our_messages() -> None:
    """They come by the same filter."""
    listener = Listener()
    for topic in ("NCMD/node1", "DCMD/node1/pump1"):
        found, rejections = listener.hear(topic, rebirth_command(5))
        assert (len(found), rejections) == (0, [])


@given(st.binary(max_size=80))
def test_no_bytes_end_the_reader(payload: bytes) -> None:
    """Whatever comes is readings or one rejection."""
    listener = Listener()
    found, rejections = listener.hear("DBIRTH/node1/pump1", payload)
    assert len(rejections) <= 1
    assert np.isfinite(found.values[~np.isnan(found.values)]).all()


@given(st.integers(0, len(DBIRTH) - 1), st.integers(0, 255))
def test_no_damaged_birth_ends_the_reader(place: int, byte: int) -> None:
    """One byte of a real one is another."""
    payload = DBIRTH[:place] + bytes([byte]) + DBIRTH[place + 1 :]
    assert len(Listener().hear("DBIRTH/node1/pump1", payload)[1]) <= 1


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the samples are not part of the project")
def test_the_sample_of_a_real_sender_is_read_right() -> None:
    """Aliases only; what they mean, a birth by the other implementation says."""
    sample = json.loads(SAMPLE.read_text())
    listener = Listener(sample["topic"], channels=tuple(sample["channels"]))
    listener.hear("DBIRTH/node1/pump1", DBIRTH)
    (message,) = sample["messages"]
    found, rejections = listener.hear(message["topic"].removeprefix(f"{ROOT}/"), bytes.fromhex(message["payload_hex"]))
    assert not rejections
    assert found.assets == [sample["expected"]["asset"]]
    np.testing.assert_allclose(found.values, [sample["expected"]["values"]], rtol=1e-6)
