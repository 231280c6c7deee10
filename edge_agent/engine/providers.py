"""The known execution providers, with options that suit a small device."""

from __future__ import annotations

import json

import msgspec

from edge_agent.engine.runtime import PREPARED_KEPT, import_runtime, installed_runtimes

__all__ = [
    "PROVIDERS",
    "SAFEST",
    "Provider",
    "available_providers",
    "import_runtime",
    "installed_runtimes",
    "openvino_devices",
]

_GPU_MEMORY_BYTES = str(512 << 20)
"""A detector is small, but without a limit a CUDA or ROCm provider takes all the memory of the device."""


class Provider(msgspec.Struct, frozen=True, kw_only=True):
    """An execution provider with its options: one way to run a model."""

    name: str
    """Our name of the provider, as in `agent.toml`."""
    ort_name: str
    """ONNX Runtime's name of the provider."""
    options: dict[str, str] = {}
    """Provider options that are always set."""
    properties: dict[str, str] = {}
    """OpenVINO's own properties of its device. They are no promise of OpenVINO's, so a runtime that does not know them
    goes without."""
    threads_option: str | None = None
    """The option that takes the number of threads; None if the session's own setting counts."""
    cache_option: str | None = None
    """The option that takes a folder for compiled models; None if the provider has none."""
    cache_switch: str | None = None
    """The option that must be "1" for the cache to be used; None if the provider has none."""
    openvino_device: str | None = None
    """The provider is offered only where OpenVINO lists this device; None if the provider needs no such device."""
    host_only: bool = False
    """True if the provider computes on the processor in ordinary memory, so that a process's memory limit holds."""
    writes_into_inputs: bool = False
    """True if a run may write into the input array of the run before, so that it gets a copy which lives until then."""
    mem_pattern: bool = True
    """The session's option `enable_mem_pattern`."""
    load_limit_s: float = 60.0
    """A provider that takes longer for a step (to load, or for one batch of golden scores) counts as hung. Some compile
    for minutes at the first load."""
    library: str | None = None
    """File of a plug-in's library, which is to be registered; None for a provider of the runtime itself."""
    device: str | None = None
    """A plug-in's device, as the plug-in names it; None for a provider of the runtime itself."""
    engine: str = "edge_agent.engine.session:OrtEngine"
    """The class that opens the provider, as `module:attribute`."""

    def options_for(
        self, threads: int, cache_dir: str | None = None, *, with_properties: bool = True
    ) -> dict[str, str]:
        """The provider's options for a session.

        Args:
            threads: threads of one inference.
            cache_dir: an existing folder for compiled models; None compiles at every load.
            with_properties: False leaves `properties` out.
        """
        options = dict(self.options)
        if self.properties and with_properties:
            options["load_config"] = json.dumps({self.openvino_device: self.properties})
        if self.threads_option:
            options[self.threads_option] = str(threads)
        if self.cache_option and cache_dir:
            options[self.cache_option] = cache_dir
            if self.cache_switch:
                options[self.cache_switch] = "1"
        return options


_ARENA = {"arena_extend_strategy": "kSameAsRequested", "gpu_mem_limit": _GPU_MEMORY_BYTES}

# AzureExecutionProvider is missing on purpose: it calls a service on the internet.
_KNOWN = (
    Provider(name="cpu", ort_name="CPUExecutionProvider", host_only=True),
    Provider(
        name="openvino",
        ort_name="OpenVINOExecutionProvider",
        writes_into_inputs=True,  # 1.24.1, findings/openvino_writes_into_earlier_inputs.sh
        options={"device_type": "CPU", "num_streams": "1"},
        # Of the 5,000 that it would keep, each size of a batch takes several.
        properties={"CPU_RUNTIME_CACHE_CAPACITY": PREPARED_KEPT},
        threads_option="num_of_threads",
        cache_option="cache_dir",
        openvino_device="CPU",
        host_only=True,
    ),
    Provider(
        name="openvino-gpu",
        ort_name="OpenVINOExecutionProvider",
        writes_into_inputs=True,  # 1.24.1, findings/openvino_writes_into_earlier_inputs.sh
        options={"device_type": "GPU", "num_streams": "1"},
        cache_option="cache_dir",
        openvino_device="GPU",
        load_limit_s=120.0,
    ),
    Provider(
        name="openvino-npu",
        ort_name="OpenVINOExecutionProvider",
        writes_into_inputs=True,  # 1.24.1, findings/openvino_writes_into_earlier_inputs.sh
        options={"device_type": "NPU", "num_streams": "1"},
        cache_option="cache_dir",
        openvino_device="NPU",
        load_limit_s=120.0,
    ),
    Provider(
        name="cuda",
        ort_name="CUDAExecutionProvider",
        # The exhaustive search for convolutions takes seconds and gigabytes at the first inference of every shape.
        options={**_ARENA, "cudnn_conv_algo_search": "HEURISTIC"},
    ),
    Provider(
        name="tensorrt",
        ort_name="TensorrtExecutionProvider",
        options={"trt_max_workspace_size": _GPU_MEMORY_BYTES},
        cache_option="trt_engine_cache_path",
        cache_switch="trt_engine_cache_enable",
        load_limit_s=120.0,
    ),
    # DirectML refuses sessions with memory patterns.
    Provider(name="directml", ort_name="DmlExecutionProvider", mem_pattern=False),
    Provider(name="rocm", ort_name="ROCMExecutionProvider", options=dict(_ARENA)),
    Provider(name="migraphx", ort_name="MIGraphXExecutionProvider", load_limit_s=120.0),
    Provider(
        name="coreml",
        ort_name="CoreMLExecutionProvider",
        options={"ModelFormat": "MLProgram"},
        cache_option="ModelCacheDirectory",
        load_limit_s=120.0,
    ),
    Provider(
        name="qnn",
        ort_name="QNNExecutionProvider",
        options={"backend_type": "htp", "enable_htp_fp16_precision": "1"},
        load_limit_s=120.0,
    ),
    Provider(
        name="xnnpack", ort_name="XnnpackExecutionProvider", threads_option="intra_op_num_threads", host_only=True
    ),
    Provider(name="acl", ort_name="ACLExecutionProvider", host_only=True),
)
PROVIDERS: dict[str, Provider] = {provider.name: provider for provider in _KNOWN}
"""The providers by our name. At equal speed and memory, an earlier provider is preferred: fewer moving parts first."""

SAFEST = "cpu"
"""ONNX Runtime's own provider for the processor: in every runtime, without a driver that could hang, and loads fast."""


def openvino_devices() -> list[str]:
    """The devices that OpenVINO finds, such as `CPU` and `GPU.0`; empty if the runtime has no OpenVINO.

    Loads OpenVINO and its drivers' libraries into this process.

    Raises:
        MissingExtraError: no runtime is installed.
        ProviderError: the installed runtime is damaged, or two runtimes have overwritten each other.
    """
    import_runtime()
    from onnxruntime.capi import _pybind_state

    list_devices = getattr(_pybind_state, "get_available_openvino_device_ids", None)
    return [str(device) for device in list_devices()] if list_devices else []


def available_providers() -> list[Provider]:
    """The known providers that are compiled into the installed runtime and whose device is here; they may not work.

    Raises:
        MissingExtraError: no runtime is installed.
        ProviderError: the installed runtime is damaged, or two runtimes have overwritten each other.
    """
    compiled = set(import_runtime().get_available_providers())
    devices = {device.partition(".")[0] for device in openvino_devices()}
    return [
        provider
        for provider in PROVIDERS.values()
        if provider.ort_name in compiled and (provider.openvino_device is None or provider.openvino_device in devices)
    ]
