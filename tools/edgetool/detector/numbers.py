"""Numbers that an author gives by name, such as those of a fitted scaler, or a limit: `.npz` or `.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import DataError
from edgetool.data import open_arrays

__all__ = ["read_limit", "read_numbers_by_name"]

_LIMITS = ("alarm", "threshold", "threshold_", "offset", "offset_")
"""Names of a limit: ours, PyOD's and scikit-learn's."""


def read_limit(path: Path) -> tuple[float, str]:
    """The limit in a file, and the name that it has there.

    Raises:
        DataError: it cannot be read, or holds not exactly one limit.
    """
    found = read_numbers_by_name(path)
    names = [name for name in _LIMITS if name in found]
    if len(names) != 1 or found[names[0]].size != 1:
        held = ", ".join(f"{name} ({values.size})" for name, values in sorted(found.items())) or "nothing"
        raise DataError(f"{path}: expected one number named {', '.join(_LIMITS[:-1])} or {_LIMITS[-1]}; found: {held}")
    return float(found[names[0]][0]), names[0]


def read_numbers_by_name(path: Path) -> Mapping[str, NDArray[np.float64]]:
    """All numbers of a file, each name with a flat array.

    Raises:
        DataError: it cannot be read, or holds something else.
    """
    if path.suffix == ".npz":
        with open_arrays(path) as arrays:
            return {name: np.asarray(arrays.read(name), dtype=np.float64).ravel() for name in arrays.names}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {name: np.asarray(values, dtype=np.float64).ravel() for name, values in found.items()}
    except OSError as exc:
        raise DataError(f"{path}: cannot be read ({exc.strerror}); expected an .npz or .json") from exc
    except (ValueError, TypeError, AttributeError) as exc:
        raise DataError(
            f"{path}: is no .npz and no JSON of lists of numbers ({exc}); of a scaler of "
            "scikit-learn: np.savez('scaler.npz', mean=scaler.mean_, scale=scaler.scale_)"
        ) from exc
