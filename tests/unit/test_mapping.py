"""What a `[stream.payload]` table makes of the messages of other senders."""

from __future__ import annotations

import base64
import json
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import cbor2
import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.config.tables import read_table
from edge_agent.messages.delivery import Delivery
from edge_agent.messages.reading import Readings, Rejection, RejectReason
from edge_agent.messages.topic import Topic
from edge_agent.messages.topic_names import TopicFilter
from edge_agent.messages.values import seconds_of
from edge_agent.sources.decode import Decoder
from edge_agent.sources.mapping.mapping import PayloadMapping, settings_problem, with_preset
from edge_agent.sources.mapping.names import NameParser
from edge_agent.sources.mapping.paths import parse_path
from edge_agent.sources.mapping.presets import PRESETS
from edge_agent.sources.mapping.settings import PayloadSettings
from edge_agent.sources.mapping.units import between, same
from edge_agent.stream.join import Join
from edgetool.sender_forms import SENDER_FORMS, messages_of

NOW_S = 1_763_700_100.0
HUGE = 10**400
"""An integer that JSON may have, and that no float has room for."""
AT_S = 1_763_700_000.25
SENDERS = Path(__file__).parents[2].parent / "shared" / "senders"


def table(text: str) -> PayloadSettings:
    """The settings of a table, as they stand in agent.toml."""
    problems: list[str] = []
    found = read_table(tomllib.loads(text), "[payload]", PayloadSettings, problems)
    assert not problems
    return with_preset(PayloadSettings(**found))


def decode(
    text: str,
    *payloads: Any,
    channels: tuple[str, ...] = ("pressure", "flow"),
    units: tuple[str | None, ...] = ("bar", "l/s"),
    topic_channel: str | None = None,
    now_s: float = NOW_S,
) -> tuple[Readings, list[Rejection], Decoder]:
    """Decode payloads (bytes, or what becomes JSON) with a table."""
    decoder = Decoder(channels, payload=table(text), units=units, one_channel=topic_channel is not None)
    topic = Topic(b"t", "of-topic", topic_channel)
    items = [
        Delivery(topic, each if isinstance(each, bytes) else json.dumps(each).encode(), 1, False) for each in payloads
    ]
    return *decoder.decode(items, now_s), decoder


def one(text: str, payload: Any, **options: Any) -> tuple[str, float, list[float]]:
    """The only reading of a message."""
    found, rejections, _ = decode(text, payload, **options)
    assert not rejections
    assert len(found) == 1
    return found.assets[0], found.times[0], [round(float(value), 6) for value in found.values[0]]


# Forms ---------------------------------------------------------------------------------------------------------------

GOOD = [4.1, 0.82]
FORMS: list[tuple[str, Any]] = [
    ('time = "ts"', {"ts": 1763700000250, "pressure": 4.1, "flow": 0.82}),
    ('time = "ts"\nchannels = { pressure = "p", flow = "f" }', {"ts": 1763700000.25, "p": 4.1, "f": "0.82"}),
    ('fields = "values"\ntime = "ts"', {"ts": 1763700000250, "values": {"pressure": 4.1, "flow": 0.82}}),
    ('fields = "values"\ntime = "ts"', {"ts": 1763700000250, "values": [4.1, 0.82]}),
    ('time = "ts"', {"ts": 1763700000250, "values": [4.1, 0.82]}),
    ('rows = "m[]"\nfields = "f"\ntime = "t"', {"m": [{"t": AT_S, "f": {"pressure": 4.1, "flow": 0.82}}]}),
    ('rows = "a[].b[]"\ntime = "../t"', {"a": [{"t": AT_S, "b": [{"pressure": 4.1, "flow": 0.82}]}]}),
    ('time = "/head.at"\nrows = "d"', {"head": {"at": AT_S}, "d": {"pressure": 4.1, "flow": 0.82}}),
    ('rows = "v.*"\nname = "$1"\nvalue = "."\ntime = "/t"', {"t": AT_S, "v": {"pressure": 4.1, "flow": 0.82}}),
    (
        'rows = "v[]"\nname = "id"\nvalue = "x"\nnames = "L1.{any}.{channel}"\ntime = "/t"',
        {"t": AT_S, "v": [{"id": "L1.P1.pressure", "x": 4.1}, {"id": "L1.P1.flow", "x": 0.82}]},
    ),
    (
        'time = "t"\nfields = "x"\nchannels.pressure = ["a.b", "c"]\nchannels.flow = "d[1].e"',
        {"t": AT_S, "x": {"a.b": {"c": 4.1}, "d": [0, {"e": 0.82}]}},
    ),
    # JSON within a text, as some routers send it: a path that goes on behind a text can mean nothing else.
    (
        'time = "t"\nchannels = { pressure = "d.p[0]", flow = "d.f" }',
        {"t": AT_S, "d": '{"p": [4.1], "f": "0.82"}'},
    ),
    ('rows = "d[]"\ntime = "/t"', {"t": AT_S, "d": '[{"pressure": 4.1, "flow": 0.82}]'}),
    ('time = "t.s"\ntime_nanos = "t.n"', {"t": {"s": 1763700000, "n": 250000000}, "pressure": 4.1, "flow": 0.82}),
    (
        'time = "t"\ntime_zone = "Europe/Berlin"\ntime_format = "%d.%m.%Y %H:%M:%S,%f"',
        {"t": "21.11.2025 05:40:00,25", "pressure": 4.1, "flow": 0.82},
    ),
    ('time = "t"\ntime_unit = "us"', {"t": 1763700000250000, "pressure": 4.1, "flow": 0.82}),
    ('time = "t"', {"t": "1763700000250000000", "pressure": 4.1, "flow": 0.82}),
    (
        'time = "t"\nchannels.pressure = { from = "p", unit = "kPa" }\nchannels.flow = { from = "f", unit = "m3/h" }',
        {"t": AT_S, "p": 410, "f": 2.952},
    ),
    (
        'time = "t"\nchannels.pressure = { from = "p", scale = 0.1, offset = -1 }\nchannels.flow = "f"',
        {"t": AT_S, "p": 51, "f": "0.82 L/s"},
    ),
    (
        """
            time = "t"
            channels.pressure = { from = "h", encoding = "hex", bytes = [1, 2], scale = 0.1 }
            channels.flow = { from = "b", encoding = "base64", bytes = [2, 1], scale = 0.01 }
        """,
        {"t": AT_S, "h": "ff0029", "b": "KQBS"},
    ),
]


@pytest.mark.parametrize(("text", "payload"), FORMS)
@pytest.mark.parametrize("encode", [json.dumps, msgspec.msgpack.encode, cbor2.dumps], ids=["json", "msgpack", "cbor"])
def test_a_table_reads_the_form(text: str, payload: Any, encode: Any) -> None:
    """In every format that has documents: asset of the topic, time, values."""
    encoded = encode(payload)
    encoded = encoded.encode() if isinstance(encoded, str) else encoded
    asset, at, values = one(text, encoded)
    assert asset == "of-topic"
    assert at == pytest.approx(AT_S, abs=1e-6)
    assert values == pytest.approx(GOOD, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "payload", "asset"),
    [
        ('asset = "dev"', {"dev": "Pump 1", "pressure": 1}, "Pump 1"),
        ('asset = "dev"', {"dev": 7, "pressure": 1}, "7"),
        ('asset = "tags.asset"', {"tags": {"asset": "a1"}, "pressure": 1}, "a1"),
        ('rows = "Content[].Data[]"\nasset = "../HwId"', {"Content": [{"HwId": "h", "Data": [{"flow": 2}]}]}, "h"),
        ('rows = "*[]"\nasset = "$1"', {"Pump 2": [{"flow": 2}]}, "Pump 2"),
        (
            'rows = "v[]"\nname = "n"\nnames = "/plant/{asset}/{channel}"',
            {"v": [{"n": "/plant/a9/flow", "value": 1}]},
            "a9",
        ),
        (
            'rows = "v[]"\nname = "n"\nnames = "ns=2;s={asset}_{channel}"',
            {"v": [{"n": "ns=2;s=x_flow", "value": 1}]},
            "x",
        ),
    ],
)
def test_an_asset_is_found_where_the_table_says(text: str, payload: Any, asset: str) -> None:
    """In a row, above it, as a key, within a name."""
    assert one(text, payload)[0] == asset


def test_one_message_may_be_of_several_assets_and_times() -> None:
    """Values of one asset and one time are one reading, whatever their order; readings come in order of time."""
    text = 'rows = "v[]"\nname = "n"\nnames = "{asset}.{channel}"\ntime = "t"'
    sent = [("a.pressure", 1, 10), ("a.pressure", 2, 20), ("b.flow", 9, 15), ("a.flow", 3, 10), ("a.flow", 4, 20)]
    found, _, _ = decode(text, {"v": [{"n": n, "value": v, "t": t} for n, v, t in sent]})
    assert list(zip(found.assets, found.times, strict=True)) == [("a", 10.0), ("b", 15.0), ("a", 20.0)]
    np.testing.assert_array_equal(found.values, [[1, 3], [np.nan, 9], [2, 4]])
    joined = Join(2, 1.0).push(found)
    assert list(zip(joined.assets, joined.times, strict=True)) == [("a", 10.0), ("a", 20.0)]


def test_ten_thousand_values_of_one_moment_take_no_longer_than_others() -> None:
    """Each is a reading of its own; the time grows with their number alone."""
    text = 'rows = "[]"\nname = "n"'
    found, _, _ = decode(text, [{"n": "flow", "value": number} for number in range(10_000)])
    assert found.values[:, 1].tolist() == [float(number) for number in range(10_000)]


# What is no value ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "value"),
    [
        ("", "unavailable"),
        ("", "Unknown"),
        ("", ""),
        ("", "NaN"),
        ("", "high"),
        ("", HUGE),
        ("missing_values = [9999.9999]", -HUGE),
        ("channels.flow = { scale = 0.1 }", HUGE),
        ("missing_values = [9999.9999]", 9999.9999),
        ("missing_values = [9999.9999]", float(np.float32(9999.9999))),
        ("missing_values = [9999.9999]", "9999.9999"),
        ('missing_values = ["n/a"]', "N/A"),
        ("channels.flow = { map = { open = 1, closed = 0 } }", "ajar"),
        ('channels.flow = { encoding = "hex" }', "xyz"),
        ('channels.flow = { encoding = "hex", bytes = [4, 2] }', "0011"),
        ('channels.flow = { encoding = "array" }', [1, 256]),
        ('channels.flow = { encoding = "array" }', [1, True]),
        ('channels.flow = { encoding = "array" }', 4),
        ('channels.flow = { encoding = "array" }', "01"),
        ('channels.flow = { encoding = "array" }', []),
        ('channels.flow = { encoding = "array", bytes = [1, 2] }', [1, 2]),
        ('channels.flow = { encoding = "registers" }', [1, 65536]),
        ('channels.flow = { encoding = "registers" }', [1, -32769]),
        ('channels.flow = { encoding = "registers" }', [1, 1.5]),
        ('channels.flow = { encoding = "base64" }', "AZ=o"),
        ('channels.flow = { encoding = "base64", float = true }', base64.b64encode(b"\x7f\xc0\0\0").decode()),
        ("channels.flow = { scale = 1e30 }", 1e30),
    ],
)
def test_what_is_no_value_is_missing_and_hides_no_other(more: str, value: Any) -> None:
    """And is counted by its channel."""
    found, rejections, decoder = decode(f'time = "t"\n{more}', {"t": 1, "pressure": 4.1, "flow": value})
    assert not rejections
    np.testing.assert_array_equal(np.isnan(found.values), [[False, True]])
    if not more.endswith("1e30 }"):  # too large after the scale only
        assert decoder.unreadable.describe() == {"flow": 1}


def test_a_quality_says_what_counts() -> None:
    """A row without one is good; true is not 1."""
    text = 'rows = "v[]"\nname = "n"\ntime = "/t"\ngood = { key = "q", is = [true, 192, "GOOD"] }'
    sent = {"t": 5, "v": [{"n": "pressure", "value": 1, "q": 1}, {"n": "flow", "value": 2, "q": "Good"}]}
    found, _, decoder = decode(text, sent)
    np.testing.assert_array_equal(found.values, [[np.nan, 2]])
    assert decoder.unreadable.describe() == {"pressure": 1}
    found, rejections, _ = decode(text, {"t": 5, "v": [{"n": "flow", "value": 2, "q": False}]})
    assert (len(found), rejections) == (0, [])  # the message is right, its sensor is not
    assert one(text, {"t": 5, "v": [{"n": "flow", "value": 2}]})[2][1] == 2


def test_channels_that_the_bundle_does_not_have_are_counted_by_name() -> None:
    """As those of topics are."""
    text = 'rows = "v[]"\nname = "n"'
    found, rejections, decoder = decode(text, {"v": [{"n": "presure", "value": 1}, {"n": "x", "value": 1}]})
    assert (len(found), rejections) == (0, [])
    assert decoder.ignored == {"presure": 1, "x": 1}


def test_a_map_makes_numbers_of_words() -> None:
    """Of true and false, too."""
    text = "channels.flow = { map = { open = 1, closed = 0, true = 3 } }"
    assert [one(text, {"flow": word})[2][1] for word in ("open", "closed", True)] == [1, 0, 3]
    assert [one('channels.flow = { map = { "2" = 7 } }', {"flow": word})[2][1] for word in (2, 2.0, "2")] == [7, 7, 7]


def test_bytes_may_stand_in_an_array() -> None:
    """As an IO-Link master and a buffer of Node-RED write them."""
    text = "channels.pressure = { from = 'io.value', encoding = 'array', bytes = [0, 2], scale = 0.01 }\n"
    text += "channels.flow = { from = 'io.value', encoding = 'array', bytes = [2, 4], float = true, order = 'little' }"
    assert one(text, {"io": {"valid": True, "value": [1, 154, 0, 0, 128, 63]}})[2] == [4.1, 1.0]


@pytest.mark.parametrize(("order", "registers"), [("big", [16256, 0]), ("little", [0, 16256])])
def test_registers_may_stand_in_an_array(order: str, registers: list[int]) -> None:
    """As a Modbus gateway or Node-RED writes them; the order is that of the registers."""
    text = (
        "channels.pressure = { from = 'data', encoding = 'registers', bytes = [0, 2], signed = true, scale = 0.01 }\n"
    )
    text += (
        f"channels.flow = {{ from = 'data', encoding = 'registers', bytes = [2, 4], float = true, order = '{order}' }}"
    )
    for first in (-410, 65126):
        assert one(text, {"data": [first, *registers]})[2] == [-4.1, 1.0]


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("hex", "019A"),
        ("hex", "0x019a"),
        ("hex", "01 9a"),
        ("base64", "AZo="),
        ("base64", "AZo"),
        ("base64", " AZo=\n"),
    ],
)
def test_bytes_are_read_in_the_ways_that_they_are_written(encoding: str, written: str) -> None:
    """With a mark in front, and without what fills the end."""
    text = f"channels.flow = {{ encoding = '{encoding}', scale = 0.01 }}"
    assert one(text, {"flow": written})[2][1] == 4.1


def test_base64_may_be_that_of_addresses() -> None:
    """The two signs that URLs allow."""
    assert one("channels.flow = { encoding = 'base64' }", {"flow": "_-8"})[2][1] == 0xFFEF


def test_an_object_of_devices_may_have_other_keys() -> None:
    """Where each key may be a device, what has another form is none."""
    text = 'rows = "*[]"\nasset = "$1"\ntime = "ts"'
    found, rejections, _ = decode(text, {"gateway": "g1", "count": 2, "pump1": [{"ts": 5, "pressure": 4, "flow": 1}]})
    assert (found.assets, rejections) == (["pump1"], [])


def test_a_path_that_leads_to_no_time_is_told_as_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    """Without one, a sender that has no time is nothing to worry about."""
    caplog.set_level("INFO")
    one('time = "tsp"', {"ts": 1, "pressure": 4.1, "flow": 1})
    (told,) = [each for each in caplog.records if "time" in each.message]
    assert (told.levelname, "at time = 'tsp'" in told.message) == ("WARNING", True)
    caplog.clear()
    one('fields = "v"', {"v": {"pressure": 4.1, "flow": 1}})
    assert [each.levelname for each in caplog.records if "time" in each.message] == ["INFO"]


# Times ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "now", "utc"),
    [
        ("2025-07-01T12:00:00", "2025-07-01T10:00:01", "2025-07-01T10:00:00"),
        ("2025-12-01T12:00:00", "2025-12-01T11:00:01", "2025-12-01T11:00:00"),
        (
            "2025-10-26T02:30:00",
            "2025-10-26T00:30:02",
            "2025-10-26T00:30:00",
        ),  # it is half past two for the first time
        ("2025-10-26T02:30:00", "2025-10-26T01:30:02", "2025-10-26T01:30:00"),  # and the second
        ("2025-10-26T02:30:00+02:00", "2025-10-26T01:30:02", "2025-10-26T00:30:00"),
    ],
)
def test_a_zone_is_of_times_without_one(local: str, now: str, utc: str) -> None:
    """Summer and winter; the hour that comes twice is the one nearer to now."""
    seconds = [datetime.fromisoformat(each).replace(tzinfo=UTC).timestamp() for each in (now, utc)]
    text = 'time = "t"\ntime_zone = "Europe/Berlin"'
    assert one(text, {"t": local, "pressure": 1}, now_s=seconds[0])[1] == seconds[1]


def test_a_number_of_nanoseconds_keeps_its_digits() -> None:
    """A float has no room for all of them, and divides to another microsecond."""
    assert seconds_of(1_763_700_000_250_000_000) == 1_763_700_000.25
    assert [seconds_of(AT_S * scale) for scale in (1, 1e3, 1e6)] == [AT_S] * 3


@pytest.mark.parametrize("sent", ["20251121044000", 20251121044000])
@pytest.mark.parametrize("value", [1, "1"])
def test_a_format_of_digits_reads_digits(sent: Any, value: Any) -> None:
    """They are no number of seconds, in the quick way as in the general one."""
    text = 'time = "t"\ntime_zone = "Europe/Berlin"\ntime_format = "%Y%m%d%H%M%S"'
    assert one(text, {"t": sent, "pressure": value})[1] == 1_763_696_400.0


@pytest.mark.parametrize("zone", ["", '\ntime_zone = "America/New_York"'])
@pytest.mark.parametrize("last", ["9999-12-31T23:59:59", "9999-12-31T23:59:59-05:00"])
def test_the_end_of_time_is_no_number_of_milliseconds(zone: str, last: str) -> None:
    """A text says its year; some write this one for "never"."""
    assert one('time = "t"' + zone, {"t": last, "pressure": 1})[1] == 253402300799.0


def test_values_are_in_order_of_time_however_it_is_written() -> None:
    """Also of one time that is written in two ways."""
    sent = [("pressure", 3, "2025-11-21T04:40:03Z"), ("pressure", 2, "2025-11-21T04:40:02Z")]
    sent += [("flow", 5, "2025-11-21T05:40:02+01:00"), ("flow", 6, "2025-11-21T04:40:03.000Z")]
    rows = [dict(zip("nvt", each, strict=True)) for each in sent]
    found, _, _ = decode('name = "n"\nvalue = "v"\ntime = "t"', rows)
    assert found.times == [1_763_700_002.0, 1_763_700_003.0]
    np.testing.assert_array_equal(found.values, [[2, 5], [3, 6]])


def test_a_reading_without_a_time_has_that_of_its_arrival() -> None:
    """As without a table."""
    found, _, decoder = decode('time = "ts"', {"pressure": 1}, {"ts": None, "pressure": 2})
    assert found.times == [NOW_S, pytest.approx(NOW_S, abs=1e-5)]
    assert not decoder.has_time(b'{"pressure": 1}')
    assert decoder.has_time(b'{"ts": 5, "pressure": 1}')


# Errors --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "payload", "reason", "told"),
    [
        ('asset = "a"', {"pressure": 1}, RejectReason.NO_ASSET, "asset = 'a'"),
        ('asset = "a"', {"a": "x/y", "pressure": 1}, RejectReason.BAD_TOPIC, "x/y"),
        ('asset = "a"', {"a": True, "pressure": 1}, RejectReason.BAD_TOPIC, "True"),
        ('time = "t"', {"t": "yesterday", "pressure": 1}, RejectReason.BAD_TIME, "yesterday"),
        ('time = "t"', {"t": [1], "pressure": 1}, RejectReason.BAD_TIME, "[1]"),
        ('time = "t"\ntime_format = "%d.%m.%y"', {"t": "x", "pressure": 1}, RejectReason.BAD_TIME, "%d.%m.%y"),
        ('time = "t"\ntime_format = "%d.%m.%y"', {"t": 1763700000, "pressure": 1}, RejectReason.BAD_TIME, "17637"),
        ('time = "t"\ntime_format = "%d.%m.%y"', {"t": 1.5, "flow": "1"}, RejectReason.BAD_TIME, "1.5"),
        ('time = "t"', {"t": -5.0, "pressure": 1}, RejectReason.BAD_TIME, "-5"),
        ('rows = "m[]"', {"m": {"pressure": 1}}, RejectReason.WRONG_TYPE, "expected an array"),
        ('rows = "m.*"', {"m": [1]}, RejectReason.WRONG_TYPE, "expected an object"),
        ('rows = "m[]"', {"n": []}, RejectReason.NO_CHANNEL, "nothing stands there"),
        ('time = "t"', {"t": 1, "other": 2}, RejectReason.NO_CHANNEL, "none of the stream's channels"),
        ('channels.flow = "f"', {"f": {"Value": 2}}, RejectReason.WRONG_TYPE, "flow: an object is no value"),
        ('time = "t"', {"t": 1, "values": [1, 2, 3]}, RejectReason.WRONG_LENGTH, "a list of 3"),
        ('time = "t"', b"{", RejectReason.NOT_JSON, ""),
        ('rows = "v[]"\nname = "n"', {"v": [{"value": 1}]}, RejectReason.NO_CHANNEL, "name = 'n'"),
        ('time = "t"', {"t": HUGE, "pressure": 1}, RejectReason.BAD_TIME, "inf"),
        ('time = "t"', {"t": -HUGE, "pressure": 1}, RejectReason.BAD_TIME, "inf"),
        ('time = "t"\ntime_unit = "ms"', {"t": HUGE, "pressure": 1}, RejectReason.BAD_TIME, "inf"),
        ('time = "t"\ntime_zone = "UTC"', {"t": HUGE, "pressure": 1}, RejectReason.BAD_TIME, "inf"),
        ('time = "t"\ntime_nanos = "n"', {"t": 1, "n": HUGE, "pressure": 1}, RejectReason.BAD_TIME, "inf"),
        ('format = "influx"', b"pump pressure=1 " + b"9" * 400, RejectReason.BAD_TIME, "inf"),
        (
            'time = "t"',
            b'{"t": 1, "x": ' + b"[" * 100_000 + b"]" * 100_000 + b', "pressure": "1"}',
            RejectReason.NOT_JSON,
            "",
        ),
        ('format = "influx"', b"pump pressure=", RejectReason.NOT_INFLUX, "expected a value"),
    ],
)
def test_what_a_table_cannot_read_is_told(text: str, payload: Any, reason: RejectReason, told: str) -> None:
    """With the key of the table, where it is one; nothing of the message is used."""
    found, rejections, _ = decode(text, payload)
    assert len(found) == 0
    assert [rejection.reason for rejection in rejections] == [reason]
    assert told in rejections[0].detail


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('preset = "telegraph"', "expected one of telegraf"),
        ('preset = "tasmota"', "time_zone"),
        ('time_zone = "Europe/Nowhere"', "Europe/Nowhere"),
        ('time_format = "%H:%M"', "time_format = '%H:%M': says no day"),
        ('time_format = "%Q"', "time_format = '%Q': 'Q' is a bad directive"),
        ('rows = "a..b"', "rows"),
        ('fields = "a[]"', "stands in `rows` only"),
        ('value = "v"', "no effect without name"),
        ('name = "n"\nfields = "f"', "leave one out"),
        ('name = "n"\nnames = "{asset}{channel}"', "a sign between"),
        ('name = "n"\nnames = "{asset}"', "one '{channel}'"),
        ('name = "n"\nnames = "{asset}/{channel}"\nasset = "a"', "both name the asset"),
        ('asset = "$1"', "no '*'"),
        ("channels.p = { bytes = [0, 2] }", "channels.p bytes, signed and float need encoding"),
        ('channels.p = { encoding = "hex", bytes = [0, 3], float = true }', "4 or 8 bytes"),
        ("channels.p = { scale = 0 }", "channels.p scale = 0"),
        ('name = "n"\nchannels = { p = "x", q = "x" }', "channels.p, channels.q: both are the sender's 'x'"),
        ('rows = ""', "rows = '': is empty"),
        ('name = ""', "name = '': is empty"),
        ('rows = "$1"', "rows = '$1': begins at the document"),
        ('rows = "../x"', "rows = '../x': begins at the document"),
        ('channels.p = { encoding = "hex", bytes = [0, 9] }', "at most 8"),
        ('format = "senml"\ntime = "t"', "senml"),
        ('format = "xml"', "expected one of"),
    ],
)
def test_a_table_that_contradicts_itself_is_told_before_anything_starts(text: str, told: str) -> None:
    """With its key, whatever the bundle is."""
    problems: list[str] = []
    found = read_table(tomllib.loads(text), "[payload]", PayloadSettings, problems)
    assert not problems
    assert told in str(settings_problem(PayloadSettings(**found), "auto", topic_names_channel=False))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            'channels.p = { encoding = "ascii" }',
            'encoding = \'ascii\': expected "hex", "base64", "array" or "registers"',
        ),
        ('channels.p = { map = { a = "b" } }', "map = {'a': 'b'}: expected texts with their numbers"),
    ],
)
def test_what_a_key_takes_is_told_in_words(text: str, told: str) -> None:
    """Not as our source writes its type."""
    problems: list[str] = []
    read_table(tomllib.loads(text), "[payload]", PayloadSettings, problems)
    assert told in problems[0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('name = "n"\nchannels.pressure = "flow"', "both are the sender's 'flow'"),
        ('channels.presure = "p"', "presure: the bundle has no such channel"),
        ('channels.pressure = { unit = "l/s" }', "a flow, and 'bar' a pressure"),
        ('channels.pressure = { unit = "foot" }', "'foot' is not known"),
    ],
)
def test_a_table_that_does_not_fit_the_bundle_is_told(text: str, told: str) -> None:
    """Before a reading comes."""
    with pytest.raises(ValueError, match=told):
        PayloadMapping(table(text), {"pressure": "bar", "flow": "l/s"})


def test_names_and_units() -> None:
    """Parts without the signs around them; spellings of one unit."""
    assert NameParser("{asset}.{channel}").parse("Pump1.Motor.Speed") == ("Pump1", "Motor.Speed")
    assert NameParser("{asset}/x/{any}/{channel}").parse("a/x/b/c") == ("a", "c")
    assert NameParser("Line1.{channel}").parse("Line2.x") is None
    assert all(same(*pair) for pair in [("°C", "degC"), ("l/s", "L/s"), ("m³/h", "m3/h"), ("rpm", "min-1")])
    assert between("°F", "°C")[0] * 212 + between("°F", "°C")[1] == pytest.approx(100)
    assert between("K", "°C")[1] == pytest.approx(-273.15)
    assert between("psi", "bar")[0] == pytest.approx(0.0689475729)
    assert between("gpm", "l/min")[0] == pytest.approx(3.785411784)


# Two ways to one reading ---------------------------------------------------------------------------------------------

_values = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False, width=32),
    st.sampled_from([None, "1.5", "off", True, 10**40, "unknown", [1], {"x": 1}]),
)
_rows = st.fixed_dictionaries(
    {},
    optional={
        "t": st.sampled_from([5, 1763700000250, "2025-11-21T04:40:00Z", None, "7", -1, [1], 1.5]),
        "tag": st.sampled_from([{"a": "a1"}, {"a": 5}, {}, None, {"a": "x/y"}]),
        "f": st.one_of(
            st.none(),
            st.fixed_dictionaries({}, optional={"p": _values, "q": st.fixed_dictionaries({"v": _values})}),
        ),
        "values": st.sampled_from([[1, 2], {"p": 1}, None, [1]]),
        "p": _values,
    },
)


@settings(max_examples=300)
@given(
    st.sampled_from(
        [
            'time = "t"\nasset = "tag.a"\nfields = "f"\nchannels.q = "q.v"',
            'time = "t"\nchannels = { p = "p", q = "f.q.v" }',
            'time = "t"\nrows = "rows[]"\nfields = "f"\nchannels.q = "q.v"',
            'time = "t"\ntime_unit = "ms"\nchannels = { p = "f.p", q = "p" }',
        ]
    ),
    st.lists(_rows, max_size=3),
    st.booleans(),
)
def test_the_quick_way_gives_what_the_general_one_gives(text: str, rows: list[Any], in_array: bool) -> None:
    """Of any document: the same readings, or the same rejection."""
    document: Any = {"rows": rows} if "rows" in text else rows if in_array or not rows else rows[0]
    payload = json.dumps(document).encode()
    results = []
    for is_quick in (True, False):
        decoder = Decoder(["p", "q"], payload=table(text))
        mapping = decoder._mapping
        assert mapping is not None
        assert mapping._typed is not None
        if not is_quick:
            mapping._typed = None
        found, bad = decoder.decode([Delivery(Topic(b"t", "a"), payload, 1, False)], NOW_S)
        told = [(each.reason, each.detail) for each in bad]
        results.append((found.assets, found.times, np.nan_to_num(found.values, nan=-7).tolist(), told))
    assert results[0] == results[1]


_keys = st.sampled_from(["values", "metrics", "payload", "id", "v", "t", "ts", "vals", "Messages", "fields", "name"])
_documents = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from([10**400, -(10**400)]) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_keys, inner, max_size=4),
)


@given(
    st.sampled_from(sorted(PRESETS)), st.binary(max_size=60) | _documents.map(lambda each: json.dumps(each).encode())
)
def test_no_payload_ends_a_preset(preset: str, payload: bytes) -> None:
    """Whatever comes is readings, nothing, or one rejection."""
    zone = 'time_zone = "UTC"\n' if preset == "tasmota" else ""
    found, rejections, _ = decode(f'{zone}preset = "{preset}"', payload)
    assert len(rejections) <= 1
    assert np.isfinite(found.values[~np.isnan(found.values)]).all()


def test_a_path_says_where_it_begins() -> None:
    """In the row, above it, at the document, as a key of rows."""
    assert parse_path("../../a.b").up == 2
    assert parse_path("/a").up is None
    assert parse_path("$2").star == 2
    assert parse_path(["/", "x.y", "z"]).steps == ("x.y", "z")
    assert not parse_path(".").steps
    assert parse_path(["V..2:1-1", "value", "[12]"]).steps == ("V..2:1-1", "value", 12)


# Real senders --------------------------------------------------------------------------------------------------------

TABLES = {
    "telegraf": 'preset = "telegraf"\nasset = "tags.asset"',
    "telegraf_batch": 'preset = "telegraf-batch"\nasset = "tags.asset"',
    "thingsboard": 'preset = "thingsboard"',
    "thingsboard_gw": 'preset = "thingsboard-gateway"',
    "kepware": 'preset = "kepware"',
    "nodered_ms": 'preset = "node-red"',
    "tasmota": 'preset = "tasmota"\ntime_zone = "Europe/Berlin"',
    "shelly2_rpc": 'preset = "shelly"',
    "z2m": 'preset = "zigbee2mqtt"',
    "opcua_pubsub": 'preset = "opcua-json"',
    "ttn": 'preset = "ttn"',
    "wise": 'preset = "wise"',
    "wise_bad": 'preset = "wise"',
    "siemens_ie": 'preset = "siemens-ie"',
    "influx_line": 'preset = "influx"\nasset = "tags.asset"',
    "value_ts": 'time = "timestamp"\ngood = { key = "quality", is = ["GOOD"] }',
    "value_v": 'value = "v"\ntime = "ts"',
    "ifm": """
        fields = "data.payload"
        [channels]
        pressure = { from = ["/iolinkmaster/port[1]/iolinkdevice/pdin", "data"], encoding = "hex", scale = 0.1 }
        flow = { from = ["/iolinkmaster/port[2]/iolinkdevice/pdin", "data"], encoding = "hex", scale = 0.01 }
    """,
}
"""What each sender of the shared samples needs; those that are not here need none."""
OTHERS = {"sparkplug"}
"""Read by what is no table."""
FRACTIONS = dict.fromkeys(("telegraf", "telegraf_batch", "tasmota", "wise", "z2m"), 0.0) | {
    "wise_bad": 1.0,
    "ttn": 0.250123,
}
"""Of the second of 04:40:00, where a sample has another than .25."""


@pytest.mark.skipif(not SENDERS.is_dir(), reason="the samples are not part of the project")
@pytest.mark.parametrize("sender", sorted(path.stem for path in SENDERS.glob("*.json") if path.stem not in OTHERS))
def test_a_sample_of_a_real_sender_is_read_right(sender: str) -> None:
    """Asset, time and values, through the agent's own topics and joining."""
    sample = json.loads((SENDERS / f"{sender}.json").read_text())
    channels, wanted = sample["channels"], sample["expected"]
    topics = TopicFilter(sample["topic"])
    units = ("bar", "l/s") if sender == "text_value_topic" else (None,) * len(channels)
    decoder = Decoder(channels, payload=table(TABLES.get(sender, "")), units=units, one_channel=topics.names_channel)
    join = Join(len(channels), 1.0)
    readings: list[tuple[str, float, list[float]]] = []
    latest: dict[str, list[float]] = {}
    for message in sample["messages"]:
        route = topics.route_of(message["topic"])
        if route is None:
            continue
        text = message.get("payload_text")
        payload = json.dumps(message["payload"]).encode() if text is None else text.encode()
        topic = Topic(message["topic"].encode(), route.asset, route.channel)
        found, rejections = decoder.decode([Delivery(topic, payload, 1, False)], NOW_S)
        assert not rejections
        for asset, at, row in zip(found.assets, found.times, found.values.tolist(), strict=True):
            latest.setdefault(asset, [np.nan] * len(row))
            latest[asset] = [old if np.isnan(new) else new for old, new in zip(latest[asset], row, strict=True)]
            readings.append((asset, at, row))
        join.push(found)
    asset, at, _ = readings[0]
    assert asset == wanted["asset"]
    if sender in ("shelly1", "value_ts"):  # the first power came before a second; flow is marked bad
        wanted = {**wanted, "values": [91.6, 5021] if sender == "shelly1" else [4.1, None]}
    np.testing.assert_allclose(latest[asset], [np.nan if v is None else v for v in wanted["values"]], rtol=1e-6)
    is_timed = (sender in TABLES and sender != "ifm") or sender in ("nodered_time_ms", "senml")
    assert at == pytest.approx(1_763_700_000 + FRACTIONS.get(sender, 0.25) if is_timed else NOW_S, abs=1e-5)


BINARY = {"sparkplug-b"}
"""Its messages need births before them."""

# Round trips ---------------------------------------------------------------------------------------------------------


def test_every_preset_has_a_form_to_be_tried_with() -> None:
    """`edgetool replay --as` knows all of them."""
    assert set(SENDER_FORMS) == {*PRESETS} - BINARY


@pytest.mark.parametrize("preset", sorted({*PRESETS} - BINARY))
def test_what_a_sender_writes_is_what_its_preset_reads(preset: str) -> None:
    """Asset, time and values, with a value that is missing."""
    text = f'preset = "{preset}"' + ('\ntime_zone = "Europe/Berlin"' if preset == "tasmota" else "")
    at_s = 1_763_700_000.0 if preset == "tasmota" else AT_S
    sent: dict[str, float | None] = {"pressure": 4.1, "flow": None, "speed": 50.0}
    payloads = messages_of(preset, "Pump 1", at_s, sent)
    found, rejections, _ = decode(text, *payloads, channels=tuple(sent), units=(None,) * 3)
    assert not rejections
    assert list(found.times) == pytest.approx([at_s] * len(found), abs=1e-6)
    assert {*found.assets} == {"Pump 1" if "asset" in PRESETS[preset] else "of-topic"}
    # One reading, but of senders whose messages have one value each.
    got = {name: value for row in found.values for name, value in zip(sent, row, strict=True) if not np.isnan(value)}
    assert got == pytest.approx({"pressure": 4.1, "speed": 50.0})
