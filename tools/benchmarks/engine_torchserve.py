"""TorchServe for `engines.py`: the server with one worker, asked over one kept connection on this machine.

The same file is the handler that the server loads for a model.
"""

from __future__ import annotations

import http.client
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Handler", "serve"]

_CONFIG = """inference_address=http://127.0.0.1:{}
management_address=http://127.0.0.1:{}
metrics_address=http://127.0.0.1:{}
default_workers_per_model=1
"""
_READY_S = 120.0


class Handler:
    """What the server calls in its worker; its name in the archive is this file's."""

    def initialize(self, context: Any) -> None:
        """Load the model, as `engine_child` does for PyTorch."""
        import torch

        torch.set_num_threads(int(os.environ["ENGINE_THREADS"]))
        programs = [torch.export.load(file) for file in Path(context.system_properties["model_dir"]).glob("*.pt2")]
        self._modules = {len(each.example_inputs[0][0]): each.module(check_guards=False) for each in programs}

    def handle(self, requests: Any, _context: Any) -> list[bytes]:
        """Answer each request, an array as NumPy saves it, with the bytes of the scores."""
        import torch

        answers: list[bytes] = []
        with torch.inference_mode():
            for request in requests:
                readings = np.load(io.BytesIO(request["body"]))
                module = self._modules[len(readings)]
                answers.append(module(torch.from_numpy(readings))[0].numpy().tobytes())
        return answers


def serve(path: str, threads: int, _mode: str) -> Callable[[NDArray[np.float32]], Any]:
    """Start a server for one model, and give what asks it. It ends with this process's group.

    Args:
        path: a pattern of the model's files, one for each size of batch.
        threads: of one inference.

    Raises:
        RuntimeError: it does not answer in time.
    """
    folder, bin_folder = Path(tempfile.mkdtemp(prefix="torchserve-")), Path(sys.executable).parent
    ports = [_free_port() for _ in range(3)]
    (folder / "config.properties").write_text(_CONFIG.format(*ports), encoding="utf-8")
    files = ",".join(str(file) for file in sorted(Path(path).parent.glob(Path(path).name)))
    archive = ("--model-name", "model", "--version", "1", "--handler", __file__, "--extra-files", files)
    subprocess.run([str(bin_folder / "torch-model-archiver"), *archive, "--export-path", str(folder)], check=True)
    words = ("--start", "--foreground", "--ncs", "--disable-token-auth", "--model-store", str(folder))
    environment = {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "ENGINE_THREADS": str(threads)}
    subprocess.Popen(
        [str(bin_folder / "torchserve"), *words, "--models", "model=model.mar", "--ts-config", "config.properties"],
        cwd=folder,
        env={**environment, "LOG_LOCATION": str(folder), "METRICS_LOCATION": str(folder)},
        stdout=subprocess.DEVNULL,
    )
    connection = http.client.HTTPConnection("127.0.0.1", ports[0], timeout=_READY_S)

    def ask(readings: NDArray[np.float32]) -> Any:
        body = io.BytesIO()
        np.save(body, readings)
        connection.request("POST", "/predictions/model", body.getvalue(), {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        scores = answer.read()
        if answer.status != http.client.OK:
            raise RuntimeError(f"TorchServe answers {answer.status}: {scores[:80]!r}")
        return (np.frombuffer(scores, np.float32),)

    _wait(ports[0])
    return ask


def _wait(port: int) -> None:
    """Until a worker has the model; before that, the server refuses connections or calls itself partially healthy."""
    end = time.monotonic() + _READY_S
    while time.monotonic() < end:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/ping")
            if b'"Healthy"' in connection.getresponse().read():
                return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"TorchServe is not healthy after {_READY_S:.0f} s")


def _free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])
