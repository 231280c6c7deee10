"""What this device has. Looked up in a child process, because a driver or a plug-in may hang or crash on being asked.

`python -m edge_agent.engine.choice.discovery PARENT` prints one `Discovery` as JSON.
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
        return msgspec.json.decode(_ask_child(look), type=Discovery)
    except (ChildEndedError, TimeoutError, ValueError) as exc:
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
    _, answers = child_side()
    answers.write(msgspec.json.encode(_find()) + b"\n")
    # Some drivers crash while they are unloaded, after all is said.
    os._exit(0)


if __name__ == "__main__":
    _main()
