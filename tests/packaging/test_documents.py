"""The documents say what is there: commands, keys, exit codes, names, links, the unit, the sample configuration."""

from __future__ import annotations

import configparser
import json
import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import get_args
from xml.etree import ElementTree as ET

import msgspec
import pytest
from processes import run_tool

import edgetool
from edge_agent.config.load import load_config
from edge_agent.config.settings import AgentSettings, StreamSection
from edge_agent.config.trust import TrustSettings
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.releases import READS
from edge_agent.engine.settings import AllowedLibrary, EngineSettings
from edge_agent.engine.wheels import Platform, runtimes_for
from edge_agent.errors import EdgeError
from edge_agent.journal.settings import JournalSettings
from edge_agent.mqtt.settings import MqttSettings
from edge_agent.outputs.settings import (
    EvidenceSettings,
    HomeAssistantSettings,
    MetricsSettings,
    PublishSettings,
    SparkplugSettings,
)
from edge_agent.sources.formats import FORMATS
from edge_agent.stream.alarm import AlarmSettings
from edge_agent.stream.settings import CommissionSettings, DriftSettings
from edge_agent.stream.window_settings import WindowSettings

ROOT = Path(__file__).parents[2]
UNIT = ROOT / "systemd" / "edge-agent.service"
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for pattern in ("*.md", "docs/*.md", "docs/integrations/*.md", "models/*/*.md", "findings/*.md")
    for path in ROOT.glob(pattern)
)
LINKED = [name for name in DOCUMENTS if name.startswith("docs/") or "/" not in name]
LINK = re.compile(r"\[(?:`[^`]*`|[^\]`])*\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def prose(name: str) -> str:
    """A document without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$|^    .*?$", "", read(name), flags=re.MULTILINE | re.DOTALL)


def anchors(name: str) -> set[str]:
    """What GitHub makes of a document's headings."""
    seen: Counter[str] = Counter()
    found: set[str] = set()
    for heading in re.findall(r"^#+ (.*)$", prose(name), re.MULTILINE):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    """To a file that is there, and to a heading that is in it."""
    for link in (one or other for one, other in LINK.findall(prose(name))):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target.resolve().relative_to(ROOT).as_posix()), link


@pytest.mark.parametrize("name", LINKED)
def test_prose_fits_on_a_screen(name: str) -> None:
    """150 characters a line; rows of tables and images cannot be broken."""
    lines = prose(name).splitlines()
    assert [line for line in lines if len(line) > 150 and not line.startswith(("|", "<img"))] == []


@pytest.mark.parametrize("name", LINKED)
def test_a_document_that_is_mentioned_is_linked(name: str) -> None:
    """A reader can follow it."""
    assert re.findall(r"[\w/.-]+\.md\b", LINK.sub("", prose(name))) == []


def test_every_document_can_be_found_from_the_readme() -> None:
    """By one link."""
    linked = {one for one, _ in LINK.findall(prose("README.md"))}
    assert {name for name in DOCUMENTS if "/" not in name or name.startswith("docs/")} - {"README.md"} <= linked


def test_the_picture_needs_nothing_and_suits_dark_pages() -> None:
    """No fonts or images are fetched, and its colours follow the reader's."""
    text = read("docs/overview.svg")
    assert ET.fromstring(text).tag.endswith("svg")
    assert "prefers-color-scheme: dark" in text
    assert re.findall(r"https?://[^\s\"]+|url\(|@import|href", text) == ["http://www.w3.org/2000/svg"]


def test_the_alert_in_the_readme_is_the_one_of_the_interface() -> None:
    """With the keys that docs/mqtt.md explains."""
    block = re.search(r"^```json\n(.*?)^```$", read("README.md"), re.MULTILINE | re.DOTALL)
    assert block is not None
    event = json.loads(block[1])
    topic = f"edge/{event['agent']}/alerts/{event['stream']}/{event['asset']}"
    assert f"`{topic}`" in read("README.md")
    explained = read("docs/mqtt.md").partition("An alert event:")[2].partition("Every `raise`")[0]
    assert all(f'"{key}"' in explained for key in event)


def test_the_python_api_is_described() -> None:
    """Every name that edgetool exports, and no other."""
    names = read("docs/api.md").partition("## Names")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`[^|]*) \|", names, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)", " ".join(first_cells))) == sorted(edgetool.__all__)


def test_every_exit_code_is_explained() -> None:
    """Those of the error tree, done, and a bug."""
    table = read("docs/troubleshooting.md").partition("## Exit codes")[2].partition("\n## ")[0]
    codes = {0, 1} | {kind.exit_code for kind in EdgeError.__subclasses__()}
    assert {int(code) for code in re.findall(r"^\| (\d+) \|", table, re.MULTILINE)} == codes


def test_every_provider_and_format_is_described() -> None:
    """By the name that the configuration takes."""
    providers = read("docs/providers.md").partition("## The providers")[2].partition("\n## ")[0]
    named = {
        name
        for row in re.findall(r"^\| (`[^|]*) \|", providers, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row)
    }
    assert {name for name in named if not name.startswith("NAME")} == set(PROVIDERS)
    row = re.search(r"^\| `stream\.format` .*$", read("docs/configuration.md"), re.MULTILINE)
    assert row is not None
    assert all(f"`{name}`" in row[0] or f"| {name} |" in row[0] for name in FORMATS)


def commands(program: str) -> set[str]:
    """The subcommands that a program's help lists."""
    text = run_tool(program, "--help").stdout
    found = re.findall(r"^[│ ] {0,3}([a-z][a-z-]+)(?:  +[A-Za-z]|$)", text, re.MULTILINE)
    assert found
    return set(found)


@pytest.mark.parametrize("program", ["edgetool", "edge-agent"])
def test_every_command_has_its_row(program: str) -> None:
    """And no document shows a command that is not there."""
    there = commands(program)
    rows = re.findall(rf"^\| `{program} ([a-z-]+)", read("docs/commands.md"), re.MULTILINE)
    assert sorted(rows) == sorted(there - {"help"})
    for name in DOCUMENTS:
        shown = re.findall(rf"`{program} ([a-z][a-z-]+)|^    {program} ([a-z][a-z-]+)", read(name), re.MULTILINE)
        assert {one or other for one, other in shown} <= there, name


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
        ("engine.custom_ops", AllowedLibrary),
        ("journal", JournalSettings),
        ("publish", PublishSettings),
        ("evidence", EvidenceSettings),
        ("homeassistant", HomeAssistantSettings),
        ("metrics", MetricsSettings),
        ("trust", TrustSettings),
        ("sparkplug", SparkplugSettings),
        ("stream", StreamSection),
        ("stream.window", WindowSettings),
        ("stream.alarm", AlarmSettings),
        ("stream.commission", CommissionSettings),
        ("stream.drift", DriftSettings),
    ],
)
def test_every_key_is_in_the_configuration_table(section: str, kind: type[msgspec.Struct]) -> None:
    """With its default; and the table has no key that the code does not know."""
    rows = re.findall(
        rf"^\| `{re.escape(section)}\.([a-z_0-9]+)` \| ([^|]+) \| ([^|]+) \| [^|]+ \|$",
        read("docs/configuration.md"),
        re.MULTILINE,
    )
    table = {name: default for name, default, _ in rows}
    if section == "mqtt":
        table.pop("alerts", None)  # a table of its own, with the keys of [mqtt]
    table.pop("custom_ops", None)  # as many tables of their own as there are libraries
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
    assert all((unit == "s") == name.endswith("_s") for name, _, unit in rows)


def test_the_unit_restarts_all_but_what_cannot_heal() -> None:
    """A wrong configuration or bundle, or a credential that is missing, waits for a person."""
    unit = configparser.ConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment,method-assign]
    unit.read(UNIT)
    service = unit["Service"]
    assert service["Type"] == "notify"
    assert service["Restart"] == "always"
    assert set(service["RestartPreventExitStatus"].split()) == {"2", "65", "78", "203", "238", "243"}


def test_the_documents_use_options_that_exist() -> None:
    """Every long option after one of our commands, in a session or in a row of a table, is in that command's help."""
    uses: dict[tuple[str, str], set[str]] = {}
    for name in DOCUMENTS:
        for program, command, rest in re.findall(
            r"(?:^ *|[`/|] ?)(edgetool|edge-agent) (fleet [a-z]+|[a-z-]+)([^`\n]*)", read(name), re.MULTILINE
        ):
            uses.setdefault((program, command), set()).update(re.findall(r"--[a-z-]+", rest))
    for (program, command), options in uses.items():
        text = run_tool(program, *command.split(), "--help").stdout if options else ""
        for option in options:
            assert option in text, f"{program} {command} {option}"


@pytest.mark.parametrize(("command", "shown"), [("sniff", "[[stream]]"), ("replay", "[stream.payload]")])
def test_brackets_in_help_are_shown(command: str, shown: str) -> None:
    """The library that prints it takes them for marks of style, and leaves them out."""
    assert shown in run_tool("edgetool", command, "--help").stdout


def test_nothing_names_this_machine_or_a_registry() -> None:
    """Locked versions name packages and hashes, and no place to get them from."""
    for file in (ROOT / "requirements").glob("*.txt"):
        assert not re.search(r"https?://|file:/|--index|--find-links", file.read_text(encoding="utf-8")), file


def test_the_project_is_described_for_pip() -> None:
    """The extras of the design are there, and the two runtimes are in extras of their own."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    table = read("docs/platforms.md").partition("## The extras")[2].partition("\n## ")[0]
    first_cells = re.findall(r"^\| (`[^|]*) \|", table, re.MULTILINE)
    assert sorted(re.findall(r"`(\w+)`", " ".join(first_cells))) == sorted(extras)
    assert {"cpu", "openvino", "host"} <= set(extras)
    assert not [
        name for name, packages in extras.items() if name not in ("cpu", "openvino") and "onnxruntime" in str(packages)
    ]


def test_the_table_of_releases_is_the_one_that_pack_uses() -> None:
    """The same numbers, release by release."""
    rows = re.findall(r"^\| 1\.(\d+)[^|]*\| (\d+) \| (\d+) \| (\d+) \|$", read("docs/platforms.md"), re.MULTILINE)
    assert [tuple(int(number) for number in row) for row in rows] == [
        (release[1], reads.ir, reads.opsets["ai.onnx"], reads.opsets["ai.onnx.ml"]) for release, reads in READS.items()
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
    assert row in read("docs/platforms.md")
    said = row.rpartition("|" if not row.endswith("|") else " | ")[2]
    assert [extra for extra in ("openvino", "cpu") if f"`{extra}`" in said] == list(runtimes_for(where).extras)
