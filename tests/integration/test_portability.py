"""`edgetool` on a laptop: what only Linux or POSIX has is hidden from its commands and from their child processes.

It stands for macOS and Windows, on which nothing of this was run; docs/platforms.md says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fakes import autoencoder
from processes import tool

HIDE = '''\
"""Imported by every Python process before anything else: a system without the calls of POSIX."""

import builtins
import io
import os
import pathlib
import selectors
import signal
import subprocess
import sys

if sys.version_info >= (3, 13):
    import pathlib._local

for module in ("fcntl", "resource", "pwd", "grp", "termios", "pty", "tty"):
    sys.modules[module] = None
for name in (
    "fork", "forkpty", "geteuid", "getegid", "getuid", "getgid", "getpgid", "getloadavg", "killpg", "memfd_create",
    "mkfifo", "nice", "sched_getaffinity", "sched_setaffinity", "setsid", "setpgid", "statvfs", "sysconf",
):
    if hasattr(os, name):
        delattr(os, name)

# Windows ends a process by TerminateProcess, and its select takes sockets only.
subprocess.Popen.kill = subprocess.Popen.terminate
for name in ("SIGKILL", "SIGHUP", "pthread_sigmask"):
    delattr(signal, name)
for name in ("DefaultSelector", "EpollSelector"):
    if hasattr(selectors, name):
        delattr(selectors, name)


def hide(function):
    def hidden(path, *rest, **named):
        if isinstance(path, (str, os.PathLike)) and os.fspath(path).startswith("/proc"):
            raise FileNotFoundError(2, "No such file or directory", os.fspath(path))
        return function(path, *rest, **named)

    return hidden


builtins.open = io.open = hide(open)
os.stat = hide(os.stat)
pathlib.Path.exists = lambda self, **_: not str(self).startswith("/proc") and os.path.lexists(self)

if os.environ.get("HIDDEN_LOG"):
    with open(os.environ["HIDDEN_LOG"], "a") as log:
        log.write(" ".join(sys.orig_argv) + chr(10))
'''


@pytest.fixture
def laptop(tmp_path: Path) -> dict[str, str]:
    """The environment of a process from which those calls are hidden; its children inherit it."""
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(HIDE, encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(hidden), "HIDDEN_LOG": str(tmp_path / "started.txt")}


def run(laptop: dict[str, str], folder: Path, *arguments: str) -> dict[str, Any]:
    command = [tool("edgetool"), *arguments, "--json"]
    done = subprocess.run(command, cwd=folder, env=laptop, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_the_calls_are_hidden_from_a_process_and_its_children(laptop: dict[str, str]) -> None:
    """Otherwise the other test would prove nothing."""
    names = ("fork", "killpg", "sysconf", "sched_getaffinity", "memfd_create", "geteuid")
    look = (
        "import os, signal\n"
        f"print([hasattr(os, name) for name in {names!r}], "
        "hasattr(signal, 'SIGKILL'), os.path.exists('/proc/self/statm'))\n"
        "try:\n    import fcntl\nexcept ImportError:\n    print('no fcntl')"
    )
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {look!r}], check=True)"
    for program in (look, nested):
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, env=laptop, capture_output=True, text=True, timeout=60, check=True)
        assert done.stdout.split("\n")[:2] == [f"{[False] * 6} False False", "no fcntl"]


def test_the_host_tool_works_without_what_only_linux_has(tmp_path: Path, laptop: dict[str, str]) -> None:
    """From a model to a bundle, with everything around it."""
    (tmp_path / "m.onnx").write_bytes(autoencoder(values=40, hidden=20).SerializeToString())
    rows = np.random.default_rng(0).standard_normal((300, 40))
    np.savez(tmp_path / "normal.npz", readings=rows)
    assert run(laptop, tmp_path, "inspect", "m.onnx", "--html", "m.html")["parameters"] == 1600
    for precision in ("float16", "int8"):
        quantized = run(laptop, tmp_path, "quantize", "m.onnx", "--data", "normal.npz", "--precision", precision)
        assert quantized["verdict"] in ("stored", "converted")
    compared = run(laptop, tmp_path, "compare", "m.onnx", "m.float16.onnx", "--data", "normal.npz", "--layers")
    assert compared["agree"]
    timed = run(laptop, tmp_path, "bench", "m.onnx", "--batch", "1", "--plot", "m.svg")
    assert [row["memory_bytes"] for row in timed["rows"]] == [None] * len(timed["rows"])
    assert timed["rows"]
    assert run(laptop, tmp_path, "optimize", "m.onnx")["outputs"][0]["drift"] < 1e-3
    packed = run(laptop, tmp_path, "pack", "m.float16.onnx", "--reference", "m.onnx", "--data", "normal.npz")
    assert packed["manifest"]["model"]["precision"] == "float16"
    found = run(laptop, tmp_path, "doctor", "m.onnx")
    assert [finding for finding in found["findings"] if finding["subject"] == "m.onnx on cpu" and finding["good"]]
    started = (tmp_path / "started.txt").read_text(encoding="utf-8")
    assert "edgetool.verify.workbench_child" in started


def test_a_crash_of_the_runtime_is_told_there_too(tmp_path: Path, laptop: dict[str, str]) -> None:
    """The child ends in the middle of an answer, and the command says so."""
    (tmp_path / "m.onnx").write_bytes(autoencoder(values=8, hidden=4).SerializeToString())
    model = onnx.load(tmp_path / "m.onnx")
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, tmp_path / "m.onnx")
    command = [tool("edgetool"), "quantize", "m.onnx"]
    done = subprocess.run(command, cwd=tmp_path, env=laptop, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 65
    assert "the model itself does not run" in done.stderr
