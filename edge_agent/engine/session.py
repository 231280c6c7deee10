"""Scores batches of windows with ONNX Runtime."""

from __future__ import annotations

import importlib
import logging
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edge_agent.engine.plugins import register_plugin
from edge_agent.engine.providers import Provider, import_runtime
from edge_agent.engine.runtime import make_session, runtime_reason
from edge_agent.errors import BundleError, EdgeError, EngineError
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Engine, Scores

if TYPE_CHECKING:
    from edge_agent.files.shared_library import Library

__all__ = ["OrtEngine", "open_engine", "open_session", "session_options"]

log = logging.getLogger(__name__)

_FLOATS = "tensor(float)"


def open_engine(
    model: bytes,
    provider: Provider,
    *,
    threads: int = 1,
    cache_dir: Path | None = None,
    libraries: Sequence[Library] = (),
) -> Engine:
    """Load a model with the class that `Provider.engine` names.

    Args:
        model: the ONNX file's bytes.
        provider: the provider that runs the model.
        threads: threads of one inference.
        cache_dir: folder for compiled models; None compiles anew.
        libraries: with operators of the model, that may be loaded.

    Raises:
        BundleError: the model is not canonical.
        ConfigError: a library is not the one that it has to be.
        EngineError: the provider cannot load the model.
        MissingExtraError: no runtime is installed.
        ProviderError: the installed runtime is damaged, or two runtimes have overwritten each other.
    """
    module, _, attribute = provider.engine.partition(":")
    engine: Engine = getattr(importlib.import_module(module), attribute)(
        model, provider, threads=threads, cache_dir=cache_dir, libraries=libraries
    )
    return engine


class OrtEngine:
    """A canonical model in one ONNX Runtime session.

    Args:
        model: the ONNX file's bytes.
        provider: the provider that runs the model.
        threads: threads of one inference.
        cache_dir: folder for compiled models, made if need be, in which the provider has one of its name; None, or one
            that cannot be written, compiles anew.
        libraries: with operators of the model, that may be loaded.

    Raises:
        BundleError: the model is not canonical (input `readings`, output `score` and maybe `contributions`; with state,
            `state` and `next_state` beside them).
        ConfigError: a library is not the one that it has to be.
        EngineError: the provider cannot load the model, or the runtime silently replaced it with another provider.
        MissingExtraError: no runtime is installed.
        ProviderError: the installed runtime is damaged, or two runtimes have overwritten each other.
    """

    def __init__(
        self,
        model: bytes,
        provider: Provider,
        *,
        threads: int = 1,
        cache_dir: Path | None = None,
        libraries: Sequence[Library] = (),
    ) -> None:
        self.provider = provider
        ort = import_runtime()
        try:
            options = session_options(ort, provider, threads, libraries)
            self._session = open_session(
                ort, model, provider, options, threads=threads, cache_dir=_usable(cache_dir, provider)
            )
        except EdgeError:
            raise
        # The runtime's errors are classes of its C++ module; their only common base is Exception.
        except Exception as exc:
            raise EngineError(f"provider {provider.name}: cannot load the model: {runtime_reason(exc)}") from exc
        # The runtime drops a provider whose library is missing, and only logs a line.
        if provider.ort_name not in self._session.get_providers():
            raise EngineError(f"provider {provider.name}: the runtime fell back to {self._session.get_providers()}")
        self._outputs = _canonical_outputs(self._session)
        self._has_contributions = "contributions" in self._outputs
        self._state_size = _state_size(self._session)
        self._given: dict[str, FloatArray] = {}
        """The batch of the last run, for a provider that may write into it during the next one."""

    def score(self, windows: FloatArray, state: FloatArray | None = None) -> Scores:
        """Score a batch, as `Engine.score`.

        Raises:
            EngineError: the runtime failed, or answered in another shape.
        """
        given = {"readings": windows}
        if self._state_size:
            given["state"] = np.zeros((len(windows), self._state_size), np.float32) if state is None else state
        if self.provider.writes_into_inputs:
            given = {name: array.copy() for name, array in given.items()}
        try:
            answers = self._session.run(self._outputs, given)
        except Exception as exc:
            raise EngineError(f"provider {self.provider.name}: {runtime_reason(exc)}") from exc
        if self.provider.writes_into_inputs:
            self._given = given  # only now is the one before freed
        score = answers[0]
        contributions = answers[1] if self._has_contributions else None
        self._check("score", score, (len(windows),))
        if not self._state_size:
            return Scores(score=score, contributions=contributions, provider=self.provider.name)
        self._check("next_state", answers[-1], (len(windows), self._state_size))
        return Scores(score=score, contributions=contributions, provider=self.provider.name, state=answers[-1])

    def _check(self, name: str, answer: FloatArray, shape: tuple[int, ...]) -> None:
        if answer.shape != shape:
            raise EngineError(f"provider {self.provider.name}: {name} has shape {answer.shape}, expected {shape}")

    def placement(self) -> dict[str, int] | None:
        """Number of the model's nodes by ONNX Runtime's name of their provider; None if the runtime does not report it.

        The runtime reports the placement since 1.24.
        """
        tell = getattr(self._session, "get_provider_graph_assignment_info", None)
        if tell is None:
            return None
        nodes: Counter[str] = Counter()
        for part in tell():
            nodes[part.ep_name] += len(part.get_nodes())
        return dict(nodes)


def session_options(ort: Any, provider: Provider, threads: int, libraries: Sequence[Library] = ()) -> Any:
    """The options of every session that we open, on the device and on the host.

    Args:
        ort: from `import_runtime`.
        provider: the provider that runs the model.
        threads: threads of one inference.
        libraries: with operators of the model, that may be loaded; they are loaded here, and nowhere else.

    Returns:
        ONNX Runtime's `SessionOptions`.

    Raises:
        ConfigError: a library is not the one that it has to be.
        EngineError: one does not load.
    """
    options = ort.SessionOptions()
    # XNNPACK has threads of its own, and two pools would fight for the cores.
    options.intra_op_num_threads = 1 if provider.threads_option == "intra_op_num_threads" else threads
    options.inter_op_num_threads = 1
    options.enable_mem_pattern = provider.mem_pattern
    # Threads that spin while they wait burn a core of a small device for nothing (docs/benchmarks.md).
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    # 4: fatal only. A failure reaches us as an exception or as a missing provider, and we report it.
    options.log_severity_level = 4
    if libraries:
        # Few models need one, and to import what guards them takes as long as to open a small model.
        from edge_agent.engine.custom_ops import register

        register(options, libraries)
    return options


def open_session(
    ort: Any, model: bytes | str, provider: Provider, options: Any, *, threads: int, cache_dir: str | None = None
) -> Any:
    """Open a session with all of a provider's options, but for the `properties` that the runtime does not know.

    Every session whose memory or time counts is opened here, on the device and on the host.

    Args:
        ort: from `import_runtime`.
        model: the ONNX file's bytes, or its path.
        provider: the provider that runs the model.
        options: from `session_options`.
        threads: threads of one inference.
        cache_dir: an existing folder for compiled models; None compiles anew.

    Returns:
        An `InferenceSession`.

    Raises:
        Exception: of the runtime's own classes, which have no other base: the provider or the model does not load.
    """
    settings = provider.options_for(threads, cache_dir)
    try:
        return _open(ort, model, provider, options, settings)
    except Exception as exc:
        reason = str(exc)
        unknown = [name for name in provider.properties if name in reason]
        if not unknown:
            raise
        log.warning("runtime does not know a property, it may take more memory name=%s error=%s", unknown[0], exc)
    return _open(ort, model, provider, options, provider.options_for(threads, cache_dir, with_properties=False))


def _open(ort: Any, model: bytes | str, provider: Provider, options: Any, settings: dict[str, str]) -> Any:
    if provider.library is None:
        return make_session(ort, model, options, [(provider.ort_name, settings)])
    devices = register_plugin(ort, provider.library, provider.ort_name, provider.device)
    if not devices:
        raise EngineError(f"the plug-in offers no device {provider.device}")
    options.add_provider_for_devices(devices[:1], settings)
    return make_session(ort, model, options)


def _usable(cache_dir: Path | None, provider: Provider) -> str | None:
    """The provider's folder as text, None if it cannot be made or written: without a cache, scoring still works."""
    if cache_dir is None or provider.cache_option is None:
        return None
    cache_dir /= provider.name
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return str(cache_dir) if os.access(cache_dir, os.R_OK | os.W_OK | os.X_OK) else None


def _canonical_outputs(session: Any) -> list[str]:
    try:
        inputs = [(given.name, given.type) for given in session.get_inputs()]
        names = [output.name for output in session.get_outputs()]
    except UnicodeDecodeError as exc:  # the runtime loads such a model
        raise BundleError(
            "the model's inputs or outputs have names that are not UTF-8; pack it: edgetool pack"
        ) from exc
    if inputs not in ([("readings", _FLOATS)], [("readings", _FLOATS), ("state", _FLOATS)]):
        raise BundleError(
            f"the model's inputs are {inputs}, expected float32 'readings', and maybe 'state'; pack it: edgetool pack"
        )
    needed = ["score", *(["next_state"] if len(inputs) > 1 else [])]
    for name in needed:
        if name not in names:
            raise BundleError(f"the model's outputs are {names}, expected {name!r}; pack it: edgetool pack")
    return [name for name in ("score", "contributions", *needed[1:]) if name in names]


def _state_size(session: Any) -> int:
    """Values that a model is given back of its last answer; 0 without state."""
    for given in session.get_inputs():
        if given.name == "state":
            if len(given.shape) != 2 or not isinstance(given.shape[1], int):
                raise BundleError(f"the model's state has shape {given.shape}, expected (batch, size)")
            return int(given.shape[1])
    return 0
