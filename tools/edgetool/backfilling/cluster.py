"""Dask: a cluster of processes on this machine, or one that is there already."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol, TypeVar

from edge_agent.errors import ClusterError
from edgetool.backfilling.work import Failed
from edgetool.extras import require

__all__ = ["Job", "connected", "run_all"]

_QUIET = {"distributed": "critical", "distributed.nanny": "critical", "tornado": "critical"}
_LOCAL = {
    # A worker that dies counts against each task that it was given. With more than one, that may be another's fault.
    "distributed.scheduler.worker-saturation": 1.0,
    "distributed.scheduler.allowed-failures": 3,
    "distributed.admin.tick.limit": "1h",
    "distributed.worker.preload": ["edgetool.backfilling.undisturbed"],
    "logging": _QUIET,
}


class Job(Protocol):
    """What a worker is asked."""

    @property
    def name(self) -> str:
        """Differs from that of any other job."""

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it reads."""


_Job = TypeVar("_Job", bound=Job)
_Answer = TypeVar("_Answer")


@contextmanager
def connected(scheduler: str | None, workers: int) -> Iterator[Any]:
    """A client of Dask.

    Args:
        scheduler: `tcp://HOST:PORT` of one that is there; its workers need this package, and the same paths. None
            starts processes here, and ends them with the block.
        workers: how many processes, of one thread each.

    Raises:
        MissingExtraError: Dask is not installed.
        ClusterError: the scheduler does not answer, or has no workers.
    """
    dask, distributed = require("dask", extra="scale"), require("distributed", extra="scale")
    for name in ("distributed", "distributed.client"):
        # What goes wrong is told by an error of ours, in a line.
        logging.getLogger(name).setLevel(logging.CRITICAL)
    with ExitStack() as stack:
        stack.enter_context(dask.config.set(_LOCAL))
        where: Any = scheduler
        if scheduler is None:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="edgetool-backfill-"))
            where = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=1,
                    processes=True,
                    host="127.0.0.1",
                    dashboard_address=None,
                    worker_dashboard_address=None,
                    local_directory=folder,
                    silence_logs="CRITICAL",
                )
            )
        try:
            client = stack.enter_context(distributed.Client(where, set_as_default=False))
        except (OSError, ValueError) as exc:
            raise ClusterError(f"--scheduler {scheduler}: no scheduler of Dask answers there ({exc})") from exc
        if not client.nthreads():
            raise ClusterError(f"--scheduler {scheduler}: has no workers; start some: dask worker {scheduler}")
        yield client


def run_all(
    client: Any, work: Callable[[_Job], _Answer | Failed], jobs: Sequence[_Job]
) -> Iterator[tuple[_Job, _Answer | Failed]]:
    """Let workers do jobs; gives each with its answer, as they come.

    A job whose worker ends is done again by another one. Where four in a row ended, it has failed.

    Args:
        client: from `connected`.
        work: does one job; nothing but what it returns and writes may matter.
        jobs: with names that differ.

    Raises:
        ClusterError: the workers lack this package, or the scheduler is gone.
    """
    distributed = require("distributed", extra="scale")
    sent = {client.submit(work, job, key=f"{work.__name__} {job.name}", pure=False): job for job in jobs}
    for future in distributed.as_completed(sent, loop=client.loop):
        job = sent.pop(future)
        error = future.exception()
        if isinstance(error, ImportError):
            raise ClusterError(f"the workers lack {error.name}; install edge-agent[scale,cpu] there, in this version")
        if isinstance(error, distributed.KilledWorker):
            yield job, _killed(job)
            continue
        try:
            answer = future.result()
        except CancelledError as exc:
            raise ClusterError("the scheduler of Dask is gone; the same command goes on where it ended") from exc
        yield job, answer
        future.release()


def _killed(job: Job) -> Failed:
    more = len(job.paths) - 1
    files = f"{job.paths[0]}{f' and {more} more' if more else ''}"
    return Failed(
        f"{files}: four workers in a row ended over it: killed by the system for want of memory, or by what the model "
        "or a library does; edge-agent score shows where",
        70,
    )
