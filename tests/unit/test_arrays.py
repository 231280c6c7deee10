"""Arrays that go from one process to the other come as they went."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgetool.verify.arrays import load_samples, save_samples


def test_samples_come_as_they_went(tmp_path: Path) -> None:
    """Types, shapes and order in memory, also of none, of one number and of text."""
    turned = np.arange(24, dtype=np.float64).reshape(2, 3, 4).T
    samples: list[dict[str, NDArray[Any]]] = [
        {"x|1": np.arange(6, dtype=np.float32).reshape(2, 3), "text": np.array([["a", "bcd"], ["", "é"]])},
        {},
        {"turned": turned, "half": np.ones((2, 1), np.float16), "valid": np.array([True, False]), "n": np.array(7)},
        {"none": np.empty((0, 3), np.float32), "every second": np.arange(10)[::2]},
    ]
    save_samples(tmp_path / "samples", samples)
    found = load_samples(tmp_path / "samples")
    assert [list(sample) for sample in found] == [list(sample) for sample in samples]
    for sample, other in zip(samples, found, strict=True):
        for name, array in sample.items():
            assert other[name].dtype == array.dtype
            assert other[name].shape == array.shape
            np.testing.assert_array_equal(other[name], array)
    assert found[2]["turned"].strides == turned.strides
    assert found[0]["x|1"].flags.writeable


def test_objects_are_not_written(tmp_path: Path) -> None:
    """Nothing of ours reads a pickle."""
    with pytest.raises(OSError, match="object"):
        save_samples(tmp_path / "samples", [{"x": np.array([object()])}])
