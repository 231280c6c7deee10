"""Windows hold the newest readings of each asset in order, whatever the batches were."""

from __future__ import annotations

import math
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.reading import Readings
from edge_agent.stream import window as window_module
from edge_agent.stream.window import Windows
from edge_agent.stream.window_settings import Missing, WindowSettings


def push(windows: Windows, assets: list[str], rows: list[list[float]]) -> tuple[np.ndarray, list[int]]:
    batch = Readings(assets, [0.0] * len(rows), np.array(rows, dtype=np.float32).reshape(len(rows), -1))
    found, completed_by = windows.push(batch)
    return found, list(completed_by)


def test_a_window_is_complete_with_its_last_reading() -> None:
    """Three readings make the first window of three; each further one makes the next."""
    windows = Windows(window=3, stride=1, channels=1)
    found, completed_by = push(windows, ["a"] * 5, [[1], [2], [3], [4], [5]])
    assert completed_by == [2, 3, 4]
    np.testing.assert_array_equal(found[:, :, 0], [[1, 2, 3], [2, 3, 4], [3, 4, 5]])


def test_no_readings_give_no_windows() -> None:
    """A batch may have lost all of its readings, for lack of room or because no row had a value."""
    for window in (1, 3):
        none = Readings([], [], np.empty((0, 1), np.float32))
        found, completed_by = Windows(window=window, stride=1, channels=1).push(none)
        assert (len(found), list(completed_by)) == (0, [])


def test_a_stride_leaves_readings_between_windows() -> None:
    """The first full window is scored, then every second reading makes one."""
    windows = Windows(window=2, stride=2, channels=1)
    _, completed_by = push(windows, ["a"] * 7, [[i] for i in range(7)])
    assert completed_by == [1, 3, 5]


def test_a_missing_value_is_held_from_the_reading_before() -> None:
    """And an asset that never gave a channel gives no window."""
    windows = Windows(window=1, stride=1, channels=2)
    rows = [[1, math.nan], [math.nan, 5], [2, math.nan], [math.nan, math.nan]]
    found, completed_by = push(windows, ["a"] * 4, rows)
    assert completed_by == [1, 2, 3]
    np.testing.assert_array_equal(found[:, 0, :], [[1, 5], [2, 5], [2, 5]])


def test_assets_do_not_share_values() -> None:
    """What one asset gave says nothing about another."""
    windows = Windows(window=1, stride=1, channels=1)
    _, completed_by = push(windows, ["a", "b"], [[1], [math.nan]])
    assert completed_by == [0]


batches = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(-1000, 1000)), min_size=1, max_size=12), max_size=8
)


@given(batches, st.integers(1, 5), st.integers(1, 3))
def test_windows_hold_the_newest_readings_in_order(
    given_batches: list[list[tuple[str, int]]], window: int, stride: int
) -> None:
    """Against a model that keeps everything: same windows, in the same order, however they were batched."""
    windows = Windows(window=window, stride=stride, channels=1)
    history: dict[str, list[int]] = {}
    for batch in given_batches:
        found, completed_by = push(windows, [asset for asset, _ in batch], [[value] for _, value in batch])
        expected: list[list[int]] = []
        indices: list[int] = []
        for index, (asset, value) in enumerate(batch):
            seen = history.setdefault(asset, [])
            seen.append(value)
            if len(seen) >= window and (len(seen) - window) % stride == 0:
                expected.append(seen[-window:])
                indices.append(index)
        assert completed_by == indices
        np.testing.assert_array_equal(found[:, :, 0], np.array(expected).reshape(-1, window))


@given(batches, st.integers(2, 5), st.integers(1, 3), st.sets(st.integers(0, 7)), st.booleans())
def test_many_readings_at_once_give_the_windows_of_single_ones(
    given_batches: list[list[tuple[str, int]]], window: int, stride: int, breaks: set[int], gaps: bool
) -> None:
    """In the same order, and the same are told to have begun anew; also in turns with single ones."""
    found = []
    for many in (1, 1000, 3):
        windows = Windows(window=window, stride=stride, channels=1, policy=WindowSettings(gap_s=50.0 if gaps else 0.0))
        told = []
        now_s = 1e9
        for number, batch in enumerate(given_batches):
            assets = [asset for asset, _ in batch]
            times = [now_s := now_s + abs(value) % 60 for _, value in batch]
            values = np.array([[np.nan if value % 7 == 0 else value] for _, value in batch], dtype=np.float32)
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(window_module, "_MANY", many)
                made, due = windows.push(Readings(assets, times, values, anew=number in breaks))
            told.append((made.tolist(), list(due), sorted(windows.begun)))
        found.append((told, {asset: windows.dump(asset) for asset in windows.assets()}))
    assert found[0] == found[1] == found[2]


@given(batches, st.integers(1, 4))
def test_a_restart_changes_no_window(given_batches: list[list[tuple[str, int]]], window: int) -> None:
    """Dump and restore after every batch gives the same windows as no restart."""
    steady = Windows(window=window, stride=1, channels=1)
    restarted = Windows(window=window, stride=1, channels=1)
    for batch in given_batches:
        assets = [asset for asset, _ in batch]
        rows = [[float(value)] for _, value in batch]
        expected, _ = push(steady, assets, rows)
        found, _ = push(restarted, assets, rows)
        np.testing.assert_array_equal(found, expected)
        fresh = Windows(window=window, stride=1, channels=1)
        for asset in dict.fromkeys(asset for earlier in given_batches for asset, _ in earlier):
            if asset in restarted._slots:
                fresh.restore(asset, restarted.dump(asset))
        restarted = fresh


limits_s = st.sampled_from([0.0, 2.0, 5.0])
policies = st.builds(
    WindowSettings, missing=st.sampled_from(Missing), hold_s=limits_s, late_s=limits_s, gap_s=limits_s
).filter(lambda policy: not policy.is_plain)


@given(
    st.lists(
        st.tuples(st.integers(-3, 6), st.sampled_from([1, math.nan]), st.sampled_from([1, math.nan])), max_size=20
    ),
    policies,
    st.integers(1, 3),
    st.integers(1, 4),
)
def test_a_restart_changes_no_window_under_any_policy(
    steps: list[tuple[int, float, float]], policy: WindowSettings, window: int, stride: int
) -> None:
    """Whatever is missing, late or interrupted: dump and restore after every reading gives the same windows."""
    settings: dict[str, Any] = {"window": window, "stride": stride, "channels": 2}
    steady = restarted = Windows(**settings, policy=policy)
    time_s = 1000.0
    for number, (step_s, first, second) in enumerate(steps):
        time_s += step_s
        row = np.array([[first * number, second * -number]], np.float32)
        expected, _ = steady.push(Readings(["a"], [time_s], row.copy()))
        if restarted is not steady:
            found, _ = restarted.push(Readings(["a"], [time_s], row.copy()))
            np.testing.assert_array_equal(found, expected)
        fresh = Windows(**settings, policy=policy)
        fresh.restore("a", restarted.dump("a"))
        restarted = fresh


def test_what_an_incomplete_reading_brought_survives_a_restart() -> None:
    """The next reading completes it: without the value, an alert would be lost."""
    policy = WindowSettings(hold_s=10)
    one, other = (Windows(window=2, stride=1, channels=2, policy=policy) for _ in range(2))
    for time_s, row in ((0.0, [1, 1]), (1.0, [1, 1]), (20.0, [6, math.nan])):
        one.push(Readings(["a"], [time_s], np.array([row], np.float32)))
    other.restore("a", one.dump("a"))
    for windows in (one, other):
        found, _ = windows.push(Readings(["a"], [21.0], np.array([[math.nan, 2]], np.float32)))
        assert found.tolist() == [[[1, 1], [6, 2]]]


def test_a_restart_makes_no_held_value_younger() -> None:
    """A value measured 80 s ago is not held for 50 s more because somebody restarted the agent 40 s ago."""
    policy = WindowSettings(hold_s=50)
    windows = Windows(window=1, stride=1, channels=2, policy=policy)
    windows.push(Readings(["a"], [0.0], np.array([[1, 1]], np.float32)))
    windows.push(Readings(["a"], [40.0], np.array([[np.nan, 1]], np.float32)))
    restarted = Windows(window=1, stride=1, channels=2, policy=policy)
    restarted.restore("a", windows.dump("a"))
    for either in (windows, restarted):
        found, _ = either.push(Readings(["a"], [80.0], np.array([[np.nan, 1]], np.float32)))
        assert len(found) == 0


def test_a_time_far_ahead_keeps_no_value_for_ever() -> None:
    """One reading of a sender whose clock was wrong; what it measured is as old as its time is far."""
    windows = Windows(window=1, stride=1, channels=2, policy=WindowSettings(hold_s=5))
    windows.push(Readings(["a"], [5e9], np.array([[1, 1]], np.float32)))
    found, _ = windows.push(Readings(["a", "a"], [1000.0, 2000.0], np.array([[1, np.nan]] * 2, np.float32)))
    assert len(found) == 0


def test_a_restart_between_a_gap_and_the_window_after_it_changes_nothing() -> None:
    """With a stride longer than the window, the window that begins after the gap is due as if there had been none."""
    policy = WindowSettings(missing=Missing.SKIP, gap_s=10)
    one, other = (Windows(window=2, stride=5, channels=1, policy=policy) for _ in range(2))
    one.push(Readings(["a"] * 3, [1000.0, 1001.0, 2000.0], np.array([[1], [2], [np.nan]], np.float32)))
    other.restore("a", one.dump("a"))
    rest = [Readings(["a"], [2001.0 + n], np.array([[n]], np.float32)) for n in range(4)]
    found = [[windows.push(each)[0].tolist() for each in rest] for windows in (one, other)]
    assert found[0] == found[1]
    assert found[0][1]


def test_a_number_that_no_agent_writes_does_not_stay() -> None:
    """One reading more, and the asset could not be written to the journal again: the fuzzing found it."""
    dumped = struct.pack("<IId", 1, 2**32 - 1, 5.0) + np.array([7.0], dtype=np.float32).tobytes()
    windows = Windows(window=3, stride=1, channels=1)
    windows.restore("a", dumped)
    push(windows, ["a"], [[8]])
    again = Windows(window=3, stride=1, channels=1)
    again.restore("a", windows.dump("a"))
    found, _ = push(again, ["a"], [[9]])
    np.testing.assert_array_equal(found[:, :, 0], [[7, 8, 9]])


def test_rows_of_another_shape_are_not_restored() -> None:
    """After a change of model an asset begins anew."""
    old = Windows(window=2, stride=1, channels=3)
    push(old, ["a"], [[1, 2, 3]])
    new = Windows(window=2, stride=1, channels=1)
    new.restore("a", old.dump("a"))
    _, completed_by = push(new, ["a"], [[1]])
    assert completed_by == []


@pytest.mark.parametrize(("window", "partial", "kept"), [(1, False, False), (1, True, True), (3, False, True)])
def test_only_what_a_crash_would_change_is_kept(window: int, partial: bool, kept: bool) -> None:
    """A stream of whole readings without windows costs the journal nothing."""
    windows = Windows(window=window, stride=1, channels=2)
    push(windows, ["a"], [[1, 2]])
    if partial:
        push(windows, ["a"], [[1, math.nan]])
    assert ("a" in windows.to_keep(["a"])) is kept
