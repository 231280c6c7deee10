"""A command of `edgetool` starts with what it needs, and typer gets only those values that it has to look at."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_group

from edgetool._cli import COMMANDS, command_line
from edgetool._cli.app import app

LOADED = """
import sys
from edgetool.cli import main
code = main(["inspect", "gone.onnx"])
print(code, *sorted({name for name in sys.modules if name.startswith(("pydantic", "edgetool._cli."))}))
"""


def test_a_command_loads_no_other_and_no_pydantic(tmp_path: Path) -> None:
    """Both take longer than most commands."""
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=tmp_path, capture_output=True, text=True, check=True)
    code, *loaded = done.stdout.split()
    assert code == "65"
    assert "edgetool._cli.inspect" in loaded
    assert not [name for name in loaded if name.startswith("pydantic")]
    assert {name.removeprefix("edgetool._cli.") for name in loaded} & set(COMMANDS) == {"inspect"}


def test_each_module_has_the_command_of_its_name() -> None:
    """What is named on the command line is all that is loaded."""
    for name in COMMANDS:
        assert name in command_line(name).commands
    assert set(command_line().commands) == set(COMMANDS)


def parsed(group: Any, arguments: str) -> Any:
    """What the options of a command are, or the error, in words."""
    name, *given = arguments.split(" ")
    try:
        return group.commands[name].make_context(name, given).params
    # Classes of typer's own copy of click, which have no public name.
    except Exception as exc:  # noqa: BLE001
        return type(exc).__name__, str(exc)


@pytest.mark.parametrize(
    "arguments",
    [
        "pack m.onnx --data a.csv",
        "pack m.onnx --data a.csv --data b.csv -o out-1.0.0.edge --channels a,b --state h:h --state c:c",
        "pack m.onnx --data a.csv --window 10 --alarm 3.5 --timeout 5min --higher-is normal --accept-weak",
        "pack m.onnx --data a.csv --false-alarm-rate 1e-2 --smooth-by mean --custom-ops lib.so",
        "pack m.onnx",
        "pack --data a.csv",
        "pack m.onnx --data a.csv --window 0",
        "pack m.onnx --data a.csv --window ten",
        "pack m.onnx --data a.csv --higher-is Normal",
        "pack m.onnx --data a.csv --timeout 0",
        "pack m.onnx --data a.csv -o ",
        "pack ü.onnx --data \udcff.csv",
        "pack \udcff.onnx --data a.csv",
        "bench a.onnx b.onnx",
        "bench",
        "watch --host h --port 99999",
        "keygen plant --passphrase",
    ],
)
def test_values_are_those_that_typer_makes_of_them(arguments: str) -> None:
    """Also the words of what is wrong."""
    ours = command_line()
    assert parsed(ours, arguments) == parsed(get_group(app), arguments)
