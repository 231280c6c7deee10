"""Packages of the runtime that have overwritten each other are found in their metadata and explained."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fakes import write_bundle

from edge_agent.cli import main
from edge_agent.engine import runtime
from edge_agent.engine.plugins import find_plugins
from edge_agent.engine.runtime import import_runtime, runtime_problem, runtime_reason
from edge_agent.errors import ProviderError


def install(folder: Path, name: str, version: str, files: dict[str, int]) -> None:
    """Metadata of an installed package; `files` are those it lists, with their sizes."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    (info / "RECORD").write_text("".join(f"{file},,{size}\n" for file, size in files.items()))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of packages in place of the real one's."""
    folder = tmp_path / "site"
    folder.mkdir()
    keep = [entry for entry in sys.path if "site-packages" not in entry]
    monkeypatch.setattr(sys, "path", [str(folder), *keep])
    return folder


def test_two_runtimes_are_explained_with_the_repair(site: Path) -> None:
    """The one that can do more stays."""
    install(site, "onnxruntime", "1.31.1", {"onnxruntime/__init__.py": 1})
    install(site, "onnxruntime-openvino", "1.24.1", {"onnxruntime/__init__.py": 2})
    with pytest.raises(ProviderError) as caught:
        import_runtime()
    assert str(caught.value) == (
        "onnxruntime 1.31.1 and onnxruntime-openvino 1.24.1 are both installed and write into one folder, so neither "
        "works; repair it: pip uninstall -y onnxruntime onnxruntime-openvino && "
        "pip install onnxruntime-openvino==1.24.1"
    )
    assert caught.value.exit_code == 69


def test_a_plugin_beside_a_runtime_is_no_conflict(site: Path) -> None:
    """It has a folder of its own."""
    install(site, "onnxruntime", "1.31.1", {"onnxruntime/__init__.py": 1})
    install(site, "onnxruntime-qnn", "2.7.0", {"onnxruntime_qnn/__init__.py": 1})
    install(site, "onnxruntime-ep-openvino", "1.8.1", {"onnxruntime_ep_openvino/__init__.py": 1})
    assert runtime_problem() is None
    assert [(plugin.package, plugin.module) for plugin in find_plugins()] == [
        ("onnxruntime-ep-openvino", "onnxruntime_ep_openvino"),
        ("onnxruntime-qnn", "onnxruntime_qnn"),
    ]


def test_what_a_removed_runtime_left_is_found(site: Path) -> None:
    """Removing one of two takes files of the other with it; the metadata alone look well."""
    install(site, "onnxruntime-openvino", "1.24.1", {"onnxruntime/__init__.py": 2, "onnxruntime/capi/a.so": 9})
    (site / "onnxruntime").mkdir()
    (site / "onnxruntime" / "__init__.py").write_text("12")
    assert runtime_problem() is None
    problem = runtime_problem(thorough=True)
    assert problem is not None
    assert "1 of its files are missing or not its own, such as onnxruntime/capi/a.so" in problem
    assert problem.endswith("pip install --force-reinstall --no-deps onnxruntime-openvino==1.24.1")


def test_this_install_is_whole() -> None:
    """The check does not cry wolf."""
    assert runtime_problem(thorough=True) is None


def test_check_reports_a_conflict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With exit code 69 and the command that repairs it."""
    config = tmp_path / "agent.toml"
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config.write_text(
        f'[agent]\nstate_dir = "{tmp_path}"\n[[stream]]\nname = "s"\nbundle = "{bundle}"\ntopic = "a/+/b"\n'
    )
    both = {"onnxruntime": "1.31.1", "onnxruntime-openvino": "1.24.1"}
    monkeypatch.setattr(runtime, "installed_runtimes", lambda: both)
    assert main(["check", "--config", str(config)]) == 69
    assert "pip uninstall -y onnxruntime onnxruntime-openvino" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[ONNXRuntimeError] : 7 : INVALID_PROTOBUF : Protobuf parsing failed.", "Protobuf parsing failed."),
        (
            (
                "[ONNXRuntimeError] : 1 : FAIL : a.cc:1 ns::Backend::Backend(std::string&)\nException from b.cpp:2:\n"
                "Check 'x' failed\nNo support for   dynamic rank\n\n"
            ),
            "No support for dynamic rank",
        ),
        (
            (
                "[ONNXRuntimeError] : 6 : FAIL : Status Message: /onnxruntime/onnxruntime/core/helper.h:45 "
                "onnxruntime::Helper::Helper(const onnxruntime::Shape&, bool) size was false. It cannot be reshaped"
            ),
            "Status Message: size was false. It cannot be reshaped",
        ),
        ("two\nplain lines", "two plain lines"),
        ("", "ValueError"),
    ],
)
def test_an_error_of_the_runtime_is_told_in_one_line(text: str, reason: str) -> None:
    """What a person needs of it, and none of the C++ around it."""
    assert runtime_reason(ValueError(text)) == reason
