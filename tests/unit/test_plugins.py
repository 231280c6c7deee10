"""Plug-in providers: what a package offers becomes candidates, and what it does not offer is told."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from edge_agent.engine import plugins
from edge_agent.engine.choice import discovery
from edge_agent.engine.choice.discovery import Discovery
from edge_agent.engine.plugins import PluginPackage, offered_devices

PLUGIN = PluginPackage(package="onnxruntime-ep-openvino", version="1.8.1", module="a_plugin_package")


class FakeRuntime:
    """A runtime whose plug-in offers the given OpenVINO devices."""

    def __init__(self, *devices: str) -> None:
        self.devices = devices
        self.libraries: list[str] = []

    def register_execution_provider_library(self, _name: str, library: str) -> None:
        if library in self.libraries:
            raise RuntimeError("registered already")
        if library == "/nowhere/broken.so":
            raise RuntimeError("Failed to load library\nsecond line")
        self.libraries.append(library)

    def get_ep_devices(self) -> list[object]:
        processor = SimpleNamespace(ep_name="CPUExecutionProvider", ep_metadata={}, device=None)
        found = [
            SimpleNamespace(
                ep_name="OpenVINOExecutionProvider",
                ep_metadata={"ov_device": device},
                device=SimpleNamespace(type=SimpleNamespace(name=device.partition(".")[0])),
            )
            for device in self.devices
        ]
        return [processor, *found]


@pytest.fixture(autouse=True)
def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    found = ModuleType("a_plugin_package")
    found.get_library_path = lambda: "/nowhere/plugin.so"  # type: ignore[attr-defined]
    found.get_ep_name = lambda: "OpenVINOExecutionProvider"  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "a_plugin_package", found)
    monkeypatch.setattr(plugins, "_registered", set())
    return found


def test_each_device_of_a_plugin_is_a_candidate() -> None:
    """With the name of its kind, and only the processor takes threads."""
    providers = offered_devices(FakeRuntime("CPU", "GPU.0", "GPU.1", "NPU"), PLUGIN)
    assert [(p.name, p.device, p.host_only) for p in providers] == [
        ("openvino-plugin", "CPU", True),
        ("openvino-plugin-gpu0", "GPU.0", False),
        ("openvino-plugin-gpu1", "GPU.1", False),
        ("openvino-plugin-npu", "NPU", False),
    ]
    assert providers[0].options_for(2, "/cache") == {"num_of_threads": "2", "cache_dir": "/cache"}
    assert providers[1].options_for(2) == {}


def test_a_library_is_registered_once() -> None:
    """The runtime refuses to load it twice."""
    runtime = FakeRuntime("CPU")
    assert offered_devices(runtime, PLUGIN) == offered_devices(runtime, PLUGIN)
    assert runtime.libraries == ["/nowhere/plugin.so"]


@pytest.mark.parametrize(
    ("library", "reason"),
    [
        ("/nowhere/plugin.so", "registers and offers no device here"),
        ("/nowhere/broken.so", "does not register: Failed to load library second line"),
    ],
)
def test_a_plugin_without_a_device_is_no_error(module: ModuleType, library: str, reason: str) -> None:
    """As on a machine without Intel hardware."""
    module.get_library_path = lambda: library  # type: ignore[attr-defined]
    found = Discovery(providers=[], absent=[])
    discovery.ask_plugin(FakeRuntime(), PLUGIN, found)
    assert found.providers == []
    assert [(absent.provider, absent.reason) for absent in found.absent] == [("onnxruntime-ep-openvino 1.8.1", reason)]
