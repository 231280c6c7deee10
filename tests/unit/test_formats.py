"""Every payload format gives the same reading, and tells what is wrong with what it cannot read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Readings, Rejection, RejectReason
from edge_agent.messages.topic import Topic
from edge_agent.sources.decode import Decoder
from edge_agent.sources.formats import FORMATS
from edge_agent.sources.formats.influx import read_lines

READING = {"time": 5.0, "p": 1.5, "q": None, "other": "x"}
SENML = [{"bn": "urn:dev:mac:1:", "bt": 1.7e9, "n": "p", "v": 1.5}, {"n": "q", "v": 2, "t": 1}, {"n": "z", "vs": "x"}]


def decode(
    payload: bytes, *, payload_format: str = "auto", channel: str | None = None
) -> tuple[Readings, list[Rejection]]:
    decoder = Decoder(("p", "q"), payload_format=payload_format, one_channel=channel is not None)
    return decoder.decode([Delivery(Topic(b"t", "a1", channel), payload, 1, False)], 2000.0)


@pytest.mark.parametrize(
    ("payload_format", "payload"),
    [
        ("json", json.dumps(READING).encode()),
        ("msgpack", msgspec.msgpack.encode(READING)),
        ("cbor", cbor2.dumps(READING)),
    ],
)
@pytest.mark.parametrize("named", [True, False])
def test_formats_of_objects_say_the_same(payload_format: str, payload: bytes, named: bool) -> None:
    """By name, and told by their first byte."""
    found, rejections = decode(payload, payload_format=payload_format if named else "auto")
    assert not rejections
    assert found.times == [5.0]
    np.testing.assert_array_equal(found.values, [[1.5, np.nan]])


@pytest.mark.parametrize("payload_format", ["json", "msgpack", "cbor"])
def test_an_array_is_a_batch_in_every_format(payload_format: str) -> None:
    """Oldest first."""
    encoders: dict[str, Any] = {"json": msgspec.json.encode, "msgpack": msgspec.msgpack.encode, "cbor": cbor2.dumps}
    encode = encoders[payload_format]
    found, _ = decode(encode([{"values": [1, 2]}, {"values": [3, 4]}]), payload_format=payload_format)
    np.testing.assert_array_equal(found.values, [[1, 2], [3, 4]])


@pytest.mark.parametrize("payload_format", ["senml", "auto"])
def test_senml_records_of_one_time_are_one_reading(payload_format: str) -> None:
    """With base name, base time and base value resolved; records of other names are ignored."""
    found, rejections = decode(json.dumps(SENML).encode(), payload_format=payload_format)
    assert not rejections
    assert found.times == [1.7e9, 1.7e9 + 1]
    np.testing.assert_array_equal(found.values, [[1.5, np.nan], [np.nan, 2]])


@pytest.mark.parametrize("other", ['"n": 3', '"n": "pressure"', '"unit": "n"', '"bn": true', '"t": "x", "n": [1]'])
def test_readings_with_a_key_of_senml_are_readings(other: str) -> None:
    """Keys that are no channel are ignored, in an array as without it."""
    found, rejections = decode(f' [{{"time": 5, "p": 1, "q": 2, {other}}}]'.encode())
    assert not rejections
    assert found.times == [5.0]
    np.testing.assert_array_equal(found.values, [[1, 2]])


def test_senml_may_begin_with_a_space() -> None:
    """As any JSON may."""
    found, rejections = decode(b' [{"n": "p", "v": 1}, {"n": "q", "v": 2}]')
    assert not rejections
    np.testing.assert_array_equal(found.values, [[1, 2]])


def test_a_senml_time_relative_to_now_is_no_time_of_the_reading() -> None:
    """It is added to the arrival; an equal message later is another reading, whatever its channels are called."""
    decoder = Decoder(["uptime"])
    payload = b'[{"n": "uptime", "v": 1, "t": -5}]'
    found, _ = decoder.decode([Delivery(Topic(b"sensors/a1/x", "a1"), payload, 1, False)], now_s=1000.0)
    assert found.times == [995.0]
    assert not decoder.has_time(payload)
    assert decoder.has_time(b'[{"n": "uptime", "v": 1, "t": 1.7e9}]')


def test_senml_base_values_and_booleans() -> None:
    """RFC 8428: a base value is that of numbers alone, a boolean is 0 or 1."""
    pack = [{"bt": 1.7e9, "bv": 100, "n": "p", "v": 1}, {"n": "q", "vb": True}, {"n": "q", "vs": "7", "t": 1}]
    found, _ = decode(json.dumps(pack).encode(), payload_format="senml")
    np.testing.assert_array_equal(found.values, [[101, 1], [np.nan, 7]])


@pytest.mark.parametrize("payload_format", ["senml", "auto"])
@pytest.mark.parametrize(
    ("more", "told"), [({"bver": 11}, "bver is 11"), ({"scale_": 10}, "the label 'scale_' must be understood")]
)
def test_senml_that_may_mean_something_else_is_refused(payload_format: str, more: dict[str, int], told: str) -> None:
    """A later version, and a label that must be understood (RFC 8428, 4.4); in any record."""
    pack = [{"bver": 10, "bt": 1.7e9, "n": "p", "v": 1}, {"n": "q", "v": 2, **more}]
    found, (rejection,) = decode(json.dumps(pack).encode(), payload_format=payload_format)
    assert len(found) == 0
    assert told in rejection.detail


@pytest.mark.parametrize(
    ("payload", "value"),
    [
        (b"4.1", 4.1),
        (b" -3 ", -3.0),
        (b'"4.1"', 4.1),
        (b"true", 1.0),
        (b"false", 0.0),
        (b'{"value": "7"}', 7.0),
        (b"1e3", 1000.0),
        (b'{"value": 7, "time": 5}', 7.0),
    ],
)
def test_a_topic_of_one_channel_carries_a_number(payload: bytes, value: float) -> None:
    """Bare, or in an object with a time of its own."""
    found, rejections = decode(payload, channel="q")
    assert not rejections
    np.testing.assert_array_equal(found.values, np.array([[np.nan, value]], np.float32))


@pytest.mark.parametrize("encode", [json.dumps, msgspec.msgpack.encode])
def test_an_array_of_one_channel_is_used_whole_or_not_at_all(encode: Callable[[object], str | bytes]) -> None:
    """Every value of it, each with its time; with one that is none, nothing."""

    def read(values: list[object]) -> tuple[Readings, list[Rejection]]:
        encoded = encode(values)
        return decode(encoded if isinstance(encoded, bytes) else encoded.encode(), channel="q")

    found, rejections = read([{"value": 1.0, "time": 5.0}, {"value": 2.0, "time": 6.0}, {"value": 3.0, "time": 7.0}])
    assert not rejections
    assert found.times == [5.0, 6.0, 7.0]
    np.testing.assert_array_equal(found.values, [[np.nan, 1], [np.nan, 2], [np.nan, 3]])
    found, rejections = read([{"value": 1.0, "time": 5.0}, {"time": 6.0}])
    assert len(found) == 0
    assert [rejection.reason for rejection in rejections] == [RejectReason.NO_CHANNEL]


def test_a_topic_of_another_channel_is_ignored_and_counted() -> None:
    """As keys that are no channel are; by name, of which a storm of them makes no storm."""
    decoder = Decoder(("p", "q"), one_channel=True)
    for name in ["presure", "presure", *map(str, range(50))]:
        found, rejections = decoder.decode([Delivery(Topic(b"t", "a", name), b"on", 1, False)], 1.7e9)
        assert (len(found), rejections) == (0, [])
    assert decoder.ignored["presure"] == 2
    assert len(decoder.ignored) == 21
    assert decoder.ignored.total() == 52


@pytest.mark.parametrize("payload", [b"12,5", b"1_0", b'"abc"', b'{"v": 3}', b"[]", b"abc"])
def test_what_is_no_value_is_told_in_the_senders_terms(payload: bytes) -> None:
    """Not in those of the parser that tried it last."""
    _, (rejection,) = decode(payload, channel="p")
    assert rejection.detail.startswith("it is neither a number nor an object with a value")


@pytest.mark.parametrize(
    ("payload", "options", "reason"),
    [
        (b"\x01on", {"channel": "p"}, RejectReason.NOT_JSON),
        (b"on", {"channel": "p"}, RejectReason.UNREADABLE),
        (b"inf", {"channel": "p"}, RejectReason.UNREADABLE),
        (b' {"value": "off"}', {"channel": "p"}, RejectReason.UNREADABLE),
        (b"{}", {"channel": "p"}, RejectReason.NO_CHANNEL),
        (b"[]", {"channel": "p"}, RejectReason.NO_CHANNEL),
        (b"\x90", {"channel": "p"}, RejectReason.NO_CHANNEL),
        (b"\x81", {"payload_format": "msgpack"}, RejectReason.NOT_MSGPACK),
        (b"\xa1", {"payload_format": "cbor"}, RejectReason.NOT_CBOR),
        (cbor2.dumps({"p": "high"}), {}, RejectReason.UNREADABLE),
        (cbor2.dumps({"p": ["high"]}), {}, RejectReason.WRONG_TYPE),
        (cbor2.dumps({"values": "high"}), {}, RejectReason.WRONG_TYPE),
        (b"1e39", {"channel": "p"}, RejectReason.UNREADABLE),
        (b'{"value": 1e39}', {"channel": "p"}, RejectReason.UNREADABLE),
        (b'[{"n": "p", "v": 3e38, "bv": 3e38}]', {"payload_format": "senml"}, RejectReason.UNREADABLE),
        (b'[{"n": "p", "vs": "off"}]', {}, RejectReason.UNREADABLE),
        (b'[{"n": "p", "v": [1]}]', {"payload_format": "senml"}, RejectReason.WRONG_TYPE),
        (b'[{"n": "\xfb", "v": 1}]', {}, RejectReason.NOT_JSON),
        (b'[{"n": "other", "v": 1}]', {"payload_format": "senml"}, RejectReason.NO_CHANNEL),
        (b"pump p=1 " + b"9" * 400, {"payload_format": "influx"}, RejectReason.BAD_TIME),
    ],
)
def test_what_cannot_be_read_is_told(payload: bytes, options: dict[str, str], reason: RejectReason) -> None:
    """With the reason that a person can act on."""
    found, rejections = decode(payload, **options)
    assert len(found) == 0
    assert [rejection.reason for rejection in rejections] == [reason]


ODD = ["unavailable", "", math.nan, math.inf, -math.inf, 1e39]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("form", ["json", "senml", "msgpack", "cbor"])
@pytest.mark.parametrize("named", [True, False])
def test_a_failed_sensor_hides_no_other_in_any_format(form: str, named: bool, value: object) -> None:
    """By name, and told by the first byte: the other channel's value is there, and the failed one is counted."""
    senml = [{"bt": 1.7e9, "n": "p", "v": 35}, {"n": "q", "vs" if isinstance(value, str) else "v": value}]
    encoders: dict[str, Callable[[], bytes]] = {
        "json": lambda: json.dumps({"p": 35, "q": value}).encode(),
        "senml": lambda: json.dumps(senml).encode(),
        "msgpack": lambda: msgspec.msgpack.encode({"p": 35, "q": value}),
        "cbor": lambda: cbor2.dumps({"p": 35, "q": value}),
    }
    decoder = Decoder(("p", "q"), payload_format=form if named else "auto")
    found, rejections = decoder.decode([Delivery(Topic(b"t", "a1"), encoders[form](), 1, False)], 2000.0)
    assert not rejections
    np.testing.assert_array_equal(found.values, [[35, np.nan]])
    assert decoder.unreadable.describe() == {"q": 1}


@pytest.mark.parametrize("payload_format", ["msgpack", "cbor"])
def test_numbers_in_other_clothes_are_numbers_in_every_format(payload_format: str) -> None:
    """A text that is a number, true and false, by name and in a list."""
    encoders: dict[str, Any] = {"msgpack": msgspec.msgpack.encode, "cbor": cbor2.dumps}
    payload = encoders[payload_format]([{"p": "20.5", "q": True}, {"values": [False, "-1"]}])
    found, rejections = decode(payload, payload_format=payload_format)
    assert not rejections
    np.testing.assert_array_equal(found.values, [[20.5, 1], [0, -1]])


def test_a_senml_record_without_a_number_makes_no_reading() -> None:
    """Its time has none of the other channels; a number in a text counts."""
    pack = [{"bt": 1.7e9, "n": "p", "v": 1}, {"n": "q", "t": 5, "vs": "off"}, {"n": "q", "t": 9, "vs": "2.5"}]
    found, rejections = decode(json.dumps(pack).encode())
    assert not rejections
    assert found.times == [1.7e9, 1.7e9 + 9]
    np.testing.assert_array_equal(found.values, [[1, np.nan], [np.nan, 2.5]])


def test_a_failed_value_of_one_channel_is_counted_by_the_channel_of_its_topic() -> None:
    """Bare, in an object, and beside good ones in an array, which count."""
    decoder = Decoder(("p", "q"), one_channel=True)
    payloads = [b"off", b'{"value": 1e39}', b'[{"value": 1}, {"value": "off"}, {"value": 2}]']
    items = [Delivery(Topic(b"t", "a1", "q"), payload, 1, False) for payload in payloads]
    found, rejections = decoder.decode(items, 2000.0)
    np.testing.assert_array_equal(found.values, [[np.nan, 1], [np.nan, 2]])
    assert [rejection.reason for rejection in rejections] == [RejectReason.UNREADABLE] * 2
    assert decoder.unreadable.describe() == {"q": 3}


@pytest.mark.parametrize(
    "payload", [b"nan", b"NaN", b'"unavailable"', b"Unknown", b"", b"null", b'{"value": NaN}', b'{"value": "unknown"}']
)
def test_a_sensor_that_says_that_it_has_no_value_is_no_rejection(payload: bytes) -> None:
    """Its channel is missing from then on, and counted."""
    decoder = Decoder(("p", "q"), one_channel=True)
    found, rejections = decoder.decode([Delivery(Topic(b"t", "a1", "q"), payload, 1, False)], 2000.0)
    assert (len(found), rejections) == (0, [])
    assert decoder.unreadable.describe() == {"q": 1}


@given(st.sampled_from(sorted(FORMATS)), st.binary(max_size=100), st.sampled_from([None, "p"]))
def test_no_payload_ends_a_decoder(payload_format: str, payload: bytes, channel: str | None) -> None:
    """Whatever comes is readings or one rejection."""
    found, rejections = decode(payload, payload_format=payload_format, channel=channel)
    assert len(rejections) <= 1
    assert np.isfinite(found.values[~np.isnan(found.values)]).all()


TAGGED = cbor2.CBORTag(1, 5)


@pytest.mark.parametrize(
    "payload",
    [
        cbor2.dumps({"time": TAGGED, "p": 1.0}),
        cbor2.dumps({"p": 1.0, "other": TAGGED}),
        cbor2.dumps(cbor2.CBORTag(55799, {"p": 1.0})),  # says that CBOR follows, and is a tag nevertheless
        cbor2.dumps({"p": 1.0, "other": 1 << 64}),  # a tag, too
        cbor2.dumps({"p": 1.0, 5: 1}),
        cbor2.dumps({"p": 1.0, "other": {5: 1}}),
        cbor2.dumps({"p": 1.0, b"q": 1}),
        cbor2.dumps({"p": 1.0, "other": b"bytes"}),
        cbor2.dumps({"p": 1.0, "other": cbor2.undefined}),
        cbor2.dumps({"p": 1.0, "other": cbor2.CBORSimpleValue(99)}),
        b"\xbf\x61p\x01\xff",
        b"\xa1\x61p\x9f\x01\xff",
        b"\xa1\x7f\x61p\xff\x01",
        b"\xa2\x61p\x01\x61o" + b"\x81" * 17 + b"\x01",
        b"\xa1\x61p\x1c",
        cbor2.dumps({"p": 1.0}) + b"\x00",
    ],
)
def test_what_no_reading_needs_of_cbor_is_refused(payload: bytes) -> None:
    """Before anything is made of it, wherever it stands."""
    found, rejections = decode(payload, payload_format="cbor")
    assert len(found) == 0
    assert [rejection.reason for rejection in rejections] == [RejectReason.NOT_CBOR]


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"\x9b" + b"\xff" * 8, RejectReason.TOO_LARGE),  # 2**64 - 1 readings
        (b"\xbb" + b"\xff" * 8, RejectReason.NOT_CBOR),
        (b"\xa1\x7b" + b"\xff" * 8, RejectReason.NOT_CBOR),
        (b"\xa1\x66values\x9b" + b"\xff" * 8, RejectReason.WRONG_LENGTH),
        (b"\xa1\x66values\x99\x27\x10\x00", RejectReason.NOT_CBOR),
        (b"\xa1\x65other\x9b" + b"\xff" * 8, RejectReason.NOT_CBOR),
        (b"\xa1\x64time\x7b" + b"\xff" * 8, RejectReason.NOT_CBOR),
    ],
)
def test_a_size_in_cbor_is_not_believed(payload: bytes, reason: RejectReason) -> None:
    """What is not there cannot be read."""
    _, (rejection,) = decode(payload, payload_format="cbor")
    assert rejection.reason is reason


def test_cbor_that_is_cut_is_refused_wherever_it_ends() -> None:
    """Lists, texts, numbers of every length."""
    whole = cbor2.dumps([{"time": "2026-11-29T00:00:00Z", "p": 1.5, "q": 70_000, "o": ["x" * 300, {"y": -5}]}] * 2)
    for end in range(len(whole)):
        _, (rejection,) = decode(whole[:end], payload_format="cbor")
        assert rejection.reason is RejectReason.NOT_CBOR
    found, rejections = decode(whole, payload_format="cbor")
    assert (len(found), rejections) == (2, [])


NUMBERS = st.one_of(
    st.none(), st.integers(-(2**64), 2**64 - 1), st.floats(-(2.0**126), 2.0**126, width=32), st.floats(-1e38, 1e38)
)
OTHERS = st.recursive(
    st.one_of(NUMBERS, st.booleans(), st.text(max_size=30)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=30), inner, max_size=3),
    max_leaves=8,
)
READINGS = st.fixed_dictionaries(
    {},
    optional={
        "time": st.one_of(st.none(), st.integers(0, 2**32), st.floats(0, 2e9)),
        "p": NUMBERS,
        "q": NUMBERS,
        "values": st.lists(NUMBERS, min_size=2, max_size=2),
        "other": OTHERS,
        "o" * 40: OTHERS,
    },
)


@given(st.one_of(READINGS, st.lists(READINGS, max_size=4)), st.booleans())
def test_cbor_says_what_json_says(content: object, canonical: bool) -> None:
    """Whatever else is in a reading, in the shortest numbers and the longest."""
    asked = [(cbor2.dumps(content, canonical=canonical), "cbor"), (msgspec.json.encode(content), "json")]
    (ours, rejected), (theirs, expected) = [decode(payload, payload_format=name) for payload, name in asked]
    np.testing.assert_array_equal(ours.values, theirs.values)
    assert ours.times == theirs.times
    assert [one.reason for one in rejected] == [one.reason for one in expected]


LINE = r'my\ pump,as\,set=a\ 1,host=gw pressure=4.1,flow=-8.2e-1,runs=12i,n=3u,on=t,note="a, \"b\"" 1763700000250000000'


def test_the_line_protocol_is_read_with_its_escapes() -> None:
    """Of names and of texts; numbers of all kinds."""
    (found,) = read_lines(LINE.encode())
    assert found["measurement"] == "my pump"
    assert found["tags"] == {"as,set": "a 1", "host": "gw"}
    assert found["fields"] == {
        "pressure": 4.1,
        "flow": -0.82,
        "runs": 12,
        "n": 3,
        "on": True,
        "note": 'a, "b"',
    }
    assert found["time"] == 1763700000250000000


def test_lines_are_readings_without_a_table() -> None:
    """Comments and empty lines are none; a field that is a text is missing."""
    payload = b'# a comment\n\npump p=1,q=2 5000000000\r\npump,x=y q=3i\npump p="off",q=4 7000000000\n'
    found, rejections = decode(payload, payload_format="influx")
    assert not rejections
    assert found.times == [5e9, pytest.approx(2000.0, abs=1e-4), 7e9]
    np.testing.assert_array_equal(found.values, [[1, 2], [np.nan, 3], [np.nan, 4]])


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("pump", "a space and fields"),
        (",host=a p=1", "a measurement"),
        ("pump,host p=1", "a name and '='"),
        ("pump,host= p=1", "a value of the tag"),
        ("pump p", "a name and '='"),
        ("pump p=", "a value"),
        ("pump p=1_0", "a number"),
        ("pump p=1 soon", "a time"),
        ("pump p=1\npump q", "line 2"),
        ("", "no line"),
    ],
)
def test_what_is_no_line_is_told_with_its_place(line: str, told: str) -> None:
    """And no line of the message is used."""
    found, (rejection,) = decode(line.encode(), payload_format="influx")
    assert len(found) == 0
    assert rejection.reason is RejectReason.NOT_INFLUX
    assert told in rejection.detail
