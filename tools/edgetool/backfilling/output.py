"""The folder that a backfill writes: scores and events of each asset, and what was scored.

OUT/MODEL/scores/asset=a1/scores.parquet    time (epoch seconds), score (float32)
OUT/MODEL/alerts/asset=a1/alerts.jsonl      as they would have been published
OUT/MODEL/_done/asset=a1.json               of which files, written last
OUT/_files.json                             the assets of files that do not say it by their path
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, Self
from urllib.parse import quote

import msgspec
import numpy as np

from edge_agent.data_files import Columns
from edge_agent.errors import DataError
from edge_agent.files.plain import replacing, write_file
from edge_agent.messages.reading import FloatArray
from edgetool.backfilling.scoring import Scoring
from edgetool.extras import require

__all__ = [
    "Counts",
    "FileFacts",
    "KnownFiles",
    "OutputFolder",
    "ScoresParquet",
    "read_known",
    "working_folder",
    "write_known",
]

_ROW_GROUP = 1 << 17


class FileFacts(msgspec.Struct, frozen=True):
    """By which a file is known to be the same as before."""

    path: str
    size_bytes: int
    changed_ns: int

    @classmethod
    def of(cls, path: str) -> FileFacts:
        """The facts of a file as it is now.

        Raises:
            DataError: it is not there.
        """
        try:
            found = Path(path).stat()
        except OSError as exc:
            raise DataError(f"{path}: cannot be read ({exc.strerror})") from exc
        return cls(path, found.st_size, found.st_mtime_ns)


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """What was scored of one asset."""

    rows: int
    scored: int
    raised: int
    cleared: int
    score_median: float | None
    score_max: float | None
    seconds: float
    rows_per_s: int


class _Done(msgspec.Struct, frozen=True, kw_only=True):
    asset: str
    how: str
    """Hash of all beside the files that the scores follow from."""
    files: list[FileFacts]
    sizes: list[int]
    """Of what was written, bytes."""
    counts: Counts


class KnownFiles(msgspec.Struct, kw_only=True):
    """The assets of files that had to be read to know them."""

    files: dict[str, tuple[FileFacts, list[str]]] = {}

    def assets_of(self, facts: FileFacts) -> list[str] | None:
        """None where the file is new, or has changed."""
        known = self.files.get(facts.path)
        return known[1] if known is not None and known[0] == facts else None


class OutputFolder:
    """What a backfill has written for one bundle, and is to write.

    Args:
        root: the folder of the whole backfill.
        scoring: what scores, and how.
        columns: of the data files.
    """

    def __init__(self, root: str, scoring: Scoring, columns: Columns) -> None:
        self._root = Path(root, scoring.model)
        facts: list[Any] = [scoring.identity, scoring.agent, scoring.stream, scoring.settings, scoring.custom_ops]
        named = [columns.time, columns.asset, columns.label, columns.channels]
        self._how = hashlib.sha256(msgspec.json.encode([*facts, *named])).hexdigest()

    def scores(self, asset: str) -> Path:
        """Where its scores are."""
        return self._root / "scores" / _folder_of(asset) / "scores.parquet"

    def alerts(self, asset: str) -> Path:
        """Where its events are."""
        return self._root / "alerts" / _folder_of(asset) / "alerts.jsonl"

    def _note(self, asset: str) -> Path:
        return self._root / "_done" / f"{_folder_of(asset)}.json"

    def begin(self, asset: str) -> None:
        """Make its folders.

        Raises:
            DataError: they cannot be made.
        """
        with _telling(self._root):
            for path in (self.scores(asset), self.alerts(asset), self._note(asset)):
                path.parent.mkdir(parents=True, exist_ok=True)

    def finish(self, asset: str, files: Sequence[FileFacts], counts: Counts) -> None:
        """Note that all of an asset is written: what has no such note is not whole.

        Raises:
            DataError: it cannot be written.
        """
        with _telling(self._root):
            note = _Done(asset=asset, how=self._how, files=[*files], sizes=self._sizes(asset), counts=counts)
            write_file(self._note(asset), msgspec.json.encode(note))

    def done(self, asset: str, files: Sequence[FileFacts]) -> Counts | None:
        """What was scored of an asset, of these very files; None where it is not done, or not whole."""
        try:
            note = msgspec.json.decode(self._note(asset).read_bytes(), type=_Done)
            same = (note.asset, note.how, note.files) == (asset, self._how, [*files])
            return note.counts if same and note.sizes == self._sizes(asset) else None
        except (OSError, msgspec.MsgspecError):
            return None

    def clear(self, assets: Iterable[str]) -> None:
        """Take away what killed processes have begun."""
        for asset in assets:
            for folder in (self.scores(asset).parent, self.alerts(asset).parent):
                for half in folder.glob(".*.tmp"):
                    half.unlink(missing_ok=True)

    def _sizes(self, asset: str) -> list[int]:
        return [path.stat().st_size for path in (self.scores(asset), self.alerts(asset))]


@contextmanager
def working_folder(root: Path) -> Iterator[Path]:
    """The folder of a backfill as this process's own, and a folder in it for what is needed until the end.

    Raises:
        DataError: another backfill writes there, or nothing can be written.
    """
    split = root / ".split"
    with ExitStack() as stack:
        with _telling(root):
            root.mkdir(parents=True, exist_ok=True)
            lock = stack.enter_context((root / ".lock").open("ab"))
            if not _is_ours(lock):
                raise DataError(f"{root}: another backfill writes there; give another folder, or wait for it")
            shutil.rmtree(split, ignore_errors=True)
            split.mkdir()
        stack.callback(shutil.rmtree, split, ignore_errors=True)
        yield split


def _is_ours(lock: BinaryIO) -> bool:
    try:
        import fcntl
    except ImportError:  # on Windows
        return True
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_known(root: Path) -> KnownFiles:
    """What an earlier run found out of files."""
    with suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode((root / "_files.json").read_bytes(), type=KnownFiles)
    return KnownFiles()


def write_known(root: Path, known: KnownFiles) -> None:
    """Keep it for the next run.

    Raises:
        DataError: it cannot be written.
    """
    with _telling(root):
        write_file(root / "_files.json", msgspec.json.encode(known))


class ScoresParquet:
    """Writes the scores of one asset, in the order of their windows; whole, or not at all.

    Args:
        path: of the file.

    Raises:
        MissingExtraError: Arrow is not installed.
        DataError: the file cannot be written; also from the block.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._arrow = require("pyarrow", extra="scale")
        self._parquet = require("pyarrow.parquet", extra="scale")
        self._stack = ExitStack()
        self._held: list[tuple[Sequence[float], FloatArray]] = []
        self._rows = 0

    def __enter__(self) -> Self:
        with _telling(self._path):
            schema = self._arrow.schema([("time", self._arrow.float64()), ("score", self._arrow.float32())])
            file = self._stack.enter_context(replacing(self._path))
            # No two times are alike: a dictionary of them takes four times as long, and twice the size.
            self._writer = self._parquet.ParquetWriter(file, schema, compression="zstd", use_dictionary=False)
        return self

    def __exit__(self, *error: object) -> None:
        with _telling(self._path):
            try:
                if error[0] is None:
                    self._flush()
                self._writer.close()
            finally:
                self._stack.__exit__(*error)  # type: ignore[arg-type]  # as they came

    def add(self, times: Sequence[float], scores: FloatArray) -> None:
        """Write the scores of a batch."""
        self._held.append((times, scores))
        self._rows += len(scores)
        if self._rows >= _ROW_GROUP:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        times = np.concatenate([np.asarray(times, dtype=np.float64) for times, _ in self._held])
        scores = np.concatenate([scores for _, scores in self._held])
        with _telling(self._path):
            self._writer.write_table(self._arrow.table({"time": times, "score": scores}))
        self._held, self._rows = [], 0


def _folder_of(asset: str) -> str:
    # As Hive, Spark and Arrow write the value of a partition.
    return f"asset={quote(asset, safe=' ')}"


@contextmanager
def _telling(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise DataError(f"{exc.filename or path}: cannot be written ({exc.strerror or exc})") from exc
