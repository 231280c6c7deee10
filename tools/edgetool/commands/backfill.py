"""`edgetool backfill`: the past of a whole fleet, scored asset by asset."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from edge_agent.errors import UsageError
from edgetool.backfilling.cluster import connected, run_all
from edgetool.backfilling.lake import Lake
from edgetool.backfilling.output import Counts, FileFacts, OutputFolder, read_known, working_folder, write_known
from edgetool.backfilling.parts import Part
from edgetool.backfilling.scoring import Scoring, scoring_of
from edgetool.backfilling.work import AssetJob, Failed, SplitJob, run_job, run_split
from edgetool.data import DEFAULT_ASSET
from edgetool.paths import StrPath, as_paths
from edgetool.progress import counted

__all__ = ["BackfillReport", "FailedJob", "LakeSource", "ModelReport", "backfill"]

LakeSource: TypeAlias = StrPath | Sequence[StrPath] | Lake
"""Data files, folders and patterns, or files with what their columns are."""


@dataclass(frozen=True, slots=True)
class FailedJob:
    """An asset that could not be scored, or a file that could not be read."""

    problem: str
    exit_code: int
    model: str | None = None
    """The bundle's; None for a file, whatever the bundle."""
    asset: str | None = None
    """None for a file of which nobody knows the assets."""

    def describe(self) -> dict[str, Any]:
        """For a JSON document."""
        return {"model": self.model, "asset": self.asset, "problem": self.problem}


@dataclass(slots=True)
class ModelReport:
    """What one bundle made of the fleet."""

    model: str
    scored: dict[str, Counts] = field(default_factory=dict)
    """Of assets that were scored now."""
    kept: dict[str, Counts] = field(default_factory=dict)
    """Of those that an earlier run has scored, from the same files."""

    def total(self, name: str) -> int:
        """A sum over all assets: `rows`, `scored`, `raised` or `cleared`."""
        return sum(getattr(counts, name) for counts in (*self.scored.values(), *self.kept.values()))

    def describe(self) -> dict[str, Any]:
        """For a JSON document."""
        totals = {name: self.total(name) for name in ("rows", "scored", "raised", "cleared")}
        return {"model": self.model, "assets": len(self.scored), "assets_kept": len(self.kept), **totals}


@dataclass(slots=True)
class BackfillReport:
    """What was written, and what could not be."""

    output: Path
    files: int
    models: list[ModelReport]
    failed: list[FailedJob] = field(default_factory=list)
    warnings: tuple[str, ...] = ()
    """What a user has to know before the scores are used."""
    seconds: float = 0.0

    @property
    def exit_code(self) -> int:
        """0 if all is done; else that of what could not be, bad data before all."""
        codes = {failure.exit_code for failure in self.failed}
        return 65 if 65 in codes else max(codes, default=0)

    def describe(self) -> dict[str, Any]:
        """As one JSON document."""
        return {
            "output": str(self.output),
            "files": self.files,
            "models": [model.describe() for model in self.models],
            "failed": [failure.describe() for failure in self.failed],
            "warnings": [*self.warnings],
            "seconds": round(self.seconds, 3),
        }


def backfill(
    bundles: StrPath | Sequence[StrPath] = (),
    output: StrPath = "",
    *,
    data: LakeSource,
    config: StrPath | None = None,
    stream: str | None = None,
    scheduler: str | None = None,
    workers: int | None = None,
    custom_ops: StrPath | Sequence[StrPath] = (),
) -> BackfillReport:
    """Score the past of many assets, each from its own first row on, as `edge-agent score` scores the files of one.

    What is whole from an earlier run stays, where neither files nor settings nor bundle have changed.

    Args:
        bundles: one or several; with `config`, none is the stream's own.
        output: the folder to write: `MODEL/scores/asset=…/scores.parquet` and `MODEL/alerts/asset=…/alerts.jsonl`.
        data: files, folders and patterns; an `{asset}` in a pattern, a folder `asset=…`, or a column says the asset.
        config: an agent's configuration, for the settings of one of its streams; None for the defaults.
        stream: its name; None is right where the configuration has one only.
        scheduler: `tcp://HOST:PORT` of a scheduler of Dask, whose workers see the same paths; None starts workers here.
        workers: how many processes here, None for one a core.
        custom_ops: libraries that a bundle names, which may be loaded.

    Returns:
        A report that may have failures: what could not be scored hides nothing of the others.

    Raises:
        BundleError: a bundle cannot be read.
        ClusterError: the scheduler does not answer.
        ConfigError: the configuration cannot be read, has problems, or does not allow a library.
        DataError: no data file is found, or the folder cannot be written.
        MissingExtraError: Dask or Arrow is not installed.
        UsageError: an option cannot be meant.
    """
    started = time.monotonic()
    if not str(output):
        raise UsageError("backfill: name the folder to write with -o")
    if workers is not None and (workers < 1 or scheduler is not None):
        raise UsageError(f"--workers {workers}: expected 1 or more, and no --scheduler beside it")
    paths: list[Path | None] = [*as_paths(bundles)]
    scorings = [scoring_of(path, config=config, stream=stream, custom_ops=custom_ops) for path in paths or [None]]
    lake = _with_channels(data if isinstance(data, Lake) else Lake.named(as_paths(data)), scorings)
    root = Path(os.path.abspath(output))  # noqa: PTH100 - a link stays one
    with working_folder(root) as folder, ExitStack() as stack:
        # Where nothing is to be done, no process is started for it.
        client = cache(lambda: stack.enter_context(connected(scheduler, workers or _cores())))
        fleet = _Fleet(lake, root, folder, client)
        fleet.find_assets()
        models = [fleet.plan(scoring) for scoring in scorings]
        fleet.split_again()
        fleet.score()
    seconds = time.monotonic() - started
    return BackfillReport(Path(output), len(lake.files), models, fleet.failed, fleet.warnings(), seconds)


def _with_channels(lake: Lake, scorings: Sequence[Scoring]) -> Lake:
    """Data files of which the channels of bundles are read, if nobody has named others."""
    models = [scoring.model for scoring in scorings]
    twice = [model for model in models if models.count(model) > 1]
    if twice:
        raise UsageError(f"{twice[0]}: two bundles are called so, and would be written to one folder")
    if lake.columns.channels:
        return lake
    channels = tuple(dict.fromkeys(name for scoring in scorings for name in scoring.channels))
    return replace(lake, columns=replace(lake.columns, channels=channels, channels_from="the bundle"))


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


_Job = TypeVar("_Job", SplitJob, AssetJob)
_Answer = TypeVar("_Answer")


class _Fleet:
    """One backfill under way.

    Args:
        lake: the data files.
        root: where it writes.
        folder: for what is needed until the end.
        client: gives the client of Dask.
    """

    def __init__(self, lake: Lake, root: Path, folder: Path, client: Callable[[], Any]) -> None:
        self._lake, self._root, self._folder, self._client = lake, root, folder, client
        self._facts = {file.path: FileFacts.of(file.path) for file in lake.files}
        self._numbers = {file.path: number for number, file in enumerate(lake.files)}
        self._assets: dict[str, list[str]] = {}
        """The files of each asset, in their order."""
        self._parts: dict[tuple[str, str], Part] = {}
        """By file and asset, as far as they are known."""
        self._problems: dict[str, Failed] = {}
        """Of files that could not be read."""
        self._todo: list[tuple[Scoring, str, ModelReport]] = []
        self.failed: list[FailedJob] = []

    def find_assets(self) -> None:
        """Find out which files hold which assets; those that say it nowhere else are read."""
        known = read_known(self._root)
        found: dict[str, list[str]] = {}
        new = []
        for path, asset in self._lake.files:
            if asset is not None:
                found[path] = [asset]
                self._parts[path, asset] = Part(path)
                continue
            assets = known.assets_of(self._facts[path])
            if assets is None:
                new.append(path)
            else:
                found[path] = assets
        for path, assets in self._split("reading", dict.fromkeys(new)).items():
            known.files[path] = self._facts[path], assets
            found[path] = assets
        self.failed += [FailedJob(failed.problem, failed.exit_code) for failed in self._problems.values()]
        write_known(self._root, known)
        for path in self._facts:
            for asset in found.get(path, ()):
                self._assets.setdefault(asset, []).append(path)

    def plan(self, scoring: Scoring) -> ModelReport:
        """See what an earlier run has done, and what is to be done."""
        report = ModelReport(scoring.model)
        output = OutputFolder(str(self._root), scoring, self._lake.columns)
        for asset, paths in self._assets.items():
            counts = output.done(asset, [self._facts[path] for path in paths])
            if counts is None:
                self._todo.append((scoring, asset, report))
            else:
                report.kept[asset] = counts
        return report

    def warnings(self) -> tuple[str, ...]:
        """What may not be meant."""
        nameless = len(self._assets.get(DEFAULT_ASSET, ()))
        if nameless < 2:
            return ()
        what = f"{nameless} files say no asset, and were scored as one that is called {DEFAULT_ASSET!r}"
        return (f"{what}; if they are of several, let an {{asset}} stand in --data in the place of its name",)

    def split_again(self) -> None:
        """Read the files whose assets are known, and of which some are to be scored."""
        wanted: dict[str, set[str]] = {}
        for _, asset, _ in self._todo:
            for path in self._assets[asset]:
                if (path, asset) not in self._parts:
                    wanted.setdefault(path, set()).add(asset)
        self._split("reading", {path: frozenset(assets) for path, assets in wanted.items()})

    def score(self) -> None:
        """Score what is to be done, the largest first, so that no worker is left with one at the end."""
        jobs: dict[str, tuple[ModelReport, AssetJob]] = {}
        for scoring, asset, report in self._todo:
            paths = self._assets[asset]
            problem = next((self._problems[path] for path in paths if path in self._problems), None)
            if problem is not None:
                self._fail(problem, report, asset)
                continue
            job = AssetJob(
                asset=asset,
                scoring=scoring,
                columns=self._lake.columns,
                parts=tuple(self._parts[path, asset] for path in paths),
                files=tuple(self._facts[path] for path in paths),
                root=str(self._root),
            )
            jobs[job.name] = report, job
        ordered = sorted((job for _, job in jobs.values()), key=self._size, reverse=True)
        try:
            with counted("scoring assets", len(ordered)) as advance:
                for job, answer in self._run(run_job, ordered):
                    report, _ = jobs[job.name]
                    if isinstance(answer, Failed):
                        self._fail(answer, report, job.asset)
                    else:
                        report.scored[job.asset] = answer
                    advance()
        finally:
            for _, job in jobs.values():
                OutputFolder(job.root, job.scoring, job.columns).clear([job.asset])

    def _run(
        self, work: Callable[[_Job], _Answer | Failed], jobs: list[_Job]
    ) -> Iterator[tuple[_Job, _Answer | Failed]]:
        return run_all(self._client(), work, jobs) if jobs else iter(())

    def _size(self, job: AssetJob) -> int:
        """How much there is to read, in bytes; of a file with many assets, its share."""
        return sum(
            facts.size_bytes if part.split is None else sum(rows for _, rows in part.runs) * 8
            for part, facts in zip(job.parts, job.files, strict=True)
        )

    def _fail(self, problem: Failed, report: ModelReport, asset: str) -> None:
        self.failed.append(FailedJob(problem.problem, problem.exit_code, report.model, asset))

    def _split(self, text: str, wanted: dict[str, frozenset[str] | None]) -> dict[str, list[str]]:
        """Read files of many assets; gives the assets of those that could be."""
        jobs = [
            SplitJob(
                path=path,
                columns=self._lake.columns,
                wanted=assets,
                target=str(self._folder / f"{self._numbers[path]}.rows"),
            )
            for path, assets in wanted.items()
        ]
        found: dict[str, list[str]] = {}
        with counted(text, len(jobs)) as advance:
            for job, answer in self._run(run_split, jobs):
                if isinstance(answer, Failed):
                    self._problems[job.path] = answer
                else:
                    found[job.path] = [*answer.parts]
                    self._parts.update({(job.path, asset): part for asset, part in answer.parts.items()})
                advance()
        return found
