"""The units of systemd/, as systemd itself judges them."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import threading
from pathlib import Path

import pytest
from processes import IN_CI

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "systemd"
SERVICE, TEMPLATE = FOLDER / "edge-agent.service", FOLDER / "edge-agent@.service"
DROP_INS = sorted(FOLDER.glob("*.conf"))


@pytest.fixture(scope="session")
def analyze() -> str:
    """The program systemd-analyze."""
    found = shutil.which("systemd-analyze")
    if found is None:
        if IN_CI:
            pytest.fail("systemd-analyze is not installed")
        pytest.skip("systemd-analyze is not installed")
    return found


def directives(unit: Path) -> list[tuple[str, str, str]]:
    """(section, key, value) in the order of the file, without comments."""
    found: list[tuple[str, str, str]] = []
    section = ""
    for line in re.sub(r"\\\n", "", unit.read_text(encoding="utf-8")).splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.append((section, key, value))
    return found


def together(tmp_path: Path, *drop_ins: Path, unit: Path = SERVICE) -> Path:
    """A folder of units in which the drop-ins are at work."""
    for each in FOLDER.glob("*.service"):
        shutil.copy(each, tmp_path)
    folder = tmp_path / f"{unit.name}.d"
    folder.mkdir()
    for drop_in in drop_ins:
        shutil.copy(drop_in, folder)
    return tmp_path / unit.name


@pytest.mark.parametrize("unit", sorted(FOLDER.glob("*.service")), ids=lambda unit: unit.name)
@pytest.mark.parametrize("drop_ins", [[], DROP_INS], ids=["alone", "with drop-ins"])
def test_systemd_has_no_complaint(analyze: str, tmp_path: Path, unit: Path, drop_ins: list[Path]) -> None:
    """But that the program is not installed here; a key that it does not know would be one."""
    file = together(tmp_path, *drop_ins, unit=unit)
    done = subprocess.run([analyze, "verify", str(file)], capture_output=True, text=True, timeout=60, check=False)
    ours = [line for line in done.stderr.splitlines() if "edge-agent" in line and "is not executable" not in line]
    assert ours == []


def test_a_key_that_systemd_does_not_know_would_be_found(analyze: str, tmp_path: Path) -> None:
    """The test above can fail."""
    file = together(tmp_path)
    file.write_text(file.read_text().replace("[Service]", "[Service]\nProtectSystems=strict"))
    done = subprocess.run([analyze, "verify", str(file)], capture_output=True, text=True, timeout=60, check=False)
    assert "ProtectSystems" in done.stderr


def exposure(analyze: str, text: str, folder: Path) -> float:
    """What systemd-analyze makes of a unit: 0 is closed, 10 is open. Offline, as nothing of it runs here."""
    file = folder / "judged.service"
    file.write_text(text)
    command = [analyze, "security", "--offline=true", "--no-pager", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    (found,) = re.findall(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    return float(found)


@pytest.mark.parametrize(
    ("drop_in", "most"),
    [(None, 1.2), ("openvino.conf", 1.2), ("local-broker.conf", 1.0), ("accelerator.conf", 1.7)],
)
def test_the_service_is_closed(analyze: str, tmp_path: Path, drop_in: str | None, most: float) -> None:
    """Of agents like it, 9.2 to 9.6 were measured; systemd judges a drop-in as the end of the unit's section."""
    text = SERVICE.read_text(encoding="utf-8")
    if drop_in is not None:
        more = (FOLDER / drop_in).read_text(encoding="utf-8").partition("[Service]")[2]
        text = text.replace("[Install]", f"{more}\n[Install]")
    assert exposure(analyze, text, tmp_path) <= most


def test_what_runs_as_root_is_closed_too(analyze: str, tmp_path: Path) -> None:
    """It starts a unit, and writes one file in memory."""
    assert exposure(analyze, (FOLDER / "edge-agent-again@.service").read_text(encoding="utf-8"), tmp_path) <= 1.2


def test_an_open_unit_would_be_found(analyze: str, tmp_path: Path) -> None:
    """The test above can fail."""
    assert exposure(analyze, "[Service]\nExecStart=/bin/true\n", tmp_path) > 9


def test_the_template_is_the_service_but_for_its_names() -> None:
    """What one gets, the other gets; and each agent has folders of its own, which no other user is given."""
    named = [
        (
            section,
            key,
            value.replace("edge-agent-%i", "edge-agent").replace("%i.toml", "agent.toml").removesuffix(" %i"),
        )
        for section, key, value in directives(TEMPLATE)
    ]
    assert named == directives(SERVICE)
    own = {key: value for _, key, value in directives(TEMPLATE) if "%i" in value}
    assert set(own) == {"Description", "ConditionPathExists", "ExecStart", "StateDirectory", "RuntimeDirectory"}


def test_what_must_stay_open_does() -> None:
    """Two traps that were met: without either of these, the first provider that is tried ends, or the runtime does."""
    filters = [value for _, key, value in directives(SERVICE) if key == "SystemCallFilter"]
    assert filters == ["@system-service", "~@privileged"]
    assert not [key for _, key, _ in directives(SERVICE) if key == "ProcSubset"]


def test_a_hang_before_the_crash_report_is_open_leaves_its_stack_in_the_journal() -> None:
    """The watchdog ends it with SIGABRT; later, the next start tells where it was (tests/integration/test_start.py)."""
    assert ("Service", "Environment", "PYTHONFAULTHANDLER=1") in directives(SERVICE)
    assert ("Service", "WatchdogSec", "60") in directives(SERVICE)


def test_each_restriction_that_a_drop_in_lifts_is_one_of_the_service() -> None:
    """A line of a drop-in that opens nothing would only make believe."""
    closed = {key: value for _, key, value in directives(SERVICE)}
    for drop_in in DROP_INS:
        lifted = [(key, value) for _, key, value in directives(drop_in) if value == "no"]
        assert all(closed[key] == "yes" for key, _ in lifted), drop_in.name
        assert drop_in.read_text(encoding="utf-8").startswith("# "), "it says what it is for"


@pytest.mark.parametrize("name", ["edge-agent.service", "edge-agent@press.service"])
def test_a_state_folder_that_cannot_be_made_is_replaced_by_one_in_memory(tmp_path: Path, name: str) -> None:
    """The helper's own line, with a systemctl that says 238 and notes what is asked of it, and a /run of its own."""
    (line,) = [value for _, key, value in directives(FOLDER / "edge-agent-again@.service") if key == "ExecStart"]
    script = line.removeprefix("/bin/sh -c '").removesuffix("' sh %i")
    # What systemd makes of it: two dollar or percent signs are one, and a backslash needs another one.
    script = (
        script.replace("$$", "$").replace("%%", "%").replace("\\\\", "\\").replace("/run/systemd", f"{tmp_path}/run")
    )
    (tmp_path / "systemctl").write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n[ "$1" = show ] && echo 238\ntrue\n'
    )
    (tmp_path / "systemctl").chmod(0o755)
    env = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    subprocess.run(["/bin/sh", "-c", script, "sh", name], check=True, env=env, timeout=60)
    drop_in = tmp_path / "run" / "system" / f"{name}.d" / "state-in-memory.conf"
    folder = name.removesuffix(".service").replace("@", "-")
    assert drop_in.read_text().splitlines() == [
        "[Service]",
        "StateDirectory=",
        "RuntimeDirectoryPreserve=yes",
        f"Environment=STATE_DIRECTORY=/run/{folder}",
    ]
    assert (tmp_path / "asked").read_text().splitlines()[1:] == ["daemon-reload", f"start --no-block {name}"]


@pytest.mark.parametrize(("verdict", "code"), [("", 0), ("agent.toml: is not TOML", 1), (None, 1)])
@pytest.mark.parametrize("unit", [SERVICE, TEMPLATE], ids=lambda unit: unit.name)
def test_a_reload_ends_as_the_agent_has_decided(tmp_path: Path, unit: Path, verdict: str | None, code: int) -> None:
    """With the old verdict out of the way; and it does not wait for an agent that is gone."""
    (command,) = (value for _, key, value in directives(unit) if key == "ExecReload")
    script = command.removeprefix("/bin/sh -c '").removesuffix("'")
    (tmp_path / "reload").write_text("of an earlier reload")
    # Whole or not there, as the agent writes it.
    write = f'printf %s "{verdict}" > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/reload'
    answer = "exit" if verdict is None else f"sleep 0.3; {write}; wait"
    command = f"trap '{answer}' HUP; echo; sleep 30 & wait"
    # Whoever runs the tests may ignore the signal, as nohup does, and a shell cannot take that back.
    ignored = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    with subprocess.Popen(["/bin/bash", "-c", command], stdout=subprocess.PIPE, start_new_session=True) as agent:
        signal.signal(signal.SIGHUP, ignored)
        assert agent.stdout is not None
        agent.stdout.readline()
        # A process that nobody waits for is a zombie, which can be sent signals.
        threading.Thread(target=agent.wait, daemon=True).start()
        env = {"PATH": "/usr/bin:/bin", "RUNTIME_DIRECTORY": str(tmp_path), "MAINPID": str(agent.pid)}
        try:
            done = subprocess.run(["/bin/sh", "-c", script], check=False, env=env, timeout=20)
        finally:
            os.killpg(agent.pid, signal.SIGKILL)
    assert done.returncode == code
