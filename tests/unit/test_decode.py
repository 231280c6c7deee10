"""Payloads become columns; whatever cannot be read is told with its reason, and takes nothing else with it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Readings, Rejection, RejectReason
from edge_agent.messages.topic import Topic
from edge_agent.messages.values import FLOAT32_MAX
from edge_agent.sources.decode import Decoder

NOW_S = 2000.0


def decode(*payloads: bytes, channels: tuple[str, ...] = ("p", "q")) -> tuple[Readings, list[Rejection]]:
    items = [Delivery(Topic(b"sensors/a1/x", "a1"), payload, 1, False) for payload in payloads]
    return Decoder(channels).decode(items, NOW_S)


@pytest.mark.parametrize(
    ("payload", "time_s", "values"),
    [
        (b'{"time": 5.5, "p": 1, "q": 2}', 5.5, [1, 2]),
        (b'{"q": 2, "other": {"deep": [1]}, "p": 1}', NOW_S, [1, 2]),
        (b'{"time": "1970-01-01T00:00:07Z", "p": 1, "q": 2}', 7.0, [1, 2]),
        (b'{"time": "1970-01-01T01:00:07+01:00", "p": 1, "q": 2}', 7.0, [1, 2]),
        (b'{"time": "1970-01-01T00:00:07", "p": 1, "q": 2}', 7.0, [1, 2]),
        (b'{"time": null, "p": 1, "q": null}', NOW_S, [1, math.nan]),
        (b'{"time": 1763700000250, "p": 1, "q": 2}', 1763700000.25, [1, 2]),
        (b'{"time": 1763700000250125, "p": 1, "q": 2}', 1763700000.250125, [1, 2]),
        (b'{"time": 1763700000000000000, "p": 1, "q": 2}', 1763700000.0, [1, 2]),
        (b'{"p": 1}', NOW_S, [1, math.nan]),
        (b'{"time": 3, "values": [1.5, null]}', 3.0, [1.5, math.nan]),
    ],
)
def test_the_documented_forms_are_read(payload: bytes, time_s: float, values: list[float]) -> None:
    """Times default to the arrival; missing values are NaN; other keys are ignored."""
    found, rejections = decode(payload)
    assert not rejections
    assert found.times == [time_s]
    np.testing.assert_array_equal(found.values, np.array([values], dtype=np.float32))


def test_a_time_under_another_usual_name_is_told_once_and_not_guessed(caplog: pytest.LogCaptureFixture) -> None:
    """The arrival's time counts, and the log names the key that may have been meant."""
    found, _ = decode(b'[{"last_seen": "2026-11-30T10:00:00Z", "p": 1}]', b'{"ts": 5, "p": 1}')
    assert found.times == [NOW_S, NOW_S + 1e-6]
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [each.partition("; write it `time`, or")[0] for each in told] == [
        "readings have a key that may be their time, and is not read: 'last_seen'"
    ]
    decode(b'{"p": 1, "note": "a t in the values is none"}')
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_a_channel_that_is_called_as_a_time_is_none(caplog: pytest.LogCaptureFixture) -> None:
    """A temperature may be `t`; and where the topic names the channel, the key is told as well."""
    decode(b'{"t": 20.5, "p": 1}', channels=("p", "t"))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    topic = Topic(b"sensors/a1/x/p", "a1", "p")
    decoder = Decoder(("p", "q"), one_channel=True)
    for payload in (b"4.1", b'{"value": 4.1, "ts": 1763700000}', b'{"value": 4.2, "ts": 1763700001}'):
        decoder.decode([Delivery(topic, payload, 1, False)], NOW_S)
    told = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert [each.partition("; write it `time`, or")[0] for each in told] == [
        "readings have a key that may be their time, and is not read: 'ts'"
    ]


def test_readings_without_a_time_are_told_apart() -> None:
    """An alert is named by its reading's time: two of one batch must not get one name."""
    found, rejections = decode(b'{"p": 1}', b'[{"p": 2}, {"p": 3}]', b'{"p": 4, "time": 5}', b'{"p": 5}')
    assert not rejections
    assert found.times == [NOW_S, NOW_S + 1e-6, NOW_S + 2e-6, 5, NOW_S + 4e-6]


def test_an_array_is_a_batch_in_its_order() -> None:
    """Oldest first, all of one asset."""
    found, rejections = decode(b'[{"time": 1, "p": 1, "q": 1}, {"time": 2, "values": [2, 2]}]')
    assert not rejections
    assert (found.assets, found.times) == (["a1", "a1"], [1.0, 2.0])


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", RejectReason.NOT_JSON),
        (b"\xff\xfe\x00", RejectReason.NOT_JSON),
        (b'{"p": unavailable, "q": 1}', RejectReason.NOT_JSON),
        (b'{"p": NaN, "q": "nan"}', RejectReason.UNREADABLE),
        (b'{"p": NaN, "q": null}', RejectReason.UNREADABLE),
        (b'{"values": ["off", "on"]}', RejectReason.UNREADABLE),
        (b'{"values": ["off"]}', RejectReason.WRONG_LENGTH),
        (b'[{"p": "off"}, {"q": NaN}]', RejectReason.UNREADABLE),
        (b'[{"p": "off"}, {}, {"q": 1}]', RejectReason.NO_CHANNEL),
        (b'{"p": [1], "q": NaN}', RejectReason.WRONG_TYPE),
        (b'{"p": {"value": "off"}, "q": 1}', RejectReason.WRONG_TYPE),
        (b'{"time": NaN, "p": 1}', RejectReason.BAD_TIME),
        (b'{"time": true, "p": 1}', RejectReason.WRONG_TYPE),
        (b"3", RejectReason.WRONG_TYPE),
        (b"[1, 2]", RejectReason.WRONG_TYPE),
        (b'{"values": [1]}', RejectReason.WRONG_LENGTH),
        (b'{"values": [1, 2, 3]}', RejectReason.WRONG_LENGTH),
        (b"{}", RejectReason.NO_CHANNEL),
        (b'{"time": 1, "other": 2}', RejectReason.NO_CHANNEL),
        (b'{"values": [null, null]}', RejectReason.NO_CHANNEL),
        (b'{"time": -1, "p": 1}', RejectReason.BAD_TIME),
        (b'{"time": -1763700000250, "p": 1}', RejectReason.BAD_TIME),
        (b'{"time": 1763700000250e12, "p": 1}', RejectReason.BAD_TIME),
        (b'{"time": "yesterday", "p": 1}', RejectReason.BAD_TIME),
        (b'{"time": "1763700000.25", "p": 1}', RejectReason.BAD_TIME),
        (b'{"p": 1, "x": ' + b"[" * 100_000, RejectReason.NOT_JSON),
        (b" " * (1 << 20) + b'{"p": 1}', RejectReason.TOO_LARGE),
    ],
)
def test_a_bad_message_is_rejected_and_its_neighbours_are_read(payload: bytes, reason: RejectReason) -> None:
    """One sender's mistake costs no other reading."""
    good = b'{"p": 1, "q": 2}'
    found, rejections = decode(good, payload, good)
    assert [rejection.reason for rejection in rejections] == [reason]
    assert rejections[0].payload == payload
    assert len(found) == 2


@pytest.mark.parametrize("value", [3.4028235e38, -3.4028235e38, FLOAT32_MAX, 1e-46, 0.0])
def test_every_finite_float32_is_a_value(value: float) -> None:
    """Up to the largest, however it is written; what is too small for it is zero."""
    found, rejections = decode(json.dumps({"p": value, "q": 1}).encode())
    assert not rejections
    np.testing.assert_array_equal(found.values, np.array([[value, 1]], np.float32))
    assert np.isfinite(found.values).all()


@pytest.mark.parametrize(
    ("payload", "rows", "unreadable"),
    [
        (b'{"p": 35, "q": NaN}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": -nan}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q":Infinity}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": "unavailable"}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": "unavailable", "note": "[nan]"}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": ""}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": "nan"}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": "1_0"}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": 1e999}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": -' + b"9" * 400 + b"}", [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": ' + b"9" * 400 + b".5}", [[35, math.nan]], {"q": 1}),
        (b'\xef\xbb\xbf{"p": 35, "q": 4}', [[35, 4]], {}),
        (b'{"p": 35, "q": 1e39}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": 3.4028235677973366e38}', [[35, math.nan]], {"q": 1}),
        (b'{"p": 35, "q": null}', [[35, math.nan]], {}),
        (b'{"p": 35, "q": "20.5"}', [[35, 20.5]], {}),
        (b'{"p": 35, "q": " 2e1 "}', [[35, 20]], {}),
        (b'{"p": true, "q": false}', [[1, 0]], {}),
        (b'{"values": [NaN, "3"]}', [[math.nan, 3]], {"p": 1}),
        (b'[{"p": 1}, {"p": "off"}, {"p": "off", "q": 2}]', [[1, math.nan], [math.nan, 2]], {"p": 2}),
    ],
)
def test_a_value_that_is_no_number_is_missing_and_counted(
    payload: bytes, rows: list[list[float]], unreadable: dict[str, int]
) -> None:
    """One failed sensor hides none of the others; a text that is a number is one, as true and false are."""
    decoder = Decoder(["p", "q"])
    found, rejections = decoder.decode([Delivery(Topic(b"t", "a1"), payload, 1, False)], NOW_S)
    assert not rejections
    np.testing.assert_array_equal(found.values, np.array(rows, np.float32))
    assert decoder.unreadable.describe() == unreadable
    assert not decoder.has_time(payload)
    assert decoder.unreadable.describe() == unreadable, "a look at the time counts nothing"


@pytest.mark.parametrize(
    "payload",
    [
        b'{"values":[1,"x"]}',
        b'{"value":"x","values":[]}',
        b'[{"value":"x"},{"values":[1,2]}]',
        b'{"values":["x","x"]}',
    ],
)
def test_values_of_the_wrong_number_are_rejected_also_where_the_topic_names_the_channel(payload: bytes) -> None:
    """And where one of them is no number. Found by a reviewer: the decoder took a value that was not there."""
    decoder = Decoder(["p", "q"], one_channel=True)
    readings, rejections = decoder.decode([Delivery(Topic(b"t", "a1", "p"), payload, 1, False)], 0.0)
    assert len(readings) == 0
    assert len(rejections) == 1


def test_unreadable_values_are_told_by_channel_at_a_limited_rate(caplog: pytest.LogCaptureFixture) -> None:
    """At once, then once a minute with what has come since; in a message without a number, too."""
    decoder = Decoder(["p", "q"])
    for now_s in (0.0, 1.0, 59.0, 61.0, 300.0):
        payloads = b'{"p": 35, "q": "off"}', b'{"p": "off", "q": "off"}', b'{"p": true, "q": "1"}'
        for payload in payloads if now_s < 300 else ():
            decoder.decode([Delivery(Topic(b"t", "a1"), payload, 1, False)], NOW_S)
        decoder.unreadable.tell("s", now_s)
    assert caplog.messages == [
        "values are no numbers, taken as missing stream=s channels='q in 2, p in 1' sample='off'",
        "values are no numbers, taken as missing stream=s channels='q in 6, p in 3' sample='off'",
    ]
    assert decoder.unreadable.describe() == {"q": 8, "p": 4}


def test_a_wrong_type_is_told_whatever_the_channel_is_called() -> None:
    """A name is a sender's, or an engineer's, and says nothing about what is wrong."""
    decoder = Decoder(["flow >= 5", "out of range"])
    for name in ("flow >= 5", "out of range"):
        payload = json.dumps({name: ["high"]}).encode()
        _, rejections = decoder.decode([Delivery(Topic(b"t", "a1"), payload, 1, False)], 0.0)
        assert [rejection.reason for rejection in rejections] == [RejectReason.WRONG_TYPE]


def test_a_message_is_used_whole_or_not_at_all() -> None:
    """A batch with one bad reading can be sent again without doubling the others."""
    found, rejections = decode(b'[{"p": 1, "q": 1}, {"values": [1]}]', b'{"p": 5, "q": 5}')
    assert [rejection.reason for rejection in rejections] == [RejectReason.WRONG_LENGTH]
    np.testing.assert_array_equal(found.values, [[5, 5]])


finite = st.floats(width=32, allow_nan=False, allow_infinity=False)


@given(st.lists(st.tuples(finite, finite), min_size=1, max_size=20), st.permutations(["p", "q", "time", "x"]))
def test_what_a_sender_encodes_comes_back(rows: list[tuple[float, float]], order: list[str]) -> None:
    """Round trip over the object form, with keys in any order."""
    payloads = []
    for number, (p, q) in enumerate(rows):
        reading = {"p": p, "q": q, "time": float(number), "x": "ignored"}
        payloads.append(json.dumps({key: reading[key] for key in order}).encode())
    found, rejections = decode(*payloads)
    assert not rejections
    assert found.times == [float(number) for number in range(len(rows))]
    np.testing.assert_array_equal(found.values, np.array(rows, dtype=np.float32))


@given(st.binary(max_size=200))
def test_no_payload_ends_the_decoder(payload: bytes) -> None:
    """Whatever comes is a reading or a rejection, and what follows is read."""
    found, rejections = decode(payload, b'{"p": 1, "q": 2}')
    assert len(rejections) <= 1
    np.testing.assert_array_equal(found.values[-1], [1, 2])


def test_a_key_that_is_no_text_is_ignored_as_any_other() -> None:
    """Also where a first message without a time is looked through for another name of it."""
    found, rejections = decode(b'{"p": 1, "ti\xa5e": "=8+14:00"}')
    assert (len(found), rejections) == (1, [])


def test_channel_names_are_free() -> None:
    """A channel may be called what no Python field could be."""
    found, rejections = decode(b'{"temp \xc2\xb0C": 1, "class": 2}', channels=("temp °C", "class"))
    assert not rejections
    np.testing.assert_array_equal(found.values, [[1, 2]])


@pytest.mark.parametrize(
    ("payload", "is_taken"),
    [
        (b'{"time": 2300, "p": 1}', True),
        (b'{"time": 2300.5, "p": 1}', False),
        (b'[{"time": 2100, "p": 1}, {"time": 2200, "p": 1}]', True),
        (b'[{"time": 1, "p": 1}, {"time": 5600, "p": 1}, {"time": 2, "p": 1}]', False),
        (b'{"time": "1970-01-01T01:00:00Z", "p": 1}', False),
        (b'{"p": 1}', True),
        (b'[{"n": "p", "v": 1, "t": 400}]', False),
    ],
)
def test_a_message_that_is_ahead_of_its_time_is_rejected_whole(payload: bytes, is_taken: bool) -> None:
    """Wherever in it the reading is; with no limit, any time is taken."""
    items = [Delivery(Topic(b"sensors/a1/x", "a1"), body, 1, False) for body in (b'{"p": 0}', payload, b'{"p": 2}')]
    found, rejections = Decoder(["p"]).decode(items, NOW_S, NOW_S + 300)
    assert len(found) == len(found.values) == len(found.assets)
    assert [value for (value,) in found.values if value != 1] == [0, 2]
    assert (len(found) > 2, [bad.reason for bad in rejections]) == (is_taken, [] if is_taken else [RejectReason.AHEAD])
    assert not Decoder(["p"]).decode(items, NOW_S)[1]


def test_a_rejection_says_how_far_ahead_its_message_is() -> None:
    """A wrong time zone shows."""
    item = Delivery(Topic(b"sensors/a1/x", "a1"), b'{"time": 5600, "p": 1}', 1, False)
    (bad,) = Decoder(["p"]).decode([item], NOW_S, NOW_S + 300)[1]
    assert bad.detail == "time 5600 is 3300 s later than this device's clock and ahead_s allow"


def test_a_value_that_is_ahead_is_rejected_too() -> None:
    """Where the topic names the channel; one of a channel that the bundle does not have is ignored as ever."""
    topics = [Topic(b"plant/a1/p", "a1", "p"), Topic(b"plant/a1/z", "a1", "z")]
    items = [Delivery(topic, b'{"value": 1, "time": 5600}', 1, False) for topic in topics]
    found, rejections = Decoder(["p"], one_channel=True).decode(items, NOW_S, NOW_S + 300)
    assert (len(found), [bad.reason for bad in rejections]) == (0, [RejectReason.AHEAD])


@pytest.mark.parametrize(("channels", "sizes"), [(8, [40]), (100, [4] * 10), (1000, [1] * 40)])
def test_short_readings_of_many_channels_are_decoded_in_portions(channels: int, sizes: list[int]) -> None:
    """Of 1,000 channels, the few messages that come at once took 1.2 GB, though they have 90 kB each."""
    payload = b"[" + b",".join([b'{"c1":0}'] * 10_000) + b"]"
    messages = [Delivery(Topic(b"sensors/a1/pump", asset="a1"), payload, mid, False) for mid in range(1, 41)]
    portions = list(Decoder([f"c{number}" for number in range(1, channels + 1)]).portions(messages))
    assert [len(portion) for portion in portions] == sizes
    assert [message for portion in portions for message in portion] == messages
