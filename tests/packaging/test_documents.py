"""The documents say what is there: commands, keys, the unit, the sample configuration."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import get_args

import msgspec
import pytest
from processes import IN_CI, run_tool

from edge_agent.config import AgentSettings, MqttSettings, StreamSection, load_config
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.wheels import Platform, runtimes_for
from edge_agent.journal.settings import JournalSettings
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.settings import CommissionSettings, DriftSettings
from edge_agent.stream.window import WindowSettings

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
UNIT = ROOT / "systemd" / "edge-agent.service"


def commands(program: str) -> set[str]:
    """The subcommands that a program's help lists."""
    text = run_tool(program, "--help").stdout
    found = re.findall(r"^[│ ] {0,3}([a-z][a-z-]+)(?:  +[A-Za-z]|$)", text, re.MULTILINE)
    assert found
    return set(found)


@pytest.mark.parametrize("program", ["edgetool", "edge-agent"])
def test_every_command_is_in_the_readme(program: str) -> None:
    """And the readme names no command that is not there."""
    named = set(re.findall(rf"(?<!/){program} ([a-z][a-z-]+)", README))
    assert commands(program) - {"help"} <= named
    assert named <= commands(program)


def test_the_sample_configuration_loads(tmp_path: Path) -> None:
    """As the service would load it."""
    config = load_config(ROOT / "systemd" / "agent.toml", (f"agent.state_dir={tmp_path}",))
    assert config.streams[0].name == "pump"


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ("agent", AgentSettings),
        ("mqtt", MqttSettings),
        ("engine", EngineSettings),
        ("journal", JournalSettings),
        ("stream", StreamSection),
        ("stream.window", WindowSettings),
        ("stream.alarm", AlarmSettings),
        ("stream.commission", CommissionSettings),
        ("stream.drift", DriftSettings),
    ],
)
def test_every_key_is_in_the_configuration_table(section: str, kind: type[msgspec.Struct]) -> None:
    """With its default; and the table has no key that the code does not know."""
    table = dict(re.findall(rf"^\| `{re.escape(section)}\.([a-z_]+)` \| ([^|]+) \|", README, re.MULTILINE))
    table.pop("alerts", None)  # a table of its own, with the keys of [mqtt]
    fields = {
        field.name: field
        for field in msgspec.structs.fields(kind)
        if not any(
            isinstance(part, type) and issubclass(part, msgspec.Struct) for part in (field.type, *get_args(field.type))
        )
    }
    assert set(table) == set(fields)
    for name, field in fields.items():
        if not field.required and field.default not in ("", None, (), msgspec.NODEFAULT):
            shown = f"{field.default:g}" if isinstance(field.default, float) else str(field.default)
            assert shown.lower() in table[name].lower(), name


def test_the_unit_is_one_that_systemd_accepts() -> None:
    """systemd-analyze has no complaint but that the program is not installed here."""
    if shutil.which("systemd-analyze") is None:
        if IN_CI:
            pytest.fail("systemd-analyze is not installed")
        pytest.skip("systemd-analyze is not installed")
    done = subprocess.run(
        ["systemd-analyze", "verify", str(UNIT)], capture_output=True, text=True, timeout=60, check=False
    )
    complaints = [
        line for line in done.stderr.splitlines() if "edge-agent.service" in line and "not executable" not in line
    ]
    assert complaints == []


def test_the_unit_does_not_restart_what_cannot_heal() -> None:
    """A wrong configuration or bundle waits for a person."""
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert set(service["RestartPreventExitStatus"].split()) == {"78", "65"}


def test_the_readme_session_uses_options_that_exist() -> None:
    """Every long option after one of our commands is in that command's help."""
    for program, command, rest in re.findall(
        r"^\s*(?:sudo )?(edgetool|edge-agent) ([a-z-]+)(.*)$", README, re.MULTILINE
    ):
        text = run_tool(program, command, "--help").stdout
        for option in re.findall(r"--[a-z-]+", rest):
            assert option in text, f"{program} {command} {option}"


def test_nothing_names_this_machine_or_a_registry() -> None:
    """Locked versions name packages and hashes, and no place to get them from."""
    for file in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"https?://|file:/|--index|--find-links", file.read_text(encoding="utf-8")), file


def test_the_project_is_described_for_pip() -> None:
    """The extras of the design are there, and the two runtimes are in extras of their own."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {"cpu", "openvino", "host", "reports", "sklearn", "demo"} <= set(extras)
    assert not [
        name for name, packages in extras.items() if name not in ("cpu", "openvino") and "onnxruntime" in str(packages)
    ]


@pytest.mark.parametrize(
    ("where", "row"),
    [
        (Platform("Linux", "x86_64", (3, 13)), "| Linux x86-64 with glibc | 3.11 to 3.13 | `openvino` or `cpu` |"),
        (Platform("Linux", "x86_64", (3, 14)), "| Linux x86-64 with glibc | 3.14 | `cpu`: onnxruntime-openvino has no"),
        (Platform("Linux", "aarch64", (3, 14)), "| Linux aarch64 with glibc | 3.11 to 3.14 | `cpu` |"),
        (
            Platform("Windows", "amd64", (3, 13)),
            "| Windows x86-64, host tool only | 3.11 to 3.13 | `openvino` or `cpu` |",
        ),
        (Platform("Windows", "amd64", (3, 14)), "| Windows x86-64, host tool only | 3.14 | `cpu` |"),
        (Platform("Darwin", "arm64", (3, 14)), "macOS arm64, host tool only | 3.11 to 3.14 | `cpu` |"),
        (
            Platform("Darwin", "x86_64", (3, 13)),
            "| macOS x86-64, host tool only | 3.11 to 3.13 | `cpu`: onnxruntime 1.23",
        ),
        (Platform("Linux", "x86_64", (3, 13), is_musl=True), "| Linux with musl (Alpine), 32-bit Arm | | none"),
    ],
)
def test_the_table_of_runtimes_is_the_one_that_make_and_doctor_use(where: Platform, row: str) -> None:
    """What there is for a platform is said in one place in code and in one to a reader."""
    assert row in README
    said = row.rpartition("|" if not row.endswith("|") else " | ")[2]
    assert [extra for extra in ("openvino", "cpu") if f"`{extra}`" in said] == list(runtimes_for(where).extras)
