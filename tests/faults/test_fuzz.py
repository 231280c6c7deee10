"""Any bytes into every decoder, the wire and the bundle reader, from a corpus that is kept."""

from __future__ import annotations

import importlib.util
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz_targets import TARGETS
from hypothesis import given, settings
from hypothesis import strategies as st
from plan import SEED
from rig import Report

CORPUS = Path(__file__).with_name("corpus")
FUZZ_S = 60
EXAMPLES = 30_000


def mutated(seed: bytes, chance: random.Random) -> bytes:
    """A few bytes changed, a piece doubled or cut out."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randint(0, len(data))
        kind = chance.randrange(3)
        if kind == 0 and at < len(data):
            data[at] = chance.randrange(256)
        elif kind == 1:
            data[at:at] = data[at : at + chance.randint(1, 16)]
        else:
            del data[at : at + chance.randint(1, 16)]
    return bytes(data)


@pytest.mark.parametrize("target", TARGETS)
def test_kept_corpus(full: bool, report: Report, target: str) -> None:
    """Every input that is kept, and inputs near it: nothing but what is documented is raised."""
    chance = random.Random(SEED)
    seeds = [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]
    assert seeds
    near = [mutated(seed, chance) for seed in seeds for _ in range(500 if full else 40)]
    for data in [*seeds, *near]:
        TARGETS[target](data)
    report(kept=len(seeds), near=len(near))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("target", TARGETS)
def test_fuzz(tmp_path: Path, full: bool, report: Report, target: str) -> None:
    """Any bytes, guided by coverage (atheris) where that is installed: nothing but what is documented is raised."""
    if importlib.util.find_spec("atheris") is None:
        run_hypothesis(target, EXAMPLES if full else 100)
        report(form="hypothesis: atheris is not installed", inputs=EXAMPLES if full else 100)
        return
    found = tmp_path / "found"
    found.mkdir()
    script = Path(__file__).with_name("fuzz.py")
    limits = [f"-max_total_time={FUZZ_S if full else 3}", f"-seed={SEED}", "-timeout=20", "-rss_limit_mb=4096"]
    command = [sys.executable, str(script), target, *limits, f"-artifact_prefix={tmp_path}/", str(found)]
    done = subprocess.run([*command, str(CORPUS / target)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    runs = re.search(r"Done (\d+) runs", done.stderr)
    assert runs is not None, done.stderr[-1000:]
    report(form="atheris", inputs=int(runs[1]), new_in_corpus=len(list(found.iterdir())))


def run_hypothesis(target: str, examples: int) -> None:
    """Random inputs, with a seed of the corpus at the start of some."""
    seeds = [file.read_bytes() for file in sorted((CORPUS / target).iterdir())]

    @given(st.one_of(st.binary(max_size=400), st.builds(lambda a, b: a + b, st.sampled_from(seeds), st.binary())))
    @settings(max_examples=examples, derandomize=True, database=None, deadline=None)
    def fuzz(data: bytes) -> None:
        TARGETS[target](data)

    fuzz()
