"""Whether a bundle that came may be switched to: looked at on a thread of its own, as a start would."""

from __future__ import annotations

import http.client
import logging
import os
import threading
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

import msgspec

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import Look, Stopped
from edge_agent.config.decoders import make_decoder
from edge_agent.config.settings import Config, StreamSection
from edge_agent.engine.choice.choose import Choice
from edge_agent.engine.custom_ops import allow_configured
from edge_agent.engine.upkeep import choose_for_stream
from edge_agent.errors import BundleError, EdgeError
from edge_agent.files.checksum import file_hash
from edge_agent.files.plain import create_file
from edge_agent.trust import Keys
from edge_agent.update.wishes import BundlePart

__all__ = ["Beside", "Proven", "WrongFileError", "download", "problem_with_file", "prove_bundle", "prove_settings"]

log = logging.getLogger(__name__)

T = TypeVar("T")

_URL_TIMEOUT_S = 30.0
_PIECE_BYTES = 1 << 20


class WrongFileError(BundleError):
    """What came is not what was wished for."""


class Proven(msgspec.Struct, frozen=True):
    """A bundle that may be switched to."""

    bundle: Bundle
    choice: Choice


class Beside(Generic[T]):
    """Work on a thread, one at a time, whose result is taken by the loop.

    Args:
        work: is given a `Look`, and is called on the thread; raises EdgeError or OSError where it fails.
        name: of the thread.
        wake: wakes the loop; called on the thread.
    """

    def __init__(self, work: Callable[[Look], T], name: str, wake: Callable[[], None]) -> None:
        self._work = work
        self._wake = wake
        self._stopping = False
        self._result: T | None = None
        self._problem: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=f"edge-agent.{name}", daemon=True)
        self._thread.start()

    @property
    def is_done(self) -> bool:
        """Whether there is a result."""
        return not self._thread.is_alive()

    def result(self) -> T:
        """What came of it.

        Raises:
            EdgeError: it failed for good.
            OSError: it may succeed later.
        """
        if self._problem is not None:
            raise self._problem
        assert self._result is not None
        return self._result

    def stop(self) -> None:
        """Give it up, and wait shortly until it is."""
        self._stopping = True
        self._thread.join(1.0)

    def _look(self) -> None:
        if self._stopping:
            raise Stopped

    def _run(self) -> None:
        try:
            self._result = self._work(self._look)
        except Stopped:
            self._problem = OSError("the agent stops")
        except (EdgeError, OSError) as exc:
            self._problem = exc
        except Exception as exc:  # the outer edge of a thread: a bug here must not end what runs
            log.exception("an update failed")
            self._problem = EdgeError(f"it failed ({type(exc).__name__}: {exc}); see the log")
        self._wake()


def prove_bundle(
    path: Path, wanted: BundlePart, *, section: StreamSection, config: Config, keys: Keys, look: Look
) -> Proven:
    """Find out whether a bundle's file is the one that is wished for, is signed, and runs here.

    Args:
        path: of the file.
        wanted: what the wish says of it.
        section: of the stream, as it runs.
        config: of the agent.
        keys: that are trusted.
        look: called while a provider is proven.

    Raises:
        EdgeError: it may not be switched to.
        OSError: it cannot be read.
        Stopped: by `look`.
    """
    found = file_hash(path)
    if found != wanted.sha256:
        raise WrongFileError(f"what came has the SHA-256 {found[:12]}…, and {wanted.sha256[:12]}… was wished for")
    look()
    bundle = allow_configured(open_bundle(path, keys), config.engine)
    manifest = bundle.manifest
    if (manifest.name, manifest.version) != (wanted.name, wanted.version):
        was = f"{wanted.name} {wanted.version} was wished for"
        raise BundleError(f"the bundle is {manifest.name} {manifest.version}, and {was}")
    make_decoder(section, manifest)
    problem = section.settings.problem_with(manifest) or section.settings.problem_with_missing(manifest)
    if problem is not None:
        raise BundleError(problem)
    return Proven(bundle, _choose(bundle, section, config, look))


def problem_with_file(path: Path, keys: Keys | None) -> str | None:
    """Why a bundle's file cannot be opened, or is of nobody who is trusted; None if it can run."""
    try:
        open_bundle(path, keys)
    except EdgeError as exc:
        return exc.lines[0]
    return None


def prove_settings(section: StreamSection, bundle: Bundle, config: Config, look: Look) -> StreamSection:
    """Find out whether a stream would run with changed settings; gives them.

    Args:
        section: with the changes.
        bundle: that runs.
        config: of the agent.
        look: called while a provider is proven.

    Raises:
        EdgeError: it would not.
        Stopped: by `look`.
    """
    problem = section.settings.problem_with(bundle.manifest)
    if problem is not None:
        raise BundleError(problem)
    _choose(bundle, section, config, look)
    return section


def _choose(bundle: Bundle, section: StreamSection, config: Config, look: Look) -> Choice:
    """Prove every provider in child processes, and remember it, so that the start that follows need not."""
    return choose_for_stream(
        bundle, config.engine_of(section), stream=section.name, state_dir=Path(config.agent.state_dir), look=look
    )


def download(url: str, path: Path, size_bytes: int, look: Look) -> Path:
    """Get a bundle from where a wish says that it is; its hash is not looked at here.

    Args:
        url: of the file.
        path: where it goes.
        size_bytes: that it has; more are not taken.
        look: called after each piece.

    Raises:
        OSError: it cannot be had, or not be written.
        WrongFileError: it is larger or smaller than it should be: another file, or the connection has ended too soon.
        Stopped: by `look`.
    """
    taken = 0
    try:
        # The scheme is http or https: the pattern of the wish's key.
        with urllib.request.urlopen(url, timeout=_URL_TIMEOUT_S) as source, create_file(path) as file:  # noqa: S310
            # What has come, and not a whole piece: a server that sends a byte now and then must not keep us here.
            while taken <= size_bytes and (piece := source.read1(_PIECE_BYTES)):
                look()
                taken += len(piece)
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())  # here, where nothing waits for it, and before it has the name of a whole bundle
    except (http.client.HTTPException, ValueError) as exc:  # what comes is no HTTP, or the address is none
        raise OSError(f"{type(exc).__name__}: {exc}") from exc
    if taken != size_bytes:
        raise WrongFileError(f"{url} gives {'more' if taken > size_bytes else taken} bytes, expected {size_bytes}")
    return path
