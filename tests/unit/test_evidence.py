"""The readings around a raise: those in its time and no others, within a bound, in messages that a broker takes."""

from __future__ import annotations

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.reading import Readings
from edge_agent.outputs.evidence import EvidenceMessage, in_parts
from edge_agent.stream.evidence import Evidence, Recorder

MESSAGE = EvidenceMessage(
    id="x", agent="g1", stream="pump", asset="a1", channels=["c1", "c2"], rows=[], part=1, parts=1
)


def readings(rows: list[tuple[str, float]]) -> Readings:
    """The value of each is its time."""
    return Readings(
        [asset for asset, _ in rows], [time for _, time in rows], np.array([[t, t] for _, t in rows], np.float32)
    )


def collected(recorder: Recorder, now_mono_s: float) -> dict[str, list[float]]:
    return {each.id: each.times for each in recorder.take(now_mono_s)}


@given(
    st.lists(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 30)), min_size=1, max_size=20), max_size=12),
    st.integers(0, 11),
    st.integers(0, 30),
)
def test_what_is_collected_is_what_lies_around_the_raise(
    batches: list[list[tuple[str, int]]], raised_at: int, raised_s: int
) -> None:
    """However the readings come in batches, and in whatever order."""
    recorder = Recorder(5.0, 3.0, 10_000_000)
    expected: list[float] = []
    is_over = False
    for number, batch in enumerate(batches):
        rows = [(asset, float(time)) for asset, time in batch]
        recorder.add("pump", readings(rows), float(number))
        recorder.add("fan", readings(rows), float(number))
        mine = [time for asset, time in rows if asset == "a"]
        if number == raised_at:
            recorder.begin("x", "pump", "a", raised_s, float(number))
        # What comes once a later reading has come belongs to it no more or still does: both are right.
        if number <= raised_at or not is_over:
            expected += [time for time in mine if raised_s - 5 <= time <= raised_s + 3]
        is_over |= number >= raised_at and any(time > raised_s + 3 for time in mine)
        if is_over:
            break
    if raised_at < len(batches):
        assert collected(recorder, 1e9) == {"x": expected}
    assert collected(recorder, 1e9) == {}


def test_a_raise_waits_for_what_follows_and_not_for_ever() -> None:
    """By the times of the readings, or by the clock where the asset says no more."""
    recorder = Recorder(10.0, 5.0, 10_000_000)
    recorder.add("pump", readings([("a", 100.0), ("b", 100.0)]), 0.0)
    recorder.begin("a1", "pump", "a", 100.0, 0.0)
    recorder.begin("b1", "pump", "b", 100.0, 0.0)
    recorder.add("pump", readings([("a", 105.0)]), 1.0)
    assert recorder.due_mono_s == 5.0
    assert collected(recorder, 1.0) == {}
    recorder.add("pump", readings([("a", 105.5)]), 2.0)
    assert recorder.due_mono_s == 0.0
    assert collected(recorder, 2.0) == {"a1": [100.0, 105.0]}
    assert collected(recorder, 4.9) == {}
    assert collected(recorder, 5.0) == {"b1": [100.0]}
    assert recorder.due_mono_s is None


def test_memory_is_bounded_whatever_comes() -> None:
    """The oldest readings of all assets give way; of one evidence, those that are farthest from the raise."""
    recorder = Recorder(1e6, 1e6, 200_000)
    for number in range(0, 40_000, 100):
        recorder.add("pump", readings([("a", float(number + row)) for row in range(100)]), 0.0)
    assert recorder._bytes <= 100_000
    recorder.begin("x", "pump", "a", 39_999.0, 0.0)
    for number in range(40_000, 50_000, 100):
        recorder.add("pump", readings([("a", float(number + row)) for row in range(100)]), 0.0)
    (evidence,) = recorder.take(0.0)
    most = 200_000 // 2 // 16 // 8 // 2
    assert len(evidence.times) == most
    assert evidence.times == [float(39_999 - most + most // 2 + 1 + row) for row in range(most)]
    for number in range(40):
        recorder.begin(f"{number}", "pump", "a", 50_000.0, 0.0)
    assert recorder.left_out == 24


def test_old_readings_are_not_kept_though_there_is_room() -> None:
    """Nobody would ask for them."""
    recorder = Recorder(10.0, 5.0, 10_000_000)
    for number in range(100):
        recorder.add("pump", readings([("a", float(number))] * 256), float(number))
    assert len(recorder._blocks) <= 17


def test_values_are_the_ones_that_came_and_missing_ones_are_null() -> None:
    """In the shortest decimal that is the same float32."""
    values = [np.array([4.1, np.nan], np.float32), np.array([-0.0003, 3e38], np.float32)]
    (payload,) = in_parts(MESSAGE, [0.25, 1.0], values, math.inf)
    found = msgspec.json.decode(payload)
    assert [*found] == ["id", "agent", "stream", "asset", "channels", "rows", "part", "parts"]
    assert found["rows"] == [["1970-01-01T00:00:00.250Z", 4.1, None], ["1970-01-01T00:00:01.000Z", -0.0003, 3e38]]


def test_an_infinite_value_is_null() -> None:
    """JSON has none, and one in a reading would be no message at all."""
    recorder = Recorder(5.0, 0.0, 1_000_000)
    recorder.add("pump", Readings(["a"], [1.0], np.array([[np.inf, 2.0]], np.float32)), 0.0)
    recorder.begin("x", "pump", "a", 1.0, 0.0)
    (evidence,) = recorder.take(0.0)
    assert np.isnan(evidence.values[0]).tolist() == [True, False]


@pytest.mark.parametrize("limit", [300.0, 1000.0, 128_000.0, math.inf])
def test_many_readings_go_in_parts_that_are_small_enough(limit: float) -> None:
    """All of them, in order; at most 128 kB each, or what the broker takes."""
    count = 20 if limit < 1000 else 9000
    values = [np.array([row / 7, -row / 3], np.float32) for row in range(count)]
    parts = in_parts(MESSAGE, [float(row) for row in range(count)], values, limit)
    assert all(len(part) <= min(limit, 128_000) for part in parts)
    found = [msgspec.json.decode(part, type=EvidenceMessage) for part in parts]
    assert [(each.part, each.parts) for each in found] == [(number, len(parts)) for number in range(1, len(parts) + 1)]
    rows = [row for each in found for row in each.rows]
    assert [np.float32(row[1]) for row in rows] == [each[0] for each in values]
    assert len(rows) == count


def test_where_no_reading_fits_nothing_is_told() -> None:
    """A broker that takes 50 bytes gets no evidence."""
    assert in_parts(MESSAGE, [1.0], [np.zeros(2, np.float32)], 50.0) == []


def test_evidence_of_an_asset_that_said_nothing_in_that_time_is_empty() -> None:
    """As of an alert that is told when a mute is over."""
    recorder = Recorder(5.0, 0.0, 1_000_000)
    recorder.begin("x", "pump", "a", 1.0, 0.0)
    (evidence,) = recorder.take(0.0)
    assert evidence == Evidence("x", "pump", "a", 1.0, 0.0, [], [])
