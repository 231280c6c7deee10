"""Opens a bundle: checks every size and hash before it believes anything, and executes nothing."""

from __future__ import annotations

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import BundleError
from edge_agent.setting_types import Name

__all__ = [
    "CHANNEL_NAME",
    "FORMAT",
    "RESERVED_CHANNELS",
    "Bundle",
    "Calibration",
    "Channel",
    "GoldenPart",
    "Manifest",
    "ModelPart",
    "Threshold",
    "golden_deviation",
    "open_bundle",
]

FORMAT = 1
RESERVED_CHANNELS = frozenset({"time", "asset", "label", "values"})
"""Keys of a reading and columns of a data file that mean something else than a channel."""

CHANNEL_NAME = r'^[^"\\\x00-\x1f\x7f]{1,128}\Z'
"""A channel is a key of JSON; quotes, backslashes and control characters in it are trouble for every sender."""

_MANIFEST_LIMIT_BYTES = 1 << 20
_MODEL_LIMIT_BYTES = 1 << 30
_GOLDEN_LIMIT_BYTES = 64 << 20
_SAFE_FILE = r"^[A-Za-z0-9._-]{1,100}\Z"

Count = Annotated[int, msgspec.Meta(ge=1, le=100_000)]
FileName = Annotated[str, msgspec.Meta(pattern=_SAFE_FILE)]
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}$")]


class ModelPart(msgspec.Struct, frozen=True, kw_only=True):
    """The ONNX file in the bundle."""

    file: FileName
    sha256: Sha256
    precision: str
    size_bytes: int


class GoldenPart(msgspec.Struct, frozen=True, kw_only=True):
    """The readings and the float32 model's scores for them, which every provider must reproduce."""

    file: FileName
    sha256: Sha256
    tolerance: Annotated[float, msgspec.Meta(gt=0)]
    """Largest deviation allowed, as `golden_deviation` measures it."""


class Channel(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One sensor. `min` and `max` are the range seen in the calibration data, in `unit`."""

    name: Annotated[str, msgspec.Meta(pattern=CHANNEL_NAME)]
    unit: str = ""
    min: float | None = None
    max: float | None = None


class Threshold(msgspec.Struct, frozen=True, kw_only=True):
    """A score at or above `alarm` raises an alert; a score below `clear` ends it."""

    alarm: float
    clear: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """What the thresholds were made from: normal rows that the model had not seen."""

    rows: int
    false_alarm_rate: Annotated[float, msgspec.Meta(gt=0, lt=0.5)]
    quantiles: dict[Annotated[str, msgspec.Meta(pattern=r"^\d(\.\d+)?(e-\d+)?$")], float]
    """Probability to score."""


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """`manifest.json`. Keys that a later version may add are ignored; a later `format` is refused."""

    format: int
    name: Name
    version: Name
    created: str
    model: ModelPart
    golden: GoldenPart
    channels: Annotated[tuple[Channel, ...], msgspec.Meta(min_length=1, max_length=10_000)]
    window: Count
    stride: Count = 1
    threshold: Threshold
    calibration: Calibration | None = None

    @property
    def false_alarm_rate(self) -> float:
        """Share of normal windows that may alarm."""
        return self.calibration.false_alarm_rate if self.calibration is not None else 0.001

    @property
    def scorer(self) -> str:
        """Names what rows of readings, and scores, of this bundle mean: those of another scorer cannot be gone on with.

        A model alone is not enough: packed again, its channels may have another order.
        """
        meaning = [self.model.sha256, self.window, [channel.name for channel in self.channels]]
        return hashlib.sha256(msgspec.json.encode(meaning)).hexdigest()[:32]


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle whose parts all agree with its manifest."""

    path: Path
    manifest: Manifest
    model: bytes
    """The ONNX file."""
    golden_readings: NDArray[np.float32]
    """Shape (n, window, channels), in the channels' units."""
    golden_scores: NDArray[np.float32]
    """Shape (n,), the float32 model's scores; higher is more anomalous."""


def golden_deviation(found: NDArray[np.floating[Any]], golden: NDArray[np.floating[Any]]) -> float:
    """The largest deviation of scores from the golden ones, as a share.

    Each difference is taken relative to its golden score, or to the median size of all golden scores where that
    is larger, so that a score near zero does not have to be met to the last bit.

    Args:
        found: shape (n,), scores of a provider.
        golden: shape (n,), scores of the float32 model.

    Returns:
        0.0 for equal scores; infinity when the shape differs or a score is not finite.
    """
    if found.shape != golden.shape or not np.isfinite(found).all():
        return math.inf
    size = np.abs(golden.astype(np.float64))
    scale = np.maximum(np.maximum(size, np.median(size)), 1e-9)
    return float(np.max(np.abs(found.astype(np.float64) - golden) / scale))


def open_bundle(path: Path) -> Bundle:
    """Read a bundle and verify it.

    Args:
        path: the `.edge` file.

    Raises:
        BundleError: it is missing, altered, of another format, or its parts do not fit each other.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read_archive(path, archive)
    except FileNotFoundError as exc:
        where = "" if path.is_absolute() else f" in {Path.cwd()}"
        raise BundleError(f"{path}: no such bundle{where}; make one: edgetool pack") from exc
    except BundleError:
        raise
    # What a damaged or hostile file makes zipfile, zlib and numpy's header parser raise has no common base but this:
    # zlib.error, tokenize.TokenError and struct.error among them.
    except Exception as exc:
        raise BundleError(f"{path}: is not a readable bundle ({exc}); pack it again: edgetool pack") from exc


def _read_archive(path: Path, archive: zipfile.ZipFile) -> Bundle:
    manifest = _read_manifest(path, archive)
    model = _read_member(path, archive, manifest.model.file, _MODEL_LIMIT_BYTES)
    _check_hash(path, manifest.model.file, model, manifest.model.sha256)
    golden = _read_member(path, archive, manifest.golden.file, _GOLDEN_LIMIT_BYTES)
    _check_hash(path, manifest.golden.file, golden, manifest.golden.sha256)
    arrays = _read_golden(path, golden)
    readings, scores = arrays["readings"], arrays["score"]
    shape = (scores.size, manifest.window, len(manifest.channels))
    if scores.size == 0 or scores.ndim != 1 or readings.shape != shape:
        _refuse(path, f"golden vectors have shapes {readings.shape} and {scores.shape}, expected {shape}")
    if len(model) != manifest.model.size_bytes:
        _refuse(path, f"{manifest.model.file} has {len(model)} bytes, its manifest says {manifest.model.size_bytes}")
    return Bundle(path=path, manifest=manifest, model=model, golden_readings=readings, golden_scores=scores)


def _read_manifest(path: Path, archive: zipfile.ZipFile) -> Manifest:
    raw = _read_member(path, archive, "manifest.json", _MANIFEST_LIMIT_BYTES)
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


def _read_member(path: Path, archive: zipfile.ZipFile, name: str, limit_bytes: int) -> bytes:
    try:
        info = archive.getinfo(name)
    except KeyError as exc:
        raise BundleError(f"{path}: has no {name}; pack it again: edgetool pack") from exc
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        _refuse(path, f"{name} is compressed in a way that this agent does not read")
    if info.file_size > limit_bytes:
        _refuse(path, f"{name} would have {info.file_size} bytes, at most {limit_bytes} are read")
    with archive.open(info) as member:
        # A member may hold more than it says; one byte past the limit is enough to know.
        data = member.read(limit_bytes + 1)
    if len(data) != info.file_size:
        _refuse(path, f"{name} has {len(data)} bytes, expected {info.file_size}")
    return data


def _check_hash(path: Path, name: str, data: bytes, want: str) -> None:
    found = hashlib.sha256(data).hexdigest()
    if found != want:
        _refuse(path, f"{name} differs from its manifest (sha256 {found:.12}, expected {want:.12})")


def _read_golden(path: Path, data: bytes) -> dict[str, NDArray[np.float32]]:
    arrays: dict[str, NDArray[np.float32]] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in ("readings", "score"):
            raw = _read_member(path, archive, f"{name}.npy", _GOLDEN_LIMIT_BYTES)
            arrays[name] = _parse_npy(path, name, raw)
    return arrays


def _parse_npy(path: Path, name: str, raw: bytes) -> NDArray[np.float32]:
    """An array from the bytes of an .npy file; the header is held against the bytes that are really there."""
    stream = io.BytesIO(raw)
    if np.lib.format.read_magic(stream) != (1, 0):
        _refuse(path, f"golden array {name} is of an unknown .npy version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    body = raw[stream.tell() :]
    if dtype != np.dtype("<f4") or fortran or math.prod(shape) * 4 != len(body):
        _refuse(path, f"golden array {name} is {dtype} {shape} in {len(body)} bytes, expected float32")
    array = np.frombuffer(body, dtype=np.float32).reshape(shape)
    if not np.isfinite(array).all():
        _refuse(path, f"golden array {name} holds values that are not finite")
    return array


def _refuse(path: Path, problem: str) -> NoReturn:
    raise BundleError(f"{path}: {problem}; pack it again: edgetool pack")
