"""`edgetool version`."""

from __future__ import annotations

import sys

from edge_agent import __version__
from edge_agent.terminal import say
from edgetool._cli.app import JsonOption, app, print_json

__all__ = ["version"]


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the versions of edgetool and of what it works with."""
    from importlib import metadata

    found = {"edgetool": __version__, "python": sys.version.split()[0]}
    for package in ("onnx", "onnxruntime", "onnxruntime-openvino", "onnxconverter-common", "numpy"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if as_json:
        print_json(found)
        return
    for name, number in found.items():
        say(f"{name} {number}")
