"""`edgetool evaluate --config`: the alerts that `edge-agent score` tells with it, held against labels."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
from fakes import write_bundle

import edgetool
from edge_agent.cli.app import main as agent_main
from edgetool.cli import main

CALIBRATED = {"calibration": {"rows": 1000, "false_alarm_rate": 0.01, "quantiles": {"0.5": 1.0, "0.9": 4.0}}}
STREAM = """
[[stream]]
name = "{name}"
bundle = "{bundle}"
topic = "sensors/+/{name}"
"""


def write_config(path: Path, bundle: Path, *settings: str, names: tuple[str, ...] = ("pump",)) -> Path:
    """An `agent.toml` of these streams, each with lines such as `alarm.confirm = 2`."""
    text = '[agent]\nid = "press-7"\n[mqtt]\nhost = "127.0.0.1"\n[engine]\nprovider = "cpu"\n'
    for name in names:
        text += STREAM.format(name=name, bundle=bundle) + "\n".join(settings) + "\n"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two assets whose readings come at about one a second, with bursts, missing values, pauses, ties and late rows."""
    rng = np.random.default_rng(5)
    count = 4000
    times = 1_700_000_000 + np.cumsum(rng.choice([0.0, 0.5, 1.0, 1.5], count))
    times += np.where(np.arange(count) % 700 == 699, 400, 0).cumsum()
    late = np.flatnonzero(rng.random(count) < 0.01)
    times[late] -= 3
    values = rng.normal(0, 1.0, (count, 2))
    burst = np.isin(np.arange(count) // 20, np.flatnonzero(rng.random(count // 20) < 0.15))
    values[burst] += rng.normal(2.5, 1.5, (int(burst.sum()), 2))
    values[rng.random(values.shape) < 0.05] = np.nan
    np.savez(
        tmp_path / "d.npz",
        readings=values,
        time=times,
        asset=np.where(rng.random(count) < 0.4, "a", "b"),
        label=burst.astype(int),
    )
    return tmp_path / "d.npz"


@pytest.mark.parametrize("window", [1, 3])
@pytest.mark.parametrize(
    "settings",
    [
        (),
        ("alarm.flap_raises = 0",),
        ("alarm.confirm = 3", "alarm.of = 5"),
        ("alarm.min_duration_s = 4", "alarm.clear_delay_s = 6.5"),
        ("alarm.cooldown_s = 60", "alarm.reminder_s = 5"),
        ("alarm.warn = 5.0", "alarm.flap_raises = 3", "alarm.flap_window_s = 30"),
        ("commission.readings = 200",),
        ("window.missing = 'skip'", "alarm.flap_raises = 0"),
        ("window.hold_s = 3", "window.gap_s = 20", "alarm.confirm = 2", "alarm.of = 3"),
        ("window.late_s = 10", "window.missing = 'skip'"),
        ("window.every_s = 5", "window.resample = 'mean'", "alarm.flap_raises = 0"),
        ("window.every_s = 2", "window.gap_s = 30", "commission.readings = 100"),
    ],
)
def test_alerts_are_those_that_score_tells(data: Path, window: int, settings: tuple[str, ...]) -> None:
    """Each raise, at the same reading of the same asset; so windows and alarm are those of the device."""
    bundle = write_bundle(data.with_name("square-1.0.0.edge"), window=window, alarm=6, changes=CALIBRATED)
    config = write_config(data.with_name("agent.toml"), bundle, *settings)
    told = data.with_name("alerts.jsonl")
    assert agent_main(["score", str(data), "--config", str(config), "--alerts", str(told)]) == 0
    events = [json.loads(line) for line in told.read_text(encoding="utf-8").splitlines()]
    expected = sorted(
        (event["asset"], round(datetime.fromisoformat(event["time"]).timestamp(), 3))
        for event in events
        if event["event"] in {"raise", "flapping"} and event["level"] in {"alarm", "warn"}
    )
    cleared = sum(event["event"] == "clear" and event["level"] in {"alarm", "warn"} for event in events)
    report = edgetool.evaluate(data=data, config=config)
    mine, rows, times = report.bundles[0], report.labelled.rows, report.labelled.times
    assert times is not None
    place = mine.scored.place[mine.alerts.raised]
    found = sorted(
        (rows.names[asset], round(time_s, 3))
        for asset, time_s in zip(rows.asset_of(place).tolist(), times[place].tolist(), strict=True)
    )
    assert found == expected
    assert len(found) > 5
    ends = np.append(mine.scored.starts[1:], len(mine.scored.score))
    assert np.sum(~np.isin(mine.alerts.ended, ends)) in {cleared, cleared - 1, cleared - 2}
    assert (mine.alerts.ended > mine.alerts.raised).all()


def test_confirmation_takes_false_alerts_away_and_finds_later(tmp_path: Path) -> None:
    """Single high rows are false without it; the event's alert comes with its third row. By hand, three limits."""
    values = np.full((200, 2), 0.5)
    values[[20, 50, 80], 0] = 5
    values[120:130, 0] = 5
    np.savez(
        tmp_path / "d.npz",
        readings=values,
        time=1.7e9 + np.arange(200),
        label=(np.arange(200) // 10 == 12).astype(int),
    )
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED)
    plain = edgetool.evaluate(bundle, data=tmp_path / "d.npz").bundles[0].own
    assert (plain.false_alerts, plain.events_found, plain.delay_s_median) == (3, 1, 0.0)
    config = write_config(tmp_path / "agent.toml", bundle, "alarm.confirm = 3", "alarm.of = 3")
    report = edgetool.evaluate(data=tmp_path / "d.npz", config=config)
    assert [(at.false_alerts, at.events_found, at.delay_s_median) for at in report.bundles[0].limits] == [
        (0, 1, 2.0)
    ] * 3
    # Of the baselines too. `always` is raised with its third row, and never cleared.
    always = report.baselines[2]
    assert (always.own.false_alerts, always.alerts.raised.tolist(), always.alerts.ended.tolist()) == (1, [2], [200])


def test_what_is_half_confirmed_ends_with_a_pause(tmp_path: Path) -> None:
    """A window that begins anew begins the confirmation anew: one high row on each side of a pause raises nothing."""
    values = np.full((40, 2), 0.5)
    values[[19, 20, 30, 31], 0] = 5
    times = 1.7e9 + np.arange(40) + np.where(np.arange(40) < 20, 0, 100)
    np.savez(tmp_path / "d.npz", readings=values, time=times, label=np.zeros(40))
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED)
    confirmed = ("alarm.confirm = 2", "alarm.of = 2")
    for settings, raised in ((confirmed, [20, 31]), ((*confirmed, "window.gap_s = 50"), [31])):
        config = write_config(tmp_path / "agent.toml", bundle, *settings)
        assert edgetool.evaluate(data=tmp_path / "d.npz", config=config).bundles[0].alerts.raised.tolist() == raised


def test_a_score_is_of_the_last_row_of_its_interval(tmp_path: Path) -> None:
    """Also where several rows have that time; it has the labels of all rows of the interval, and a row without a value
    is none. What a window looks at is counted in rows.
    """
    times = 1_700_000_000 + np.array([0, 1, 4, 4, 5, 6, 9, 9, 10, 11, 14, 14, 15, 16, 19, 19, 20])
    values = np.ones((len(times), 2))
    values[11] = np.nan
    label = (np.arange(len(times)) == 5).astype(int)
    np.savez(tmp_path / "d.npz", readings=values, time=times, label=label)
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED, window=2)
    config = write_config(tmp_path / "agent.toml", bundle, "window.every_s = 5")
    mine = edgetool.evaluate(data=tmp_path / "d.npz", config=config).bundles[0]
    assert mine.scored.place.tolist() == [7, 10, 15]
    assert mine.scored.label.tolist() == [1, 0, 0]
    assert mine.scored.window == 8


def test_of_readings_made_of_several_rows_no_channel_is_blamed(tmp_path: Path) -> None:
    """The window that was scored is in no row of the file, and the last row's shares would be another window's."""
    values = np.ones((60, 2))
    values[31, 1], values[34, 0] = 40.0, 3.0
    label = (np.arange(60) // 5 == 6).astype(int)
    np.savez(tmp_path / "d.npz", readings=values, time=1_700_000_000 + np.arange(60.0), label=label)
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED)
    config = write_config(tmp_path / "agent.toml", bundle, "window.every_s = 5", "window.resample = 'mean'")
    event = edgetool.evaluate(data=tmp_path / "d.npz", config=config).bundles[0].events[0]
    assert event.peak == pytest.approx(1.4**2 + 8.8**2, rel=1e-3)
    assert event.shares == ()
    assert edgetool.evaluate(bundle, data=tmp_path / "d.npz").bundles[0].events[0].shares[0][0] == "c2"


def test_commissioning_gives_each_asset_a_limit_at_each_rate(tmp_path: Path) -> None:
    """An asset that runs higher than the others is in alarm for ever by the bundle's limit; by its own it is not."""
    rng = np.random.default_rng(0)
    values = np.abs(rng.normal(1.0, 0.2, (4000, 2)))
    asset = np.where(np.arange(4000) % 2 == 0, "low", "high")
    values[asset == "high"] *= 4
    values[3500:3520] *= 5
    np.savez(tmp_path / "d.npz", readings=values, asset=asset, label=(np.arange(4000) // 20 == 175).astype(int))
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED)
    plain = edgetool.evaluate(bundle, data=tmp_path / "d.npz").bundles[0]
    assert [event.found for event in plain.events] == [True, False]
    config = write_config(tmp_path / "agent.toml", bundle, "commission.readings = 1000", "alarm.flap_raises = 0")
    report = edgetool.evaluate(data=tmp_path / "d.npz", config=config)
    mine = report.bundles[0]
    assert [event.found for event in mine.events] == [True, True]
    # Silent while it collects.
    numbers = mine.alerts.raised - np.where(mine.alerts.raised >= 2000, 2000, 0)
    assert (numbers >= 1000).all()
    # The rate is that of the limits that are made: ten times as many rows in alarm raise more alerts.
    many, own, few = (at.false_alerts for at in mine.limits)
    assert many > own >= few


def test_the_stream_is_asked_for_and_named(tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Several streams are a question; what was used is in the table, in the document and on the page."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED)
    config = write_config(tmp_path / "agent.toml", bundle, "alarm.confirm = 2", "alarm.of = 4", names=("pump", "fan"))
    arguments = ["evaluate", "--data", str(data)]
    assert main([*arguments, "--config", str(config)]) == 2
    assert capsys.readouterr().err == "edgetool: evaluate: --stream must be one of: pump, fan\n"
    assert main([*arguments, "--config", str(config), "--stream", "fun"]) == 2
    assert capsys.readouterr().err == "edgetool: evaluate: --stream must be one of: pump, fan\n"
    assert main([*arguments, "--stream", "fan"]) == 2
    assert "so it needs --config" in capsys.readouterr().err
    assert main(arguments) == 2
    assert "expected at least one bundle, or --config" in capsys.readouterr().err
    page = tmp_path / "page.html"
    assert main([*arguments, "--config", str(config), "--stream", "fan", "--html", str(page)]) == 0
    settings = "of stream 'fan' of {}: alarm.confirm = 2, alarm.of = 4"
    assert settings.format(config) in capsys.readouterr().out
    assert "alarm.confirm = 2, alarm.of = 4" in page.read_text(encoding="utf-8")
    assert main([*arguments, "--config", str(config), "--stream", "fan", "--json"]) == 0
    used = json.loads(capsys.readouterr().out)["settings"]
    assert (used["config"], used["stream"], used["alarm"]["confirm"]) == (str(config), "fan", 2)
    assert (used["window"]["missing"], used["commission"]) == ("auto", {"readings": 0})
    assert main([*arguments, str(bundle), "--json"]) == 0
    used = json.loads(capsys.readouterr().out)["settings"]
    assert (used["config"], used["alarm"]["flap_raises"]) == (None, 0)


def test_another_bundle_is_judged_by_the_streams_settings(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A candidate beside the device's own; a setting that does not fit a bundle's limit is told."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED)
    other = write_bundle(tmp_path / "other-2.0.0.edge", alarm=4.0, clear=3.0)
    config = write_config(tmp_path / "agent.toml", bundle, "alarm.warn = 5.0")
    assert main(["evaluate", str(bundle), str(other), "--config", str(config), "--data", str(data), "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [quality["name"] for quality in document["bundles"]] == ["square-1.0.0.edge", "other-2.0.0.edge"]
    assert document["warnings"] == [
        "other-2.0.0.edge: [alarm] warn = 5: is not below the bundle's alarm limit 4",
    ]
    config = write_config(tmp_path / "agent.toml", bundle, 'window.missing = "model"')
    assert main(["evaluate", str(bundle), "--config", str(config), "--data", str(data), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)["warnings"]
    assert told.startswith('square-1.0.0.edge: [window] missing = "model": the bundle\'s model has no answer')


def test_what_a_configuration_cannot_be_used_for_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Readings cannot be resampled without times; a wrong key is an error of the configuration."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge", changes=CALIBRATED)
    np.savez(tmp_path / "d.npz", readings=np.ones((20, 2)), label=np.zeros(20))
    arguments = ["evaluate", "--data", str(tmp_path / "d.npz"), "--config"]
    assert main([*arguments, str(write_config(tmp_path / "agent.toml", bundle, "window.every_s = 5"))]) == 65
    assert "has no column 'time', and [stream.window] every_s" in capsys.readouterr().err
    assert main([*arguments, str(write_config(tmp_path / "agent.toml", bundle, "alarm.confrim = 5"))]) == 78
    assert "did you mean 'confirm'?" in capsys.readouterr().err
