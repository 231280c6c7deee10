"""The example bundles of models/, built again by the lines in their cards."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from processes import tool

from edge_agent.bundle import open_bundle
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.session import OrtEngine

__all__ = ["CARDS", "build_twice", "write_normal"]

ROOT = Path(__file__).parents[1]
CARDS = sorted((ROOT / "models").glob("*/card.md"))


def write_normal(card: Path, folder: Path) -> Path:
    """`normal.csv` of the data that a card is about."""
    name = "shuttle" if card.parent.name.startswith("shuttle") else "water_flow"
    command = [sys.executable, str(ROOT / "models" / "readings.py"), name, str(folder)]
    subprocess.run(command, check=True, timeout=120)
    return folder / "normal.csv"


def build_twice(card: Path, folder: Path) -> None:
    """Build a bundle twice, to the same bytes, and hold it against the stored one, up to what another CPU rounds."""
    rows = write_normal(card, folder)
    name = card.parent.name
    (folder / "again").mkdir()
    made, again = folder / f"{name}-1.0.0.edge", folder / "again" / f"{name}-1.0.0.edge"
    content = build(card, rows, made)
    assert content == build(card, rows, again)
    stored = card.parent / f"{name}-1.0.0.edge"
    if content == stored.read_bytes():
        return
    manifests = [json.loads(zipfile.ZipFile(path).read("manifest.json")) for path in (stored, made)]
    # Another version of the runtime is noted, and the size of the file follows from digits.
    for manifest in manifests:
        manifest["model"].pop("runtime")
    apart = numbers_apart(*manifests)
    assert not apart, apart
    one, other = open_bundle(stored), open_bundle(made)
    found, wanted = (OrtEngine(each.model, PROVIDERS["cpu"]).score(one.golden_readings).score for each in (other, one))
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * float(wanted.std()))


def line_of(card: Path) -> tuple[dict[str, str], list[str]]:
    """The environment and the arguments of the command in a card."""
    text = re.search(r"^    (SOURCE_DATE_EPOCH=(?:.*\\\n)*.*)$", card.read_text(encoding="utf-8"), re.MULTILINE)
    assert text is not None, card
    epoch, program, *arguments = shlex.split(text[1].replace("\\\n", " "))
    assert program == "edgetool"
    return {"SOURCE_DATE_EPOCH": epoch.partition("=")[2]}, arguments


def build(card: Path, normal: Path, output: Path) -> bytes:
    environment, arguments = line_of(card)
    arguments[arguments.index("--data") + 1] = str(normal)
    arguments[arguments.index("-o") + 1] = str(output)
    done = subprocess.run(
        [tool("edgetool"), *arguments], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True,
        check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return output.read_bytes()


def numbers_apart(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two documents differ by more than the last digits of a number."""
    if isinstance(one, dict) and isinstance(other, dict):
        keys = {*one, *other}
        return [each for key in sorted(keys) for each in numbers_apart(one.get(key), other.get(key), f"{path}.{key}")]
    if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        return [
            each for i, pair in enumerate(zip(one, other, strict=True)) for each in numbers_apart(*pair, f"{path}.{i}")
        ]
    if isinstance(one, float) and isinstance(other, float):
        # A deviation is noise itself.
        return [] if np.isclose(one, other, rtol=1e-5, atol=1e-5) else [f"{path}: {one} {other}"]
    return [] if one == other or path.endswith("sha256") else [f"{path}: {one} {other}"]
