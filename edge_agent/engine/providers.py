"""The execution providers we know, and which of them the installed runtime has."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib import metadata
from typing import Any

from edge_agent.errors import MissingExtraError, ProviderError

__all__ = ["PROVIDERS", "Provider", "available_providers", "import_runtime", "installed_runtimes"]


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider of ONNX Runtime, with options that suit a small device."""

    name: str
    """Our name, as in `agent.toml`."""
    ort_name: str
    options: dict[str, str] = field(default_factory=dict)
    threads_option: str | None = None
    """The option that takes the number of threads; None where the session's own setting counts."""

    def options_for(self, threads: int) -> dict[str, str]:
        """The provider's options for this many threads."""
        extra = {self.threads_option: str(threads)} if self.threads_option else {}
        return {**self.options, **extra}


# AzureExecutionProvider is missing on purpose: it calls a service on the internet.
_KNOWN = (
    Provider("cpu", "CPUExecutionProvider"),
    Provider("openvino", "OpenVINOExecutionProvider", {"device_type": "CPU"}, threads_option="num_of_threads"),
    Provider("cuda", "CUDAExecutionProvider"),
    Provider("tensorrt", "TensorrtExecutionProvider"),
    Provider("directml", "DmlExecutionProvider"),
    Provider("rocm", "ROCMExecutionProvider"),
    Provider("migraphx", "MIGraphXExecutionProvider"),
    Provider("coreml", "CoreMLExecutionProvider"),
    Provider("qnn", "QNNExecutionProvider"),
    Provider("xnnpack", "XnnpackExecutionProvider", threads_option="intra_op_num_threads"),
    Provider("acl", "ACLExecutionProvider"),
)
PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in _KNOWN}
"""By our name. On equal speed an earlier one is preferred: fewer moving parts first."""

_RUNTIME_PACKAGES = ("onnxruntime", "onnxruntime-openvino", "onnxruntime-gpu", "onnxruntime-directml")


def installed_runtimes() -> dict[str, str]:
    """Installed packages that bring `import onnxruntime`, with their versions. More than one break each other."""
    found: dict[str, str] = {}
    for package in _RUNTIME_PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def import_runtime() -> Any:
    """ONNX Runtime's module.

    Raises:
        MissingExtraError: no package that brings it is installed.
        ProviderError: two packages that bring it are installed and have overwritten parts of each other.
    """
    runtimes = installed_runtimes()
    if len(runtimes) > 1:
        names = " and ".join(f"{name} {version}" for name, version in runtimes.items())
        raise ProviderError(
            f"{names} are both installed and write into one folder, so neither works; repair it: "
            f"pip uninstall -y {' '.join(runtimes)} && pip install 'edge-agent[openvino]' (or [cpu])"
        )
    try:
        import onnxruntime
    except ImportError as exc:
        raise MissingExtraError("onnxruntime", "cpu") from exc
    return onnxruntime


def available_providers() -> list[Provider]:
    """The known providers compiled into the installed runtime, in our order. Present does not mean working.

    Raises:
        MissingExtraError: there is no runtime.
        ProviderError: two runtimes have overwritten each other.
    """
    compiled = set(import_runtime().get_available_providers())
    return [provider for provider in PROVIDERS.values() if provider.ort_name in compiled]
