"""Scores that are passed over together change what they would change one by one."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from fakes import FakeEngine, make_manifest

from edge_agent.messages.reading import Readings
from edge_agent.stream import quiet
from edge_agent.stream.alarm import Alarm, AlarmSettings
from edge_agent.stream.pipeline import Pipeline
from edge_agent.stream.settings import StreamSettings
from edge_agent.stream.window_settings import WindowSettings

POLICIES = {
    "flapping": AlarmSettings(flap_raises=2, flap_window_s=300.0),
    "never calm": AlarmSettings(flap_raises=2, flap_window_s=9e9),
    "slow to clear": AlarmSettings(clear_delay_s=70.0),
    "cooling down": AlarmSettings(cooldown_s=90.0, flap_raises=0),
    "slow and cooling": AlarmSettings(clear_delay_s=45.0, cooldown_s=60.0, flap_raises=3),
    "warned": AlarmSettings(warn=1.5, clear_delay_s=50.0, flap_raises=2),
    "reminded": AlarmSettings(clear_delay_s=80.0, reminder_s=40.0),
    "confirmed": AlarmSettings(confirm=2, of=40, clear_delay_s=60.0),
}


def rows(seed: int, kind: str) -> Readings:
    """Mostly quiet, with some high scores, some in the band, some that are no numbers, gaps and steps of the clock."""
    rng = np.random.default_rng(seed)
    count = 4000
    values = rng.uniform(0, 0.9, count)
    values[rng.random(count) < 0.01] = 4.0
    values[rng.random(count) < 0.003] = 2.95
    values[rng.random(count) < 0.002] = 1.7
    values[rng.random(count) < 0.001] = np.inf
    steps = np.ones(count)
    if kind == "steps":
        steps[rng.integers(0, count, 6)] = [-500, 3e8, -3e8, 200, -1, 0]
    assets = ["a"] * count
    if kind == "assets":
        assets = [f"m{row // 700}" if row < 2800 else f"m{row % 3}" for row in range(count)]
    times = (1e9 + np.cumsum(steps)).tolist()
    return Readings(assets, times, values.astype(np.float32)[:, np.newaxis])


@pytest.mark.parametrize("kind", ["plain", "steps", "assets"])
@pytest.mark.parametrize("name", list(POLICIES))
def test_a_large_batch_gives_what_single_readings_give(name: str, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same events to the last field, and the same is remembered behind them."""
    monkeypatch.setattr(quiet, "_FEW", 3)
    settings = StreamSettings(alarm=POLICIES[name], window=WindowSettings(gap_s=150.0 if kind == "steps" else 0.0))
    passed = 0
    own = Alarm.pass_quiet

    def counted(alarm: Alarm, *arguments: object) -> object:
        nonlocal passed
        state, end = own(alarm, *arguments)  # type: ignore[arg-type]
        passed += end - arguments[2].start  # type: ignore[attr-defined]
        return state, end

    monkeypatch.setattr(Alarm, "pass_quiet", counted)
    found = []
    for most in (1, 1500):
        pipeline = Pipeline(
            agent="a",
            stream="s",
            manifest=make_manifest(channels=1),
            engine=FakeEngine(),
            provider="p",
            settings=settings,
        )
        events = []
        for batch in rows(7, kind).parts(most):
            windows = pipeline.complete_windows(batch)
            outcome = pipeline.apply_scores(windows, FakeEngine().score(windows.values))
            events += [msgspec.to_builtins(event) for event in outcome.events]
        found.append((events, pipeline.records_of(sorted(pipeline.assets()))))
    assert len(found[0][0]) > 2
    assert found[1] == found[0]
    assert passed > 500 or name == "reminded"
