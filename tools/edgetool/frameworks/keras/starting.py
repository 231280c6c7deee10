"""TensorFlow and Keras in this process: on the processor, in full precision, and without a word on the terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from edge_agent.errors import ConversionError
from edgetool.extras import require
from edgetool.frameworks.one_line import one_line

__all__ = ["KERAS", "start"]

KERAS = (3, 12)
"""Files could make earlier versions run code or read other files, also in safe mode (CVE-2025-1550, -8747, -12058)."""
_ENVIRONMENT = {
    "KERAS_BACKEND": "tensorflow",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    # oneDNN computes in another order, and says so at each start.
    "TF_ENABLE_ONEDNN_OPTS": "0",
}


def start() -> tuple[Any, Any]:
    """The modules `tensorflow` and `keras`.

    Raises:
        ConversionError: Keras is too old, or was imported with another backend.
        MissingExtraError: one is not installed.
    """
    os.environ.update(_ENVIRONMENT)
    with _silent():
        tensorflow, keras = require("tensorflow", extra="tensorflow"), require("keras", extra="tensorflow")
    version = tuple(int(part) for part in keras.__version__.split(".")[:2])
    if version < KERAS:
        raise ConversionError(
            f"Keras {keras.__version__}: expected at least {'.'.join(map(str, KERAS))}, which reads files without "
            "running what is in them; pip install -U keras"
        )
    if keras.backend.backend() != "tensorflow":
        raise ConversionError(
            f"Keras runs on {keras.backend.backend()} in this process, expected tensorflow; import edgetool first"
        )
    # A graphics processor rounds products to fewer digits, and is not what the answers are compared with.
    with suppress(RuntimeError):
        tensorflow.config.set_visible_devices([], "GPU")
    return tensorflow, keras


@contextmanager
def _silent() -> Iterator[None]:
    """Without what libraries in C++ write on stderr while they are loaded; told where they cannot be."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as said:
        kept = os.dup(2)
        try:
            os.dup2(said.fileno(), 2)
            yield
        except ImportError as exc:
            said.seek(0)
            last = said.read().decode(errors="replace").strip().splitlines()[-1:]
            raise ConversionError(f"TensorFlow cannot be loaded ({' '.join([one_line(exc), *last])})") from exc
        finally:
            os.dup2(kept, 2)
            os.close(kept)
