"""The public face of `edgetool`: names, choices as text, paths of any kind."""

from __future__ import annotations

import inspect
import re
import typing
from enum import StrEnum
from pathlib import Path

import pytest

import edgetool
from edgetool import choices
from edgetool.choices import as_member
from edgetool.paths import as_path, as_paths

COMMANDS = (
    "backfill",
    "bench",
    "calibrate",
    "compare",
    "dashboard",
    "deploy",
    "doctor",
    "evaluate",
    "evidence",
    "export",
    "fleet_deploy",
    "fleet_recommission",
    "fleet_rollback",
    "fleet_settings",
    "fleet_status",
    "inspect",
    "keygen",
    "optimize",
    "pack",
    "quantize",
    "record",
    "replay",
    "sign",
    "sniff",
    "verify_bundle",
    "watch",
)


def test_every_public_name_is_there() -> None:
    """Functions, enums, reports and errors, and nothing in between."""
    assert edgetool.__all__ == sorted(edgetool.__all__)
    assert set(edgetool.__all__) <= set(dir(edgetool))
    assert [name for name in edgetool.__all__ if inspect.isfunction(getattr(edgetool, name))] == list(COMMANDS)
    with pytest.raises(AttributeError, match="has no attribute 'qantize'"):
        getattr(edgetool, "qantize")  # noqa: B009 -- that is what is tried


@pytest.mark.parametrize(
    "name", ["ErrorIn", "FeaturesBy", "HigherIs", "Io", "Level", "Precision", "ScoreIs", "SmoothIs", "Target"]
)
def test_a_choice_is_taken_as_text(name: str) -> None:
    """The texts that the types allow are the members, and another text is told what there is."""
    kind: type[StrEnum] = getattr(choices, name)
    assert typing.get_args(getattr(choices, f"{name}Name")) == tuple(kind)
    assert [as_member(kind, str(member), named="it") for member in kind] == list(kind)
    with pytest.raises(edgetool.UsageError, match=f"it = 'other': expected one of {', '.join(kind)}"):
        as_member(kind, "other", named="it")


def test_a_choice_that_there_is_not_is_told_before_anything_is_read(tmp_path: Path) -> None:
    """With the argument's name."""
    with pytest.raises(edgetool.UsageError, match="precision = 'float8': expected one of float16, int8, auto"):
        edgetool.quantize(tmp_path / "none.onnx", precision="float8")  # type: ignore[arg-type]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_function_takes_only_a_path_object(command: str) -> None:
    """A path may be text wherever one is taken."""
    hints = inspect.signature(getattr(edgetool, command)).parameters.values()
    assert not [hint.name for hint in hints if re.search(r"\bPath\b", str(hint.annotation))]


def test_paths_are_text_or_objects() -> None:
    """One text is one path, and not as many as it has letters."""
    assert as_paths("m.onnx") == as_paths(Path("m.onnx")) == as_paths(["m.onnx"]) == [Path("m.onnx")]
    assert as_path(None) is None
    assert as_path("a/b") == Path("a/b")
