"""Opens a bundle: checks every size and hash before any content is used, and executes nothing."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import BundleError, TrustError
from edge_agent.files.archives import Archive, ArchiveError
from edge_agent.files.shared_library import Library
from edge_agent.golden_vectors import GOLDEN_LIMIT_BYTES, read_golden
from edge_agent.setting_types import Name
from edge_agent.trust import SIGNATURE_BYTES, Keys

__all__ = [
    "CHANNEL_NAME",
    "FORMAT",
    "MOST_STATE_VALUES",
    "RESERVED_CHANNELS",
    "SIGNATURE",
    "Bundle",
    "Calibration",
    "Channel",
    "CustomOpsPart",
    "ExpectedPart",
    "ExportedPart",
    "GoldenPart",
    "Manifest",
    "ModelPart",
    "Quality",
    "ScorePart",
    "Threshold",
    "open_bundle",
]

FORMAT = 1
"""The version of the bundle format that this agent reads."""
SIGNATURE = "manifest.sig"
"""The member with the signature, Ed25519 over the bytes of `manifest.json`."""
RESERVED_CHANNELS = frozenset({"time", "asset", "label", "values"})
"""Names that no channel may have, because as keys of a reading, or columns of a data file, they mean something else."""

CHANNEL_NAME = r'^[^"\\\x00-\x1f\x7f]{1,128}\Z'
"""Pattern of a channel's name. The name is a key of JSON, in which quotes, backslashes and control characters would be
trouble for every sender."""

MOST_STATE_VALUES = 100_000
"""Of one asset; each of its readings writes them into the journal."""

_MANIFEST_LIMIT_BYTES = 1 << 20
_MODEL_LIMIT_BYTES = 1 << 30
_DOMAIN = r"^[^\x00-\x1f\x7f]{1,200}\Z"
_SAFE_FILE = r"^[A-Za-z0-9._-]{1,100}\Z"

Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
FileName = Annotated[str, msgspec.Meta(pattern=_SAFE_FILE)]
Version = Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
Release = Annotated[str, msgspec.Meta(pattern=r"^\d{1,4}\.\d{1,4}\Z")]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class ModelPart(msgspec.Struct, frozen=True, kw_only=True):
    """The entry of the ONNX file."""

    file: FileName
    sha256: Sha256
    """Of the file."""
    precision: str
    """Such as "float32" or "int8"; for a person, not checked."""
    size_bytes: int
    """Of the file."""
    ir_version: Version = 0
    """Version of ONNX's format that the file is in; 0 if unknown."""
    opsets: Annotated[dict[FileName, Version], msgspec.Meta(max_length=50)] = {}
    """Domain, "ai.onnx" for ONNX's own, to the version of its operators that the model uses; empty if unknown."""
    runtime: Annotated[str, msgspec.Meta(pattern=r"^[0-9A-Za-z.+-]{0,40}\Z")] = ""
    """Version of ONNX Runtime that the model was packed with; empty if unknown."""
    runtimes: Annotated[dict[FileName, Release], msgspec.Meta(max_length=50)] = {}
    """Extra of this package, such as "cpu", to the oldest release of its runtime that is known to run the model. One
    that is not there runs it in no release; empty if unknown."""
    state_size: Annotated[int, msgspec.Meta(ge=0, le=MOST_STATE_VALUES)] = 0
    """Values that the model is given back of its last answer for the same asset; 0 for a model without state."""
    warm_up: Annotated[int, msgspec.Meta(ge=0, le=100_000)] = 0
    """Windows from zeros on whose scores say nothing yet, of a model with state."""


class GoldenPart(msgspec.Struct, frozen=True, kw_only=True):
    """The entry of the golden vectors: readings, and the float32 model's scores that every provider must reproduce."""

    file: FileName
    sha256: Sha256
    """Of the file."""
    tolerance: Annotated[float, msgspec.Meta(gt=0)]
    """Largest deviation that is allowed, as `golden_deviation` measures it."""


class Channel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sensor."""

    name: Annotated[str, msgspec.Meta(pattern=CHANNEL_NAME)]
    unit: str = ""
    """Unit of the channel's values; empty if unknown."""
    min: float | None = None
    """Smallest value in the calibration data, in `unit`; None if unknown."""
    max: float | None = None
    """Largest value in the calibration data, in `unit`; None if unknown."""


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """The limits of a score; higher scores are more anomalous."""

    alarm: float
    """A score at or above this limit raises an alert."""
    clear: float
    """A score below this limit, which is at most `alarm`, ends the alert."""


class Calibration(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The data that the thresholds were made from: normal rows that the model was not trained on."""

    rows: int
    """Number of rows."""
    false_alarm_rate: Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
    """Share of normal windows that may reach the alarm limit."""
    quantiles: dict[Annotated[str, msgspec.Meta(pattern=r"^\d(\.\d+)?(e-\d+)?$")], float]
    """Probability, as text, to the score that this share of the calibration's scores does not exceed."""
    effective_rows: float | None = None
    """As many independent rows would say as much; None if unknown."""
    interval: tuple[float, float] | None = None
    """Nine times in ten, the share of normal windows in alarm lies between these in a next period; None if unknown."""
    method: str = ""
    """How the alarm limit was made, for a person; empty if unknown."""


class ScorePart(msgspec.Struct, frozen=True, kw_only=True):
    """How the score is made; for a person, not checked."""

    in_words: str
    formula: str
    """Of one moment, as a line of numpy; docs/scores.md names what stands in it."""


class ExpectedPart(msgspec.Struct, frozen=True, kw_only=True):
    """How the scores agreed with those of the author's own code as the bundle was packed; for a person, not checked."""

    windows: int
    """Number of scores that were compared."""
    deviation: float
    """Largest difference, as a share of the expected score's distance from their median, or of the range of the middle
    half of them where that is more."""
    verdicts_changed: int
    """Windows that reach the alarm limit by one score and not by the other."""


class ExportedPart(msgspec.Struct, frozen=True, kw_only=True):
    """What the model was made of, and how it agreed with that; for a person, not checked."""

    framework: str
    """Such as "scikit-learn 1.9.1"."""
    estimator: str
    """Such as "Pipeline(StandardScaler, IsolationForest)"."""
    converter: str
    """Whose converter it was."""
    rows: int
    """Rows on which its answers were compared with the framework's."""
    deviation: float
    """Largest difference of them, in units of the spread of the framework's answers."""


class Quality(msgspec.Struct, frozen=True, kw_only=True):
    """What the bundle finds of the rows that its author has labelled; for a person, not used by the agent."""

    rows: int
    """Number of windows that were scored."""
    events: int
    """Number of labelled events among them."""
    events_found: int
    """In these an alert was raised."""
    false_alerts: int
    """Alerts that were raised outside of every event."""
    false_alerts_per_day: float | None = None
    """For one asset that is normal all day; None if nobody knows how long the rows lasted."""
    roc_auc: float | None = None
    """None, as below, without labelled or without normal rows."""
    average_precision: float | None = None


class CustomOpsPart(msgspec.Struct, frozen=True, kw_only=True):
    """A library with operators of the model that no runtime has of its own. It is not in the bundle."""

    file: FileName
    """Name of the file that it was packed with; for a person, no path is made of it."""
    sha256: Sha256
    """Of that file: what a device has to allow, and to have."""
    architecture: Annotated[str, msgspec.Meta(pattern=r"^[a-z0-9-]{1,20}\Z")]
    """That it is built for, such as "x86-64" or "aarch64". A device loads all that are for its own."""
    domains: Annotated[tuple[Annotated[str, msgspec.Meta(pattern=_DOMAIN)], ...], msgspec.Meta(max_length=50)] = ()
    """Domains of the operators that the model has of such libraries."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The content of `manifest.json`. Unknown keys are ignored, because a later version may add some."""

    format: int
    """`FORMAT`; another one is refused."""
    name: Name
    version: Name
    created: str
    """Time when the bundle was packed; for a person, not checked."""
    model: ModelPart
    golden: GoldenPart
    channels: Annotated[tuple[Channel, ...], msgspec.Meta(min_length=1, max_length=10_000)]
    """In the order of the model's input."""
    window: Count
    """Number of readings in a window."""
    stride: Count = 1
    """Number of readings from one window to the next."""
    interval_s: Annotated[float, msgspec.Meta(gt=0)] | None = None
    """How far the rows of the calibration data are apart, seconds: part of what a window of several rows means. None if
    unknown, or if they are not apart evenly."""
    missing: Annotated[str, msgspec.Meta(max_length=40)] = ""
    """"model" if the graph has an answer for readings in which values are missing (NaN). An older agent ignores this
    key and holds the last values."""
    threshold: Threshold
    calibration: Calibration | None = None
    """None if the limits were not made from data."""
    score: ScorePart | None = None
    """None if unknown."""
    expected: ExpectedPart | None = None
    """None if nobody has compared the scores with those of the author's own code."""
    exported: ExportedPart | None = None
    """None if the model came as ONNX from elsewhere."""
    quality: Quality | None = None
    """None if the data had no labelled rows, or the limits were changed since."""
    custom_ops: Annotated[tuple[CustomOpsPart, ...], msgspec.Meta(max_length=50)] = ()
    """Libraries that the model needs; for each architecture, all of its own. An older agent ignores this key, and then
    refuses the model for an operator that it does not know."""

    @property
    def takes_missing(self) -> bool:
        """True if the model may be given NaN for a missing value."""
        return self.missing == "model"

    @property
    def false_alarm_rate(self) -> float:
        """Share of normal windows that may reach the alarm limit; 0.001 without calibration."""
        return self.calibration.false_alarm_rate if self.calibration is not None else 0.001

    @property
    def rows(self) -> str:
        """Identifies the meaning of a window's rows, whatever the model is that they are given to."""
        meaning = [self.window, self.missing, [channel.name for channel in self.channels]]
        return hashlib.sha256(msgspec.json.encode(meaning)).hexdigest()[:16]

    @property
    def scorer(self) -> str:
        """Identifies the meaning of stored readings and scores: those of another scorer cannot be used.

        The id is a hash of the model, the window and the channel names in order. The model alone is not enough: when a
        model is packed again, its channels may have another order.
        """
        meaning = [self.model.sha256, self.window, [channel.name for channel in self.channels]]
        return hashlib.sha256(msgspec.json.encode(meaning)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Bundle:
    """An open bundle, whose parts all agree with its manifest."""

    path: Path
    manifest: Manifest
    model: bytes
    """Content of the ONNX file."""
    golden_readings: NDArray[np.float32]
    """Shape (n, window, channels), n at least 1, float32, in the channels' units, oldest reading first. NaN is a
    missing value; some are there where, and only where, the model takes them."""
    golden_scores: NDArray[np.float32]
    """Shape (n,), float32, the float32 model's scores; higher is more anomalous."""
    golden_states: NDArray[np.float32] | None = None
    """Shape (n, state size), float32, what the model is given with the readings; None of a model without state."""
    golden_next_states: NDArray[np.float32] | None = None
    """Shape (n, state size), float32, what the float32 model then gives to be given back; None as before."""
    libraries: tuple[Library, ...] = field(default=(), kw_only=True)
    """Those of `manifest.custom_ops` for this device that somebody on it allows (`engine.custom_ops`): what is loaded
    with the model. `open_bundle` gives none, because a bundle cannot allow itself anything."""
    manifest_sha256: str = field(default="", kw_only=True)
    """Of `manifest.json` as it was read, which names the hash of every other part: two bundles of one such hash are the
    same one."""
    is_signed: bool = field(default=False, kw_only=True)
    """It has a signature, be it anybody's."""
    signed_by: str = field(default="", kw_only=True)
    """Id of the key whose signature was found to be good; empty where nobody has asked."""


def open_bundle(path: Path, keys: Keys | None = None) -> Bundle:
    """Read a bundle and verify it.

    Args:
        path: the `.edge` file.
        keys: one of which must have signed it, which is looked at before anything of its content; nobody is asked when
            None.

    Raises:
        BundleError: the bundle is missing, altered, of another format, or its parts do not fit each other.
        TrustError: no such key has signed it.
    """
    try:
        if path.is_fifo():  # one in the state folder must make nobody wait
            _refuse(path, "is a pipe, expected a file")
        with path.open("rb") as file:
            return _read_archive(path, Archive(file), keys)
    except FileNotFoundError as exc:
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise BundleError(f"{path}: no such bundle{where}; make one: edgetool pack") from exc
    except PermissionError as exc:
        advice = "let it be read: chmod a+r, and a+x on the folders above it"
        raise BundleError(f"{path}: cannot be read ({exc.strerror}); {advice}") from exc
    except (BundleError, TrustError):
        raise
    except ArchiveError as exc:
        raise BundleError(f"{path}: {exc}; pack it again: edgetool pack") from exc
    # With a damaged or hostile file, zipfile and zlib raise errors whose only common base is Exception.
    except Exception as exc:
        raise BundleError(f"{path}: is not a readable bundle ({exc}); pack it again: edgetool pack") from exc


def _read_archive(path: Path, archive: Archive, keys: Keys | None) -> Bundle:
    raw = archive.read("manifest.json", _MANIFEST_LIMIT_BYTES)
    signed_by = "" if keys is None else _check_signature(path, archive, raw, keys)
    manifest = _read_manifest(path, raw)
    part = manifest.model
    found = archive.info(part.file).file_size
    if found != part.size_bytes:
        _refuse(path, f"{part.file} differs from its manifest ({found} bytes, expected {part.size_bytes})")
    model = archive.read(part.file, _MODEL_LIMIT_BYTES, part.sha256)
    golden = archive.read(manifest.golden.file, GOLDEN_LIMIT_BYTES, manifest.golden.sha256)
    takes_missing = manifest.takes_missing
    readings, scores, *states = read_golden(golden, with_state=part.state_size > 0, with_missing=takes_missing)
    shape = (scores.size, manifest.window, len(manifest.channels))
    if scores.size == 0 or scores.ndim != 1 or readings.shape != shape:
        _refuse(path, f"golden vectors have shapes {readings.shape} and {scores.shape}, expected {shape}")
    if any(state.shape != (scores.size, part.state_size) for state in states):
        found_shapes = " and ".join(str(state.shape) for state in states)
        _refuse(path, f"golden states have shapes {found_shapes}, expected {(scores.size, part.state_size)}")
    return Bundle(
        path,
        manifest,
        model,
        readings,
        scores,
        *states,
        manifest_sha256=hashlib.sha256(raw).hexdigest(),
        is_signed=SIGNATURE in archive.names,
        signed_by=signed_by,
    )


def _check_signature(path: Path, archive: Archive, manifest: bytes, keys: Keys) -> str:
    """The id of the key that has signed the manifest."""
    try:
        if SIGNATURE not in archive.names:
            raise TrustError("is not signed")
        return keys.check(manifest, archive.read(SIGNATURE, SIGNATURE_BYTES))
    except (TrustError, ArchiveError) as exc:
        raise TrustError(f"{path}: {exc}; sign it: edgetool sign") from exc


def _read_manifest(path: Path, raw: bytes) -> Manifest:
    try:
        found = msgspec.json.decode(raw)
        version = found.get("format") if isinstance(found, dict) else None
        if version != FORMAT:
            _refuse(path, f"format {version!r} is not known, this agent reads {FORMAT}; update edge-agent")
        manifest = msgspec.convert(found, Manifest)
    except (ValueError, RecursionError) as exc:
        raise BundleError(f"{path}: manifest.json: {exc}; pack it again: edgetool pack") from exc
    names = [channel.name for channel in manifest.channels]
    if len(set(names)) < len(names):
        _refuse(path, "manifest.json: two channels of one name")
    reserved = sorted(RESERVED_CHANNELS.intersection(names))
    if reserved:
        _refuse(path, f"manifest.json: channel {reserved[0]!r} has a name that a reading uses for something else")
    alarm, clear = manifest.threshold.alarm, manifest.threshold.clear
    if not (math.isfinite(alarm) and math.isfinite(clear) and clear <= alarm):
        _refuse(path, f"manifest.json: threshold clear = {clear} must not be above alarm = {alarm}")
    return manifest


def _refuse(path: Path, problem: str) -> NoReturn:
    raise BundleError(f"{path}: {problem}; pack it again: edgetool pack")
