"""Batch sizes met and times measured."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import make_candidate
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.engine.choice.batch_mix import BATCH_SIZES, DEFAULT_MIX, BatchMix, load_mix, save_mix, timed_size
from edge_agent.engine.choice.live import LiveRecord
from edge_agent.engine.choice.timing import compare
from edge_agent.files.checksum import seal

STEADY = BatchMix(batches={8: 1.0})
COUNTS = st.dictionaries(st.sampled_from(BATCH_SIZES), st.floats(1, 1e5), min_size=1)


@pytest.mark.parametrize(
    ("windows", "size"), [(1, 1), (2, 1), (3, 8), (20, 8), (23, 64), (181, 64), (182, 512), (9999, 512)]
)
def test_a_batch_counts_for_the_nearest_timed_size(windows: int, size: int) -> None:
    """As a ratio: 20 is nearer to 8 than to 64."""
    assert timed_size(windows) == size


@given(batches=COUNTS, times=st.lists(st.floats(1, 1e6), min_size=4, max_size=4))
def test_the_cost_lies_between_the_times(batches: dict[int, float], times: list[float]) -> None:
    """It is a weighted mean."""
    us = dict(zip(BATCH_SIZES, times, strict=True))
    met = [us[size] for size in batches]
    cost = BatchMix(batches=batches).cost(us, 0.0)
    assert min(met) * 0.999 <= cost <= max(met) * 1.001


@given(batches=COUNTS, changed=st.floats(0, 1e4))
def test_a_mix_survives_its_file(batches: dict[int, float], changed: float) -> None:
    """Whatever was counted."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "batches.json")
        mix = BatchMix(batches=batches, changed=changed)
        save_mix(file, mix)
        assert load_mix(file) == mix


def test_old_habits_fade() -> None:
    """Counts are halved when they have become large, so a stream that has changed is seen within a million batches."""
    old = BatchMix(batches={1: 900_000.0}, changed=10.0)
    assert old.plus(BatchMix(batches={512: 100_000.0})) == BatchMix(batches={1: 450_000.0, 512: 50_000.0}, changed=5.0)


@pytest.mark.parametrize(
    "content",
    ["", "{", '{"batches": []}', '{"batches": {"1": -5}}', '{"batches": {"7": 500}}', '{"x": ' + "[" * 5000],
)
def test_a_damaged_file_counts_for_nothing(tmp_path: Path, content: str) -> None:
    """And stops nobody."""
    file = tmp_path / "batches.json"
    for written in (content.encode(), seal(content.encode()), seal(b'{"batches": {"1": 500}}')[1:]):
        file.write_bytes(written)
        assert load_mix(file) is None


def test_the_default_is_light_load() -> None:
    """Until a stream has shown its own."""
    assert DEFAULT_MIX.in_words() == "80 % 1, 15 % 8, 4 % 64, 1 % 512"


def test_the_record_counts_sizes_and_changes() -> None:
    """Eight batches of one window and two of twenty: two changes after the first."""
    record = LiveRecord()
    for windows in [1, 1, 1, 20, 20, 1, 1, 1, 1, 1]:
        record.add(windows, 1000)
    assert record.take_mix() == BatchMix(batches={1: 8.0, 8: 2.0}, changed=3.0)
    assert record.take_mix() is None
    assert record.median_us() == 1.0


def test_live_times_are_held_against_the_size_that_was_met() -> None:
    """Batches of 288 windows lie half way between 64 and 512: 1,050 us measured."""
    measured = make_candidate("cpu", us={1: 10, 8: 20, 64: 100, 512: 2000})
    for spent_us, left in [(2400, False), (2800, True)]:
        record = LiveRecord()
        for _ in range(256):
            record.add(288, spent_us * 1000)
        assert (record.excess(measured) is not None) is left


def test_what_disturbs_half_of_the_rounds_does_not_decide() -> None:
    """A shared machine was slow for three rounds of one candidate and other three of the other one."""
    ratio = compare(
        make_candidate("cpu", us=[10, 10, 99, 10, 80, 10, 70]),
        make_candidate("openvino", us=[50, 9, 9, 60, 9, 9, 70]),
        STEADY,
    )
    assert ratio.lower == ratio.upper == pytest.approx(10 / 9)
