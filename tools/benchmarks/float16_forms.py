"""Counts which float16 conversion `edgetool quantize --target gpu` takes on the models of the zoos, and why.

python tools/benchmarks/float16_forms.py [--zoo FOLDER]
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
from converters import ROOT, collect

from edgetool import QuantizeReport, quantize
from edgetool.precision.context import Converter

__all__ = ["main"]

KINDS = {
    " nodes with its casts": "library right, more nodes than ours",
    " bytes, ours ": "library right, larger than ours",
    " bytes of weights": "library right, more weights in float32",
    ": fails (": "library fails",
    ": was not tried": "too large for the library",
}


def main() -> int:
    """Quantize every model and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("--zoo", type=Path, default=ROOT.parent / "shared" / "zoo", help="of NAME.onnx, NAME.npz")
    options = parser.parse_args()
    taken: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="forms-") as name:
        for model, data in collect(options.zoo.resolve(), Path(name)):
            report = quantize(model, Path(name) / "result.onnx", target="gpu", data=data)
            taken[report.converter.value if report.converter else report.verdict.value] += 1
            reason = why_not(report)
            if reason:
                reasons[reason] += 1
            print(f"{model.stem}: {report.verdict.value} {report.converter or ''} {reason}", flush=True)
    for word, count in (*taken.most_common(), *reasons.most_common()):
        print(f"{count:4} {word}")
    return 0


def why_not(report: QuantizeReport) -> str:
    """Why the library's form was not taken; empty where it was, or was not tried."""
    text = next((r.reason for r in report.rungs if r.reason.startswith(Converter.LIBRARY.value)), "")
    if not text:
        return ""
    return next((kind for words, kind in KINDS.items() if words in text), "library wrong, or does not load")


if __name__ == "__main__":
    sys.exit(main())
