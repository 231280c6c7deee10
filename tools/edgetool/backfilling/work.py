"""What a worker does: find the assets of a file, or score one asset. Each leaves a file whole or not at all, so that it
may be done twice, and at the same time.
"""

from __future__ import annotations

from contextlib import ExitStack

import msgspec

from edge_agent.data_files import Columns
from edge_agent.errors import EdgeError
from edge_agent.offline import Summary, without_collector
from edge_agent.offline_files import AlertsFile
from edgetool.backfilling.output import Counts, FileFacts, OutputFolder, ScoresParquet
from edgetool.backfilling.parts import Part, Split, rows_of, split_file
from edgetool.backfilling.scoring import Scoring, score_rows

__all__ = ["AssetJob", "Failed", "SplitJob", "run_job", "run_split"]


class SplitJob(msgspec.Struct, frozen=True, kw_only=True):
    """A file whose assets are to be found."""

    path: str
    columns: Columns
    wanted: frozenset[str] | None
    """The assets whose rows are needed; None for all."""
    target: str

    @property
    def name(self) -> str:
        """For the key of a task."""
        return self.path

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it reads."""
        return (self.path,)


class AssetJob(msgspec.Struct, frozen=True, kw_only=True):
    """An asset that is to be scored."""

    asset: str
    scoring: Scoring
    columns: Columns
    parts: tuple[Part, ...]
    files: tuple[FileFacts, ...]
    root: str
    """The folder of the whole backfill."""

    @property
    def name(self) -> str:
        """For the key of a task."""
        return f"{self.scoring.model} {self.asset}"

    @property
    def paths(self) -> tuple[str, ...]:
        """The files that it reads."""
        return tuple(part.path for part in self.parts)


class Failed(msgspec.Struct, frozen=True):
    """Why a job came to nothing."""

    problem: str
    exit_code: int


def run_split(job: SplitJob) -> Split | Failed:
    """Find the assets of a file."""
    try:
        return split_file(job.path, job.columns, job.wanted, job.target)
    except EdgeError as exc:
        return Failed(str(exc), exc.exit_code)


def run_job(job: AssetJob) -> Counts | Failed:
    """Score an asset, and write what comes of it."""
    try:
        with without_collector():
            return _score(job)
    except EdgeError as exc:
        return Failed(str(exc), exc.exit_code)


def _score(job: AssetJob) -> Counts:
    output = OutputFolder(job.root, job.scoring, job.columns)
    output.begin(job.asset)
    summary = Summary()
    with ExitStack() as stack:
        scores = stack.enter_context(ScoresParquet(output.scores(job.asset)))
        alerts = stack.enter_context(AlertsFile(output.alerts(job.asset)))
        blocks = summary.count_rows(rows_of(job.parts, job.columns))
        for batch in score_rows(blocks, job.asset, job.scoring):
            summary.add(batch)
            scores.add(batch.times, batch.scores)
            if batch.has_events:
                alerts.add(batch.outcome.events)
    counts = msgspec.convert(summary.describe(), Counts)
    output.finish(job.asset, job.files, counts)
    return counts
