"""Which runtime there is for which platform, as the registry has them."""

from __future__ import annotations

import builtins
import subprocess
import sys
from typing import Any

import pytest

from edge_agent.engine import runtime, wheels
from edge_agent.engine.wheels import Platform, Support, runtimes_for, this_platform
from edge_agent.errors import ProviderError


@pytest.mark.parametrize(
    ("where", "extras", "reason"),
    [
        (
            Platform("Linux", "x86_64", (3, 13)),
            ("openvino", "cpu"),
            "Linux x86_64, Python 3.13: onnxruntime-openvino (extra openvino) or onnxruntime (extra cpu)",
        ),
        (
            Platform("Linux", "x86_64", (3, 14)),
            ("cpu",),
            (
                "Linux x86_64, Python 3.14: onnxruntime (extra cpu); "
                "no onnxruntime-openvino: its wheels are for Python 3.11 to 3.13"
            ),
        ),
        (
            Platform("Linux", "aarch64", (3, 11)),
            ("cpu",),
            "Linux aarch64, Python 3.11: onnxruntime (extra cpu); no onnxruntime-openvino for this kind of machine",
        ),
        (
            Platform("Linux", "x86_64", (3, 15)),
            (),
            (
                "Linux x86_64, Python 3.15: no onnxruntime-openvino: its wheels are for Python 3.11 to 3.13; "
                "no onnxruntime: its wheels are for Python 3.11 to 3.14"
            ),
        ),
        (
            Platform("Linux", "x86_64", (3, 12), is_musl=True),
            (),
            (
                "Linux x86_64, musl, Python 3.12: onnxruntime has no wheels for musl; "
                "use a distribution with glibc, or its image"
            ),
        ),
        (
            Platform("Linux", "armv7l", (3, 11), is_64_bit=False),
            (),
            (
                "Linux armv7l, 32-bit, Python 3.11: onnxruntime, numpy and msgspec have no wheels for 32-bit systems; "
                "install a 64-bit one"
            ),
        ),
        (
            Platform("Darwin", "x86_64", (3, 14)),
            (),
            (
                "Darwin x86_64, Python 3.14: no onnxruntime-openvino for this kind of machine; "
                "no onnxruntime: its wheels are for Python 3.11 to 3.13"
            ),
        ),
    ],
)
def test_what_there_is_for_a_platform(where: Platform, extras: tuple[str, ...], reason: str) -> None:
    """In order of preference, with the reason for what there is not."""
    assert runtimes_for(where) == Support(extras, reason)


def test_the_makefile_is_told_the_same() -> None:
    """As a script, on a Python that has nothing installed."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(wheels.__file__)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == runtimes_for(this_platform()).extras[0]


def test_where_there_is_no_runtime_nobody_is_sent_to_install_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """pip would only say that there is no such version."""
    real = builtins.__import__

    def absent(name: str, *rest: Any) -> Any:
        if name == "onnxruntime":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", absent)
    monkeypatch.setattr(runtime, "runtime_problem", lambda **_: None)
    monkeypatch.setattr(wheels, "this_platform", lambda: Platform("Linux", "x86_64", (3, 12), is_musl=True))
    with pytest.raises(ProviderError, match="no runtime can be installed here: Linux x86_64, musl"):
        runtime.import_runtime()
