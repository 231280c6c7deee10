"""What `edge-agent score` writes: each score as a line of CSV, each event as a line of JSON."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

import msgspec

from edge_agent.errors import DataError
from edge_agent.files.plain import replacing
from edge_agent.messages.event import AlertEvent
from edge_agent.messages.reading import FloatArray
from edge_agent.offline import OfflineReport

__all__ = ["AlertsFile", "ScoresFile", "write_alerts", "write_scores"]

_ENCODER = msgspec.json.Encoder()


class _Written:
    """What takes the place of a file at the end of a block, if no error ends that.

    Args:
        path: of the file.

    Raises:
        DataError: the file cannot be written; from the block's methods and ends.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with self._telling():
            # Not synchronised: behind a power cut it can be made again.
            self._file = self._stack.enter_context(replacing(self._path, durable=False))
            self._begin()
        return self

    def __exit__(self, *error: object) -> None:
        with self._telling():
            if error[0] is None:
                self._end()
            self._stack.__exit__(*error)  # type: ignore[arg-type]  # as they came

    def _begin(self) -> None:
        """Write what stands above all."""

    def _end(self) -> None:
        """Write what is still held back."""

    @contextmanager
    def _telling(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            raise DataError(f"{self._path}: cannot be written ({exc.strerror})") from exc


class ScoresFile(_Written):
    """Writes each score with its asset and time as a line of CSV, after a header."""

    def _begin(self) -> None:
        self._text = io.TextIOWrapper(self._file, encoding="utf-8", newline="")
        self._rows = csv.writer(self._text, lineterminator="\n")
        self._rows.writerow(("time", "asset", "score"))

    def _end(self) -> None:
        # Detached, because the wrapper would otherwise close the file, which is not its own.
        self._text.detach()

    def add(self, assets: Sequence[str], times: Sequence[float], scores: FloatArray) -> None:
        """Write the scores of a batch."""
        with self._telling():
            self._rows.writerows(zip(times, assets, map("{:.9g}".format, scores.tolist()), strict=True))


class AlertsFile(_Written):
    """Writes each event as a line of JSON, as it would be published."""

    def add(self, events: Sequence[AlertEvent]) -> None:
        """Write the events of a batch."""
        with self._telling():
            self._file.write(_ENCODER.encode_lines(events))


def write_scores(path: Path, report: OfflineReport) -> None:
    """Write each score with its asset and time, as `ScoresFile` does.

    Raises:
        DataError: the file cannot be written.
    """
    done = 0
    with ScoresFile(path) as file:
        for assets, times in report.scored_of:
            file.add(assets, times, report.scores[done : done + len(assets)])
            done += len(assets)


def write_alerts(path: Path, report: OfflineReport) -> None:
    """Write each event, as `AlertsFile` does.

    Raises:
        DataError: the file cannot be written.
    """
    with AlertsFile(path) as file:
        for outcome in report.outcomes:
            file.add(outcome.events)
