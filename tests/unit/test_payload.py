"""What we publish has exactly the fields of the interface."""

from __future__ import annotations

import json

from fakes import make_alert

from edge_agent.messages.event import AlertModel, ChannelShare
from edge_agent.messages.text import encode, iso_time, printable


def test_an_alert_event_has_the_documented_form() -> None:
    """Other programs read these keys."""
    event = make_alert(
        id="i",
        stream="shuttle",
        channels=[ChannelShare(name="pressure", share=0.61, value=9.7)],
        model=AlertModel(name="shuttle", version="1.0.0", sha256="s"),
    )
    assert json.loads(encode(event)) == {
        "id": "i",
        "event": "raise",
        "agent": "press-7",
        "stream": "shuttle",
        "asset": "a1",
        "level": "alarm",
        "score": 7.9,
        "threshold": 3.2,
        "time": "2026-11-21T10:15:30.250Z",
        "since": "2026-11-21T10:15:30.250Z",
        "channels": [{"name": "pressure", "share": 0.61, "value": 9.7}],
        "model": {"name": "shuttle", "version": "1.0.0", "sha256": "s"},
        "provider": "cpu",
        "delayed": False,
    }
    assert json.loads(encode(event.as_delayed(True)))["delayed"] is True


def test_times_are_utc_with_milliseconds() -> None:
    """Epoch seconds in, ISO 8601 out."""
    assert iso_time(1763720130.25) == "2025-11-21T10:15:30.250Z"
    assert iso_time(0) == "1970-01-01T00:00:00.000Z"
    assert iso_time(59.9994) == "1970-01-01T00:00:59.999Z"
    assert iso_time(59.9996) == "1970-01-01T00:01:00.000Z"
    assert iso_time(253402300799.0) == "9999-12-31T23:59:59.000Z"


def test_a_sample_is_short_and_never_binary() -> None:
    """Whatever was sent can be shown on a terminal."""
    assert printable(b'{"p": 1}') == '{"p": 1}'
    assert printable(b"\x00\x1b[31m\xff\n") == "??[31m??"
    assert printable("sensors/m\u00fchle\x1b\ufffd/pump") == "sensors/m\u00fchle??/pump"
    assert len(printable(b"x" * 10_000)) == len(printable("x" * 10_000)) == 121
