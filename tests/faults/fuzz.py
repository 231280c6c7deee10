"""Coverage-guided fuzzing: `python tests/faults/fuzz.py TARGET [options of libFuzzer] [folders of inputs]`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import atheris

sys.path.insert(0, str(Path(__file__).parents[1]))
with atheris.instrument_imports(include=["edge_agent", "edgetool"]):
    from fuzz_targets import TARGETS

# A line for each input would be most of the work.
logging.disable()

if __name__ == "__main__":
    atheris.Setup([sys.argv[0], *sys.argv[2:]], TARGETS[sys.argv[1]])
    atheris.Fuzz()
