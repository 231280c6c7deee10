"""Remembers the evidence on the providers of this device between starts."""

from __future__ import annotations

import hashlib
import logging
import os
import platform
import time
from contextlib import suppress
from importlib import util
from pathlib import Path

import msgspec

from edge_agent.bundle import Bundle
from edge_agent.engine.choice.compiled import Compiled
from edge_agent.engine.choice.evidence import Candidate, Evidence
from edge_agent.engine.choice.mark import Mark, Marks, drop_old_marks
from edge_agent.engine.crash import Run
from edge_agent.engine.plugins import find_plugins
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.runtime import installed_runtimes
from edge_agent.files.checksum import seal, unseal
from edge_agent.files.plain import read_file, write_file
from edge_agent.messages.text import decode

__all__ = ["Memory"]

log = logging.getLogger(__name__)

_FORMAT = "4"
"""Must change when the measurement, or the file's content, changes."""
_UNUSED_S = 90 * 86400.0
"""Evidence that is not read for this long is removed."""
_PROCESSOR_FACTS = ("model name", "microcode", "flags", "Features", "CPU part", "CPU variant", "Hardware", "Model")
_DEVICE_NODES = ("nvidia*", "dri/*", "accel/*", "kfd", "dxg", "mali*", "fastrpc*")


class Memory:
    """The file of one bundle's evidence. The file's name is a hash of all facts that could change the evidence.

    Args:
        bundle: an open bundle.
        state_dir: folder of the file; None remembers nothing.
        question: settings that the evidence depends on, such as the limit of threads.
        run: the process that loads the chosen provider; None for the calling process.
    """

    def __init__(
        self, bundle: Bundle, state_dir: Path | None, question: tuple[str, ...], *, run: Run | None = None
    ) -> None:
        self._file: Path | None = None
        self.key = ""
        """Part of the names of this bundle's files; empty without a state folder."""
        self._compiled: Compiled | None = None
        self._marks = Marks(None, "")
        if state_dir is None:
            return
        model = (bundle.manifest.model.sha256, bundle.manifest.golden.sha256)
        libraries = (library.sha256 for library in bundle.libraries)
        facts = (_FORMAT, *model, *libraries, *question, *_device_facts())
        self.key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]
        self._file = state_dir / f"provider-{self.key}.json"
        self._marks = Marks(state_dir, self.key, run=run)
        self._compiled = Compiled(state_dir, self.key, len(bundle.model))

    def cache_dir(self) -> Path | None:
        """Folder where providers keep this bundle's compiled models; None without a state folder, or room there."""
        return None if self._compiled is None else self._compiled.folder()

    def keep_compiled(self, provider: str) -> None:
        """Remove what was compiled for other providers than this one."""
        if self._compiled is not None:
            self._compiled.keep_only(provider)

    def recall(self) -> Evidence | None:
        """Read the evidence of earlier starts, and add the providers that took the agent down since.

        Returns:
            The evidence, complete or not; None if there is none.
        """
        if self._file is None:
            return None
        evidence = self._read()
        known = evidence or Evidence(candidates=[], absent=[], seconds=0.0, complete=False)
        blamed = self._marks.take_blame(lambda new: self.keep(_with_blame(known, new)))
        return _with_blame(known, blamed) if blamed else evidence

    def keep(self, evidence: Evidence) -> bool:
        """Write evidence in place of the old; a failure is logged, and the next start measures again.

        Returns:
            True if the evidence is written.
        """
        if self._file is None:
            return False
        try:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_file(self._file, seal(msgspec.json.encode(evidence)))
        except OSError as exc:
            log.warning("provider not remembered, the next start measures again file=%s error=%s", self._file, exc)
            return False
        with suppress(OSError):
            _drop_unused(self._file.parent)
        return True

    def forget(self) -> None:
        """Forget the measurements, so that the next start measures again; the blamed providers stay blamed."""
        if self._file is None:
            return
        known = self._read()
        if known is not None and known.blamed:
            self.keep(Evidence(candidates=[], absent=[], seconds=0.0, complete=False, blamed=known.blamed))
        else:
            with suppress(OSError):
                self._file.unlink(missing_ok=True)

    def mark(self, candidate: Candidate) -> Mark:
        """Place the mark of a candidate that is being loaded into the agent itself, which it may take down."""
        return self._marks.place(candidate)

    def _read(self) -> Evidence | None:
        assert self._file is not None
        try:
            evidence = decode(unseal(read_file(self._file)), Evidence)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as exc:
            log.warning("remembered provider not readable, measuring again file=%s error=%s", self._file, exc)
            return None
        # The time marks the file as used. The file may belong to root, if root ran `edge-agent providers`.
        with suppress(OSError):
            os.utime(self._file)
        return evidence


def _with_blame(evidence: Evidence, new: dict[str, str]) -> Evidence:
    """Add blamed providers to evidence, the new ones last, also those that were blamed before."""
    before = {name: deed for name, deed in evidence.blamed.items() if name not in new}
    return msgspec.structs.replace(evidence, blamed={**before, **new})


def _drop_unused(state_dir: Path) -> None:
    """Remove evidence and marks that are not used for 90 days, and half-written files."""
    oldest_s = time.time() - _UNUSED_S
    for file in (*state_dir.glob("provider-*.json"), *state_dir.glob(".*.tmp")):
        with suppress(FileNotFoundError):  # another process has removed the file
            if file.stat().st_mtime < oldest_s:
                file.unlink(missing_ok=True)
    drop_old_marks(state_dir, oldest_s)


def _device_facts() -> list[str]:
    """The facts that the evidence depends on: our options, the runtime, plug-ins, accelerators and the processor."""
    plugins = [f"{plugin.package} {plugin.version}" for plugin in find_plugins()]
    devices = sorted(str(node) for pattern in _DEVICE_NODES for node in Path("/dev").glob(pattern))
    known = hashlib.sha256(msgspec.json.encode(PROVIDERS)).hexdigest()
    return [known, repr(installed_runtimes()), repr(_libraries()), repr(plugins), repr(devices), _processor()]


def _libraries() -> list[tuple[str, int, int]]:
    spec = util.find_spec("onnxruntime")
    if spec is None or spec.origin is None:
        return []
    files = sorted(Path(spec.origin).parent.glob("capi/*.so*"))
    return [(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in files]


def _processor() -> str:
    cores = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return f"{platform.processor()} {platform.machine()} {cores}"
    facts = sorted({line for line in lines if line.startswith(_PROCESSOR_FACTS)})
    return "\n".join([platform.machine(), cores, *facts])
