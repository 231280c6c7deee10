"""What this device has. Looked up in a child process, because a driver or a plug-in may hang or crash on being asked.

`python -m edge_agent.engine.choice.discovery PARENT` prints one `Discovery` as JSON.
"""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from typing import Any

import msgspec

from edge_agent.child_process import LOOK_S, Look, end_child, end_with_parent, never_stop, start_child, wait_child
from edge_agent.engine.plugins import PluginPackage, find_plugins, offered_devices
from edge_agent.engine.providers import (
    PROVIDERS,
    SAFEST,
    Provider,
    import_runtime,
    installed_runtimes,
    openvino_devices,
)
from edge_agent.engine.runtime import runtime_reason
from edge_agent.waiting import Waiter

__all__ = ["Absent", "Discovery", "ask_plugin", "discover"]

log = logging.getLogger(__name__)

_TIMEOUT_S = 60.0


class Absent(msgspec.Struct, frozen=True, kw_only=True):
    """A provider or plug-in that offers nothing here. Not an error."""

    provider: str
    reason: str


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """What can be tried on this device."""

    providers: list[Provider]
    """In order of preference among equals."""
    absent: list[Absent]
    complete: bool = True
    """Otherwise the look for devices failed, and there may be more."""


def discover(look: Look = never_stop) -> Discovery:
    """Find the providers of this device.

    Args:
        look: called while the child is waited for.

    Raises:
        MissingExtraError: there is no runtime.
        ProviderError: two runtimes have overwritten each other.
        Stopped: the agent is to stop.
    """
    import_runtime()
    try:
        # The drivers' libraries may print; our answer is the last line.
        return msgspec.json.decode(_ask_child(look).strip().rsplit(b"\n", 1)[-1], type=Discovery)
    except (subprocess.SubprocessError, ValueError) as exc:
        log.warning("providers not found out, only the processor is tried error=%s", exc)
        reason = f"asking for the devices failed: {exc}"
        others = [Absent(provider=name, reason=reason) for name in PROVIDERS if name != SAFEST]
        return Discovery(providers=[PROVIDERS[SAFEST]], absent=others, complete=False)


def _ask_child(look: Look) -> bytes:
    process = start_child("edge_agent.engine.choice.discovery", errors=subprocess.DEVNULL)
    try:
        assert process.stdout is not None
        answers, waiter, answer = process.stdout.fileno(), Waiter(), b""
        end_mono_s = time.monotonic() + _TIMEOUT_S
        while True:
            look()
            if waiter.wait([answers], [], LOOK_S):
                part = os.read(answers, 65536)
                if not part:
                    break
                answer += part
            elif time.monotonic() >= end_mono_s:
                raise subprocess.TimeoutExpired(process.args, _TIMEOUT_S)
        code = wait_child(process)
        if code:
            raise subprocess.CalledProcessError(code, process.args)
        return answer
    finally:
        end_child(process)


def _find() -> Discovery:
    """The child's side: asks the runtime, OpenVINO and every plug-in."""
    ort = import_runtime()
    compiled = set(ort.get_available_providers())
    devices = openvino_devices()
    kinds = {device.partition(".")[0] for device in devices}
    runtime = " ".join(f"{name} {version}" for name, version in installed_runtimes().items())
    found: list[Provider] = []
    absent: list[Absent] = []
    for provider in PROVIDERS.values():
        if provider.ort_name not in compiled:
            absent.append(Absent(provider=provider.name, reason=f"not in {runtime}"))
        elif provider.openvino_device not in (None, *kinds):
            listed = ", ".join(devices) or "none"
            reason = f"OpenVINO finds no device {provider.openvino_device} here (it finds: {listed})"
            absent.append(Absent(provider=provider.name, reason=reason))
        else:
            found.append(provider)
    discovery = Discovery(providers=found, absent=absent)
    for plugin in find_plugins():
        ask_plugin(ort, plugin, discovery)
    return discovery


def ask_plugin(ort: Any, plugin: PluginPackage, discovery: Discovery) -> None:
    """Add what a plug-in offers to a discovery, or why it offers nothing. Loads its library into this process."""
    name = f"{plugin.package} {plugin.version}"
    try:
        offered = offered_devices(ort, plugin)
    # A plug-in is foreign code and may raise anything; the others are still there.
    except Exception as exc:  # noqa: BLE001
        reason = f"does not register: {runtime_reason(exc)}"
        discovery.absent.append(Absent(provider=name, reason=reason))
        return
    discovery.providers.extend(offered)
    if not offered:
        discovery.absent.append(Absent(provider=name, reason="registers and offers no device here"))


def _main() -> None:
    end_with_parent(int(sys.argv[1]))
    # Whatever the libraries print goes to stderr; stdout is ours.
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    answer.write(b"\n" + msgspec.json.encode(_find()) + b"\n")
    answer.flush()
    # Some drivers crash while they are unloaded, after all is said.
    os._exit(0)


if __name__ == "__main__":
    _main()
