"""A model in the form of another engine, for `engines.py`. Runs in the environment of what converts.

`python engine_convert.py torch|litert MODEL.onnx|MODEL.pt2 OUT`
"""

from __future__ import annotations

import sys
from pathlib import Path

__all__ = ["main"]


def main(kind: str, source: Path, target: Path) -> None:
    """Convert one file.

    Raises:
        ValueError: the model has an operator that has no form there.
    """
    import torch

    if kind == "torch":
        from engine_torch import exported

        torch.export.save(exported(source), target)
    elif kind == "litert":
        import litert_torch

        program = torch.export.load(source)
        example = program.example_inputs
        assert example is not None
        litert_torch.convert(program.module(check_guards=False), example[0]).export(str(target))
    else:
        raise ValueError(f"{kind} is not known; there are: torch, litert")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
