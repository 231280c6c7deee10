"""Finds the providers of this device, in a child process, because a driver or a plug-in may hang or crash.

`python -m edge_agent.engine.choice.discovery PARENT`, with the parent's process id, prints one `Discovery` as JSON.
"""

from __future__ import annotations

import logging
import os
import time
from typing import Any

import msgspec

from edge_agent.child_process import LOOK_S, ChildEndedError, ChildProcess, Look, child_side, never_stop
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

__all__ = ["Absent", "Discovery", "ask_plugin", "discover"]

log = logging.getLogger(__name__)

_TIMEOUT_S = 60.0
"""Longest time that the child process may take."""


class Absent(msgspec.Struct, frozen=True, kw_only=True):
    """A provider or plug-in that cannot be used on this device, which is not an error."""

    provider: str
    """Our name of the provider, or the plug-in's package and version."""
    reason: str


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """The providers that can be tried on this device."""

    providers: list[Provider]
    """In the order of preference at equal speed and memory."""
    absent: list[Absent]
    complete: bool = True
    """False if the search for devices failed, so that there may be more providers."""


def discover(look: Look = never_stop) -> Discovery:
    """Find the providers of this device.

    If the child process fails or takes longer than 60 s, only the safest provider is returned, and a warning is logged.

    Args:
        look: called while the child is waited for.

    Raises:
        MissingExtraError: no runtime is installed.
        ProviderError: the installed runtime is damaged, or two runtimes have overwritten each other.
        Stopped: the agent is to stop.
    """
    import_runtime()
    try:
        return msgspec.json.decode(_ask_child(look), type=Discovery)
    # OSError: no process can be started, or it gave no answer in time.
    except (ChildEndedError, OSError, ValueError) as exc:
        log.warning("providers not found out, only the processor is tried error=%s", exc)
        reason = f"asking for the devices failed: {exc}"
        others = [Absent(provider=name, reason=reason) for name in PROVIDERS if name != SAFEST]
        return Discovery(providers=[PROVIDERS[SAFEST]], absent=others, complete=False)


def _ask_child(look: Look) -> bytes:
    end_mono_s = time.monotonic() + _TIMEOUT_S
    with ChildProcess("edge_agent.engine.choice.discovery") as child:
        while True:
            look()
            answer = child.answer(LOOK_S)
            if answer is not None:
                return answer
            if time.monotonic() >= end_mono_s:
                raise TimeoutError(f"no answer in {_TIMEOUT_S:g} s")


def _find() -> Discovery:
    """Ask the runtime, OpenVINO and every plug-in. Runs in the child process."""
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
    """Add a plug-in's providers to a discovery, or the reason why there are none.

    Loads the plug-in's library into this process.
    """
    name = f"{plugin.package} {plugin.version}"
    try:
        offered = offered_devices(ort, plugin)
    # A plug-in is foreign code and may raise anything, which must not hide the other providers.
    except Exception as exc:  # noqa: BLE001
        reason = f"does not register: {runtime_reason(exc)}"
        discovery.absent.append(Absent(provider=name, reason=reason))
        return
    discovery.providers.extend(offered)
    if not offered:
        discovery.absent.append(Absent(provider=name, reason="registers and offers no device here"))


def _main() -> None:
    _, answers = child_side()
    answers.write(msgspec.json.encode(_find()) + b"\n")
    # `_exit` skips the unloading of libraries, during which some drivers crash.
    os._exit(0)


if __name__ == "__main__":
    _main()
