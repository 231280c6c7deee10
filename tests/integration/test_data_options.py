"""Data files of plants through the commands: other names, text, several files, with and without Arrow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fakes import write_bundle

from edge_agent.bundle import open_bundle
from edge_agent.cli import main as agent
from edge_agent.data_files.fast_text import FastText
from edgetool.cli import main as tool

HEAD = "timestamp,machine,a,state,b\n"


def days(folder: Path) -> Path:
    """Two days of two machines, of which the second is missing a day in between; the pattern that finds both."""
    rng = np.random.default_rng(0)
    for day, first_s in ((1, 0), (2, 600), (10, 90_000)):
        rows = [
            f"{1767225600 + first_s + step:d},{machine},{rng.normal():.4f},RUN,{rng.normal():.4f}\n"
            for step in range(600)
            for machine in ("m1", "m2")
        ]
        (folder / f"day-{day}.csv").write_text(HEAD + "".join(rows), encoding="ascii")
    return folder / "day-*.csv"


def model(folder: Path) -> Path:
    path = folder / "model.onnx"
    path.write_bytes(open_bundle(write_bundle(folder / "square-1.0.0.edge")).model)
    return path


NAMED = ("--time-column", "timestamp", "--asset-column", "machine", "--channels", "a,b")


def test_pack_takes_several_files_with_columns_of_other_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A column of text is left out, with a word on stderr and in the document."""
    pattern, made = days(tmp_path), tmp_path / "made-1.0.0.edge"
    arguments = ["pack", str(model(tmp_path)), "--data", str(pattern), *NAMED, "-o", str(made), "--json"]
    assert tool(arguments) == 0
    told = capsys.readouterr()
    report = json.loads(told.out)
    assert report["ignored_columns"] == ["state"]
    assert report["rows_used"] == 3600
    assert [channel["name"] for channel in report["manifest"]["channels"]] == ["a", "b"]
    assert "WARNING  column 'state' holds text and is none of the named channels: it is ignored" in told.err


@pytest.mark.parametrize("command", ["quantize", "compare", "optimize", "doctor"])
def test_commands_that_run_a_model_take_them_too(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And ask without the options."""
    pattern, given = days(tmp_path), str(model(tmp_path))
    models = [given, given] if command == "compare" else [given]
    assert tool([command, *models, "--data", str(pattern), *NAMED, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ignored_columns"] == ["state"]
    assert tool([command, *models, "--data", str(pattern)]) == 65
    assert "--time-column timestamp" in capsys.readouterr().err


def test_help_shows_the_options_beside_data(capsys: pytest.CaptureFixture[str]) -> None:
    """In the order in which they are read."""
    assert tool(["doctor", "--help"]) == 0
    text = capsys.readouterr().out
    assert text.index("--data") < text.index("--time-column") < text.index("--channels") < text.index("--timeout")


@pytest.mark.parametrize("with_arrow", [True, False])
def test_score_is_the_same_for_files_one_by_one_together_and_without_arrow(
    with_arrow: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In text, in JSON and in files; the bundle names the channels."""
    if not with_arrow:
        monkeypatch.setattr(FastText, "of_installed", lambda _path: None)
    assert (
        tool(
            ["pack", str(model(tmp_path)), "--data", str(days(tmp_path)), *NAMED, "-o", str(tmp_path / "d-1.0.0.edge")]
        )
        == 0
    )
    files = [str(tmp_path / f"day-{day}.csv") for day in (1, 2)]
    rows = (tmp_path / "day-1.csv").read_text().splitlines(keepends=True)
    rows[100] = rows[100].replace(",RUN,", "00,RUN,9")
    rows[103] = '"1767225651",m1,70,RUN,0\n'
    (tmp_path / "day-1.csv").write_text("".join(rows), encoding="ascii")
    (tmp_path / "all.csv").write_text(
        "".join(rows) + (tmp_path / "day-2.csv").read_text()[len(HEAD) :], encoding="ascii"
    )
    given = ["--bundle", str(tmp_path / "d-1.0.0.edge"), *NAMED[:4]]
    capsys.readouterr()
    found = []
    for names in (files, [str(tmp_path / "all.csv")]):
        scores, alerts = tmp_path / "scores.csv", tmp_path / "alerts.jsonl"
        assert agent(["score", *names, *given, "--scores", str(scores), "--alerts", str(alerts), "--json"]) == 0
        told = capsys.readouterr()
        document = json.loads(told.out)
        assert document["ignored_columns"] == ["state"]
        assert told.err == "WARNING  column 'state' holds text and is no channel of the bundle: it is ignored\n"
        assert [json.loads(line) for line in alerts.read_text().splitlines()] == document["alerts"]
        found.append((scores.read_text(), document["alerts"], document["raised"], document["rows"]))
    assert found[0] == found[1]
    assert found[0][3] == 2400
    assert {event["asset"] for event in found[0][1]} >= {"m1", "m2"}
    assert agent(["score", *files, *given]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == len(found[0][1]) + 1
    assert shown[-1].startswith("rows 2400, scored 2400, raised ")


def test_score_ends_with_one_line_for_data_and_bundle_alike(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written then, and a model that no provider loads is told as before."""
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    data = tmp_path / "d.csv"
    data.write_text("c1,c2\n" + "1,2\n" * 100_000 + "3,x\n", encoding="ascii")
    alerts = tmp_path / "alerts.jsonl"
    assert agent(["score", str(data), "--bundle", str(bundle), "--alerts", str(alerts)]) == 65
    assert capsys.readouterr().err == f"edge-agent: {data}: line 100002, column 'c2': 'x' is not a number\n"
    assert not alerts.exists()
    data.write_text("c1,c3\n1,2\n", encoding="ascii")
    assert agent(["score", str(data), "--bundle", str(bundle)]) == 65
    assert "has no column 'c2'; its channels are: c1, c3" in capsys.readouterr().err
    assert agent(["score", str(tmp_path / "no*.csv"), "--bundle", str(bundle)]) == 65
    assert "no file has such a name" in capsys.readouterr().err
    data.write_text("c1,c2\n1,2\n", encoding="ascii")
    wrong = write_bundle(tmp_path / "other-1.0.0.edge", golden_factor=2.0)
    assert agent(["score", str(data), "--bundle", str(wrong)]) == 69
    assert "wrong scores" in capsys.readouterr().err


@pytest.mark.parametrize("with_arrow", [True, False])
def test_a_file_of_which_nothing_is_scored_says_why(
    with_arrow: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sensor that was never connected, and too few rows for a window: no alert is not all well."""
    if not with_arrow:
        monkeypatch.setattr(FastText, "of_installed", lambda _path: None)
    bundle, data = write_bundle(tmp_path / "square-1.0.0.edge", window=3), tmp_path / "d.csv"
    given = ["score", str(data), "--bundle", str(bundle)]
    data.write_text("c1,c2\n" + "1,\n" * 50, encoding="ascii")
    nothing = "nothing was scored: no asset has 3 readings in a row in which each channel has had a value"
    assert agent(given) == 0
    told = capsys.readouterr()
    assert told.out.startswith("rows 50, scored 0")
    assert told.err == f"WARNING  channel c2 has no value in any row\nWARNING  {nothing}\n"
    assert agent([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == ["channel c2 has no value in any row", nothing]
    # From some row on is enough for a warning less.
    data.write_text("c1,c2\n" + "1,\n" * 50 + "1,2\n" * 2, encoding="ascii")
    assert agent([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == [nothing]
    data.write_text("c1,c2\n" + "1,\n" * 50 + "1,2\n" * 3, encoding="ascii")
    assert agent([*given, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == []


def test_scores_that_are_no_number_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """They raise no alert, and nothing else in the summary shows them."""
    bundle, data = write_bundle(tmp_path / "square-1.0.0.edge"), tmp_path / "d.csv"
    data.write_text("c1,c2\n" + "1,2\n" * 20 + "3e38,3e38\n" * 2, encoding="ascii")
    assert agent(["score", str(data), "--bundle", str(bundle), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["warnings"] == ["2 scores are no number, and raise nothing"]


def test_files_and_names_stand_where_a_user_writes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In front of options, behind them and in both places, in the order in which they are written."""
    bundle = str(write_bundle(tmp_path / "square-1.0.0.edge"))
    first, second = str(tmp_path / "first.csv"), str(tmp_path / "second.csv")
    Path(first).write_text("time,c1,c2\n1,1,1\n", encoding="ascii")
    Path(second).write_text("time,c1,c2\n2,2,0\n3,0,1\n", encoding="ascii")
    out = tmp_path / "scores.csv"
    written = []
    for arguments in (
        [first, second, "--bundle", bundle, "--scores", str(out)],
        [first, "--bundle", bundle, second, "--scores", str(out)],
        ["--bundle", bundle, first, "--scores", str(out), second],
    ):
        assert agent(["score", *arguments]) == 0
        written.append(out.read_text(encoding="ascii"))
    assert written[0].splitlines() == ["time,asset,score", "1.0,a1,2", "2.0,a1,4", "3.0,a1,1"]
    assert written[1:] == written[:1] * 2
    # An asset behind an option is read, and the configuration is what is missing.
    capsys.readouterr()
    missing = str(tmp_path / "agent.toml")
    assert agent(["mute", "press", "--config", missing, "--for", "2h", "m1"]) == 78
    assert f"{missing}: cannot be read" in capsys.readouterr().err
    for arguments, problem in (
        (["score", first, "--bundle", bundle, "--nope", second], "unrecognized arguments: --nope"),
        (["score", "--bundle", bundle], "the following arguments are required: FILE"),
        (["mute", "press", "--for", "2h", "m1", "m2"], "unrecognized arguments: m2"),
    ):
        with pytest.raises(SystemExit):
            agent(arguments)
        assert problem in capsys.readouterr().err
