"""Plug-in providers: packages whose library is registered with a stock ONNX Runtime.

Such a package (`onnxruntime-ep-openvino`, for one) has a module with `get_library_path()` and `get_ep_name()`.
"""

from __future__ import annotations

import importlib
from typing import Any

import msgspec

from edge_agent.engine.providers import PROVIDERS, Provider

__all__ = ["PluginPackage", "find_plugins", "offered_devices", "register_plugin"]

_PREFIXES = ("onnxruntime-ep-", "onnxruntime-qnn")


class PluginPackage(msgspec.Struct, frozen=True, kw_only=True):
    """An installed package that contains a provider."""

    package: str
    """Normalised name in the registry, such as "onnxruntime-ep-openvino"."""
    version: str
    module: str
    """Name to import."""


def find_plugins() -> list[PluginPackage]:
    """Find the installed plug-in packages, sorted by name. Reads metadata only and loads no library."""
    from importlib import metadata

    found: dict[str, PluginPackage] = {}
    for distribution in metadata.distributions():
        name = (distribution.name or "").lower().replace("_", "-")
        if not name.startswith(_PREFIXES):
            continue
        module = next(
            (file.parts[0] for file in distribution.files or () if file.name == "__init__.py" and len(file.parts) == 2),
            name.replace("-", "_"),
        )
        # Before 2.0, onnxruntime-qnn was a whole runtime and no plug-in.
        if module != "onnxruntime":
            found[name] = PluginPackage(package=name, version=distribution.version, module=module)
    return [found[name] for name in sorted(found)]


def offered_devices(ort: Any, plugin: PluginPackage) -> list[Provider]:
    """Register a plug-in, and return a provider for each device that the plug-in offers here, if any.

    Must be called in a child process, because the plug-in's library is loaded into the calling process.

    Args:
        ort: ONNX Runtime's module.
        plugin: an installed package.

    Raises:
        Exception: of any class, from the package or its library.
    """
    module = importlib.import_module(plugin.module)
    library = str(module.get_library_path())
    names = [str(name) for name in module.get_ep_names()] if hasattr(module, "get_ep_names") else []
    providers: dict[str, Provider] = {}
    for ort_name in names or [str(module.get_ep_name())]:
        for device in register_plugin(ort, library, ort_name, None):
            provider = _provider(plugin, library, ort_name, _device_name(device))
            providers.setdefault(provider.name, provider)
    return list(providers.values())


def register_plugin(ort: Any, library: str, ort_name: str, device: str | None) -> list[Any]:
    """Load a plug-in's library, once in a process, and list its devices.

    Args:
        ort: ONNX Runtime's module.
        library: path of the library's file.
        ort_name: ONNX Runtime's name of the provider in the library.
        device: `Provider.device`; None lists all devices.

    Returns:
        ONNX Runtime's objects of the devices.

    Raises:
        Exception: of the runtime's own classes, which have no other base: the library does not load.
    """
    if library not in _registered:
        ort.register_execution_provider_library(f"edge-agent-{len(_registered)}", library)
        _registered.add(library)
    return [
        found
        for found in ort.get_ep_devices()
        if found.ep_name == ort_name and (device is None or _device_name(found) == device)
    ]


_registered: set[str] = set()
"""Libraries that this process has loaded; the runtime refuses to load one twice."""


def _device_name(device: Any) -> str:
    # OpenVINO's plug-in gives its own name of a device (GPU.0, GPU.1), which is finer than the runtime's kind (GPU).
    return str(device.ep_metadata.get("ov_device") or device.device.type.name)


def _provider(plugin: PluginPackage, library: str, ort_name: str, device: str) -> Provider:
    kind = plugin.package.removeprefix("onnxruntime-").removeprefix("ep-")
    name = f"{kind}-plugin" if device == "CPU" else f"{kind}-plugin-{device.lower().replace('.', '')}"
    known = next((p for p in PROVIDERS.values() if p.ort_name == ort_name), None)
    return Provider(
        name=name,
        ort_name=ort_name,
        library=library,
        device=device,
        host_only=device == "CPU",
        # No `device_type`: the plug-in gets the device from the session's options and refuses that option.
        threads_option=known.threads_option if known and device == "CPU" else None,
        cache_option=known.cache_option if known else None,
        load_limit_s=120.0,
    )
