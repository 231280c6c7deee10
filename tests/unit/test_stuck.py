"""A value that does not change any more is told once, by channel, and cleared with its first change."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, make_manifest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import Readings
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.records import STUCK, open_alert
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.window_settings import WindowSettings

NAN = math.nan


class Plant:
    """A stream with its journal; a second between two readings."""

    def __init__(self, stuck_readings: int = 4, max_assets: int = 100, late_s: float = 0.0) -> None:
        self.settings = StreamSettings(
            stuck_readings=stuck_readings, max_assets=max_assets, window=WindowSettings(late_s=late_s)
        )
        self.journal: dict[str, bytes] = {}
        self.time_s = 1000.0
        self.start()

    def start(self) -> None:
        """As after a crash: with what the journal has."""
        self.pipeline = Pipeline(
            agent="g1",
            stream="pump",
            manifest=make_manifest(),
            engine=FakeEngine(),
            provider="fake",
            records=list(self.journal.items()),
            settings=self.settings,
        )

    def hear(self, rows: list[list[float]], *assets: str, at_s: float | None = None) -> list[AlertEvent]:
        """One batch; of asset a where no assets are given, and now where no time is."""
        times = [(self.time_s if at_s is None else at_s) + number for number in range(len(rows))]
        if at_s is None:
            self.time_s += len(rows)
        values = np.array(rows, np.float32)
        outcome = self.pipeline.process(Readings([*assets] or ["a"] * len(rows), times, values))
        for key, record in outcome.records:
            self.journal[key] = record
            if not record:
                del self.journal[key]
        return outcome.events


def shown(events: list[AlertEvent]) -> list[tuple[str, str, list[str], float]]:
    return [(event.event, event.time[-7:-1], [each.name for each in event.channels], event.score) for event in events]


def test_a_frozen_channel_is_told_by_name_and_cleared_by_its_first_change() -> None:
    """The other channel goes on; a second one that freezes is an update of the same alert."""
    plant = Plant()
    told = plant.hear([[1, 0], [1, 1], [1, 0], [1, 1], [1, 1], [1, 1], [1, 1], [1, 1], [1, 0], [0, 0]])
    assert shown(told) == [
        ("raise", "43.000", ["c1"], 4),
        ("update", "46.000", ["c1", "c2"], 7),
        ("update", "48.000", ["c1"], 9),
        ("clear", "49.000", ["c1"], 1),
    ]
    assert {event.id for event in told} == {told[0].id}
    assert (told[0].level, told[0].threshold, told[0].channels[0].value) == ("stuck", 4, 1)
    assert told[-1].duration_s == 6
    assert [event.describe() for event in told[::3]] == [
        "c1: the same in 4 readings (limit 4)",
        "c1: changes again (limit 4)",
    ]
    assert STUCK.of("a") not in plant.journal


def test_health_names_asset_and_channel() -> None:
    """And counts the alert as open."""
    plant = Plant()
    plant.hear([[1, 0], [1, 1], [1, 0], [1, 1]])
    assert plant.pipeline.describe()["stuck"] == {"count": 1, "assets": {"a": ["c1"]}}
    assert plant.pipeline.describe()["active_alerts"] == 1
    assert not plant.pipeline.forget("a")


def test_a_missing_value_is_no_reading_of_its_channel() -> None:
    """Neither the same, though the last one is held, nor a change."""
    plant = Plant()
    assert plant.hear([[1, 0], [1, 1], [NAN, 0], [NAN, 1], [1, 0]]) == []
    assert shown(plant.hear([[NAN, 1], [1, 0]])) == [("raise", "46.000", ["c1"], 4)]


def test_a_reading_that_comes_late_is_no_change_of_a_frozen_value() -> None:
    """With `late_s`: it ended the alert, which the next readings raised again with another id."""
    plant = Plant(late_s=60)
    (raised,) = plant.hear([[1, 0], [1, 1], [1, 0], [1, 1]])
    assert plant.hear([[2, 0]], at_s=990) == []
    assert plant.hear([[1, 0], [1, 1], [1, 0], [1, 1]]) == []
    assert plant.pipeline.describe()["late"] == 1
    (cleared,) = plant.hear([[2, 0]])
    assert (cleared.event, cleared.id) == ("clear", raised.id)


def test_late_readings_in_a_batch_count_for_nothing() -> None:
    """Neither as the same: three readings of one value are not four; nor as a change among four."""
    plant = Plant(late_s=60)
    assert plant.hear([[1, 0], [1, 1], [1, 0]]) == []
    assert plant.hear([[1, 1], [5, 5]], at_s=990) == []
    assert [event.event for event in plant.hear([[1, 1]])] == ["raise"]


@pytest.mark.parametrize("changed", [False, True])
def test_frozen_values_survive_a_restart_with_one_raise_and_one_clear(changed: bool) -> None:
    """Also where the value has changed meanwhile."""
    plant = Plant()
    (raised,) = plant.hear([[1, 0], [1, 1], [1, 0], [1, 1]])
    assert open_alert(STUCK.of("a"), plant.journal[STUCK.of("a")]) == raised.id
    plant.start()
    assert plant.pipeline.describe()["stuck"]["count"] == 1
    if not changed:
        assert plant.hear([[1, 0], [1, 1]]) == []
    (cleared,) = plant.hear([[2, 0]])
    assert (cleared.event, cleared.id) == ("clear", raised.id)
    assert STUCK.of("a") not in plant.journal


def test_an_asset_that_makes_room_ends_its_alert() -> None:
    """With the reason."""
    plant = Plant(max_assets=2)
    for asset in "ab":
        plant.hear([[1, 0], [1, 1], [1, 0], [1, 1]], *[asset] * 4)
    (cleared,) = plant.hear([[1, 0]], "c")
    assert (cleared.asset, cleared.level, cleared.event, cleared.reason) == ("b", "stuck", "clear", "forgotten")
    assert STUCK.of("b") not in plant.journal


def test_nothing_is_told_unless_it_is_asked_for() -> None:
    """A setpoint may be the same for years; what is open when it is switched off is cleared."""
    plant = Plant(stuck_readings=0)
    assert plant.hear([[1, 1]] * 500) == []
    plant = Plant()
    plant.hear([[1, 1]] * 4)
    plant.settings = StreamSettings()
    plant.start()
    assert [event.event for event in plant.hear([[1, 1]])] == ["clear"]
    assert STUCK.of("a") not in plant.journal


@pytest.mark.parametrize("record", [b"", b"\x00" * 40])
def test_a_damaged_record_costs_no_more_than_itself(record: bytes) -> None:
    """The value is counted anew."""
    plant = Plant()
    plant.journal[STUCK.of("a")] = record
    plant.start()
    assert [event.event for event in plant.hear([[1, 0], [1, 1], [1, 0], [1, 1]])] == ["raise"]


rows = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([0.0, 1.0, NAN]), st.sampled_from([0.0, 1.0])), max_size=40
)


@given(rows, st.lists(st.integers(0, 40), max_size=4))
def test_the_batches_make_no_difference(readings: list[tuple[str, float, float]], cuts: list[int]) -> None:
    """The same readings in any batches give the same events."""

    def told(edges: list[int]) -> list[Any]:
        plant, events = Plant(stuck_readings=3), []
        for start, end in zip([0, *edges], [*edges, len(readings)], strict=True):
            part = readings[start:end]
            if part:
                found = plant.hear([[p, q] for _, p, q in part], *(asset for asset, _, _ in part))
                events += [(event.asset, *shown([event])[0]) for event in found]
        return sorted(events)

    assert told(sorted(min(cut, len(readings)) for cut in cuts)) == told([])
