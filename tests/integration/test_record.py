"""`edgetool record`: a broker's readings become a data file."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from processes import Broker, Sender, run_tool, tool, wait_until, write_config

AT_S = 1_763_700_000


@contextmanager
def recording(broker: Broker, output: Path, *more: str | Path) -> Iterator[subprocess.Popen[str]]:
    """`edgetool record` as a process that listens already."""
    command = [tool("edgetool"), "record", "-o", output, "--port", str(broker.port), "--json", *more]
    # Whoever runs the tests in the background ignores Ctrl-C, and what is started then ignores it, too.
    ignored = signal.signal(signal.SIGINT, signal.SIG_DFL)
    with subprocess.Popen([*map(str, command)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        signal.signal(signal.SIGINT, ignored)
        try:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("recording ")
            yield process
        finally:
            process.kill()


def rows_of(path: Path) -> list[list[str]]:
    with path.open() as file:
        return list(csv.reader(file))


def test_what_comes_is_written_as_the_agent_reads_it(tmp_path: Path, broker: Broker, sender: Sender) -> None:
    """Batches, missing values, times in milliseconds; what is not recorded or not readable is counted."""
    output = tmp_path / "normal.csv"
    asked = ("--topic", "sensors/{asset}/pump", "--channels", "pressure,flow", "--rows", "4")
    with recording(broker, output, *asked) as process:
        sender.send("sensors/a1/pump", {"time": AT_S * 1000 + 250, "pressure": 4.1, "flow": 0.82, "other": 1})
        batch = [{"time": AT_S + 1, "pressure": 4.2}, {"time": AT_S + 2, "flow": "nan", "pressure": 5}]
        sender.send("sensors/a2/pump", json.dumps(batch).encode())
        sender.send("sensors/a1/pump", b"{")
        sender.send("sensors/a1/fan", {"pressure": 9, "flow": 9})
        sender.send("sensors/a1/pump", {"pressure": 4.3, "flow": 0.9})
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert rows_of(output)[:4] == [
        ["time", "asset", "pressure", "flow"],
        [f"{AT_S}.25", "a1", "4.0999999", "0.819999993"],
        [f"{AT_S + 1}", "a2", "4.19999981", ""],
        [f"{AT_S + 2}", "a2", "5", ""],
    ]
    assert abs(float(rows_of(output)[4][0]) - time.time()) < 30
    assert (report["rows"], report["assets"], report["missing"]) == (4, ["a1", "a2"], {"flow": 2})
    assert (report["rejected"], report["without_time"], report["is_stopped"]) == ({"not_json": 1}, 1, False)


def test_a_killed_recording_goes_on_behind_its_last_whole_row(tmp_path: Path, broker: Broker, sender: Sender) -> None:
    """Also behind half a row; Ctrl-C ends it in good order."""
    output = tmp_path / "normal.csv"
    asked = ("--topic", "plant/{asset}/{channel}", "--channels", "c1,c2")
    with recording(broker, output, *asked) as process:
        for channel in ("c1", "c2"):
            sender.send(f"plant/a1/{channel}", {"value": 1, "time": AT_S})
        wait_until(lambda: len(rows_of(output)) == 2)
        process.kill()
    with output.open("a") as file:
        file.write("1763700001,a1,7")
    with recording(broker, output, *asked) as process:
        for channel in ("c2", "c1", "mode"):
            sender.send(f"plant/a1/{channel}", {"value": 2, "time": AT_S + 5})
        wait_until(lambda: len(rows_of(output)) == 3)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    report = json.loads(out)
    assert rows_of(output)[1:] == [[str(AT_S), "a1", "1", "1"], [str(AT_S + 5), "a1", "2", "2"]]
    assert (report["rows_before"], report["rows"], report["ignored"], report["is_stopped"]) == (1, 1, {"mode": 1}, True)
    other = run_tool(
        "edgetool", "record", "--topic", "x/{asset}", "--channels", "c1", "-o", output, "--port", str(broker.port)
    )
    assert other.returncode == 65
    assert "has the columns time, asset, c1, c2, expected time, asset, c1; give another name" in other.stderr


def test_a_configuration_says_where_and_how(tmp_path: Path, broker: Broker, sender: Sender, bundle: Path) -> None:
    """Broker, topic and table; the bundle's channels, or given ones while there is no bundle. As Parquet."""
    table = '[stream.payload]\nfields = "v"\ntime = "ts"\n[stream.payload.channels]\nc1 = { scale = 0.1 }'
    config = write_config(tmp_path, broker.port, {"pump": bundle}, stream=table)
    output = tmp_path / "normal.parquet"
    with recording(broker, output, "--config", config, "--rows", "2") as process:
        for step in range(2):
            sender.send("sensors/a1/pump", {"ts": AT_S + step, "v": {"c1": 15, "c2": step}})
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert pq.read_table(output).to_pylist() == [
        {"time": AT_S, "asset": "a1", "c1": 1.5, "c2": 0.0},
        {"time": AT_S + 1, "asset": "a1", "c1": 1.5, "c2": 1.0},
    ]
    assert not output.with_suffix(".part.csv").exists()
    again = run_tool("edgetool", "record", "--config", config, "-o", output)
    assert again.returncode == 2
    assert "is there already" in again.stderr
    bundle.unlink()
    asked = ("edgetool", "record", "--config", config, "-o", tmp_path / "new.csv")
    assert "--channels pressure,flow while there is no bundle" in run_tool(*asked).stderr
    assert run_tool(*asked, "--channels", "c2", "--for", "1s").returncode == 0
    assert rows_of(tmp_path / "new.csv") == [["time", "asset", "c2"]]


@pytest.mark.parametrize(
    ("asked", "code", "told"),
    [
        (("--topic", "a/{asset}"), 2, "--topic needs --channels"),
        (("--channels", "a"), 2, "needs --config agent.toml, or --topic"),
        (("--topic", "a/{x}", "--channels", "a"), 2, 'asset = "{x}"'),
        (("--topic", "a", "--channels", "a", "--preset", "kep"), 2, "expected one of telegraf"),
        (("--topic", "a", "--channels", "a", "--preset", "tasmota"), 2, "into the [stream.payload] of a --config"),
        (("--topic", "a", "--channels", "a", "--for", "soon"), 2, "expected a time such as 30s"),
        (("--topic", "a", "--channels", "a", "--port", "1"), 69, "cannot be reached"),
        (("--topic", "a", "--channels", "a", "-o", "x.xlsx"), 2, "ends in .csv or .parquet"),
    ],
)
def test_what_is_not_said_is_asked_for(tmp_path: Path, asked: tuple[str, ...], code: int, told: str) -> None:
    """And nothing is written."""
    output = () if "-o" in asked else ("-o", str(tmp_path / "x.csv"))
    result = run_tool("edgetool", "record", *asked, *output)
    assert result.returncode == code
    assert told in result.stderr


def test_sniff_proposes_what_reads_a_brokers_messages(
    tmp_path: Path, broker: Broker, sender: Sender, bundle: Path
) -> None:
    """As a file that the agent's own check accepts, and as JSON."""
    output = tmp_path / "streams.toml"
    command = [tool("edgetool"), "sniff", "--topic", "#", "--for", "4s", "--bundle", bundle, "--port", str(broker.port)]
    with subprocess.Popen(
        [*map(str, command), "--json", "-o", str(output)], stdout=subprocess.PIPE, text=True
    ) as process:
        limit = time.monotonic() + 6
        while process.poll() is None and time.monotonic() < limit:
            for asset in ("a1", "a2"):
                sender.send(f"plant/{asset}/x", {"ts": 1_763_700_000_250, "values": {"C1": 1, "c2": 2}})
            sender.send("home/door", b"open")
            time.sleep(0.1)  # a pace that a broker and two processes keep
        out, _ = process.communicate(timeout=30)
    report = json.loads(out)
    (best, *others) = report["groups"]
    assert best["proposal"]["topic"] == "plant/{asset}/x"
    assert best["proposal"]["payload"] == {"fields": "values", "time": "ts", "channels": {"c1": "C1"}}
    assert [other["proposal"] for other in others] == [None]
    config = tmp_path / "agent.toml"
    config.write_text(f'[agent]\nid = "g"\nstate_dir = "{tmp_path}/state"\n[mqtt]\nport = {broker.port}\n')
    text = output.read_text()
    assert "# look: by likeness of names, so look at it: c1 is C1" in text
    config.write_text(config.read_text() + text)
    (tmp_path / "state").mkdir()
    result = run_tool("edge-agent", "check", "--config", config, "--set", "engine.provider=cpu")
    assert result.returncode == 0, result.stderr
