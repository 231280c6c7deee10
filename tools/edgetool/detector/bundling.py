"""Writes the bundle, and reads it once as a device will."""

from __future__ import annotations

import hashlib
import io
import re
import tempfile
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx

from edge_agent.bundle import (
    FORMAT,
    SIGNATURE,
    Bundle,
    Calibration,
    Channel,
    CustomOpsPart,
    ExpectedPart,
    ExportedPart,
    GoldenPart,
    Manifest,
    ModelPart,
    Quality,
    ScorePart,
    Threshold,
    open_bundle,
)
from edge_agent.errors import BundleError, UsageError
from edge_agent.setting_types import NAME_CHARACTER
from edgetool.build_time import built_at
from edgetool.data import SensorData
from edgetool.detector.golden import Golden
from edgetool.detector.state import state_size
from edgetool.graph.onnx_file import stored_precision, write_result
from edgetool.graph.runtimes import runtimes_of
from edgetool.signing import PrivateKey

__all__ = ["describe_channels", "name_and_version", "rewrite_bundle", "sign_bundle", "write_bundle"]

_VERSION_CHARACTER = f"(?!-){NAME_CHARACTER}"
_NAME_VERSION = re.compile(
    rf"(?P<name>{NAME_CHARACTER}{{1,64}}?)-(?P<version>\d(?:{_VERSION_CHARACTER}){{0,62}})\.edge"
)
_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Domains of operators that a runtime brings along, and newer ones of them a newer runtime."""
_EPOCH = (1980, 1, 1, 0, 0, 0)


def name_and_version(output: Path) -> tuple[str, str]:
    """Name and version of a bundle, from its file name.

    Raises:
        UsageError: the file is not called NAME-VERSION.edge.
    """
    match = _NAME_VERSION.fullmatch(output.name)
    if match is None:
        raise UsageError(f"{output}: expected a name like shuttle-1.0.0.edge")
    return match["name"], match["version"]


def describe_channels(data: SensorData, units: dict[str, str]) -> tuple[Channel, ...]:
    """Name, unit and range of every channel, as the manifest has them."""
    return tuple(
        Channel(
            name=name,
            unit=units.get(name, ""),
            min=float(np.nanmin(data.values[:, column])),
            max=float(np.nanmax(data.values[:, column])),
        )
        for column, name in enumerate(data.channels)
    )


def write_bundle(
    output: Path,
    model: bytes,
    golden: Golden,
    tolerance: float,
    *,
    name: str,
    version: str,
    channels: tuple[Channel, ...],
    window: int,
    stride: int,
    runtime: str,
    interval_s: float | None,
    threshold: Threshold,
    calibration: Calibration,
    score: ScorePart,
    expected: ExpectedPart | None,
    quality: Quality | None,
    custom_ops: tuple[CustomOpsPart, ...] = (),
    exported: ExportedPart | None = None,
    warm_up: int = 0,
    key: PrivateKey | None = None,
) -> Manifest:
    """Write a bundle, whole or not at all, and only if it can be read back.

    Args:
        output: the file.
        model: the canonical model.
        golden: windows and what the reference makes of them.
        tolerance: largest deviation from these that a provider may have.
        name: of the bundle.
        version: of the bundle.
        channels: from `describe_channels`.
        window: rows in a window.
        stride: readings from one window to the next.
        runtime: version of the one that gave the golden scores.
        interval_s: from `interval_of`.
        threshold: limits of the score.
        calibration: what the limits were made from.
        score: how the score is made.
        expected: how it agreed with the author's own.
        quality: what it finds of labelled rows; None without any.
        custom_ops: libraries that the model needs.
        exported: what the model was made of; None if nobody knows.
        warm_up: windows that only fill the state of a model.
        key: to sign it with; None leaves it unsigned.
    """
    arrays = io.BytesIO()
    np.savez(arrays, allow_pickle=False, **golden.vectors())
    packed_vectors = arrays.getvalue()
    manifest = Manifest(
        format=FORMAT,
        name=name,
        version=version,
        created=_now(),
        model=_describe_model(model, runtime, warm_up),
        golden=GoldenPart(file="golden.npz", sha256=hashlib.sha256(packed_vectors).hexdigest(), tolerance=tolerance),
        channels=channels,
        window=window,
        stride=stride,
        interval_s=interval_s,
        missing="" if golden.missing is None else "model",
        threshold=threshold,
        calibration=calibration,
        score=score,
        expected=expected,
        quality=quality,
        exported=exported,
        custom_ops=custom_ops,
    )
    document: dict[str, Any] = msgspec.to_builtins(manifest)
    # Most bundles need none, and stay byte for byte what they were.
    if not custom_ops:
        del document["custom_ops"]
    _write(output, document, [("model.onnx", model), ("golden.npz", packed_vectors)], key)
    return manifest


def rewrite_bundle(
    output: Path, bundle: Bundle, *, name: str, version: str, threshold: Threshold, calibration: Calibration
) -> Manifest:
    """Write a bundle with the model and the golden scores of another one, byte for byte, and with other limits.

    It is not signed, whether the other one is or not.

    Args:
        output: the file.
        bundle: the other one.
        name: of the new bundle.
        version: of the new bundle.
        threshold: its limits.
        calibration: what the limits were made from.

    Raises:
        BundleError: the other one has changed since it was opened.
    """
    with zipfile.ZipFile(bundle.path) as archive:
        vectors = archive.read(bundle.manifest.golden.file)
        # Whatever a later version has put there stays.
        known = msgspec.json.decode(archive.read("manifest.json"))
    changed = {"name": name, "version": version, "created": _now(), "threshold": threshold, "calibration": calibration}
    if "quality" in known:
        # It was of the other limits.
        changed["quality"] = None
    document = {**known, **msgspec.to_builtins(changed)}
    manifest = msgspec.convert(document, Manifest)
    _write(output, document, [(manifest.model.file, bundle.model), (manifest.golden.file, vectors)])
    return manifest


def sign_bundle(bundle: Bundle, key: PrivateKey) -> None:
    """Put a signature into a bundle's file, in the place of one that is there. All other members stay as they are.

    Raises:
        BundleError: the file has changed since it was opened.
        ConversionError: it cannot be written.
    """
    with zipfile.ZipFile(bundle.path) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist() if name != SIGNATURE]
    text = dict(members)["manifest.json"]
    if hashlib.sha256(text).hexdigest() != bundle.manifest_sha256:
        raise BundleError(f"{bundle.path}: has changed since it was opened; sign it again")
    _write_archive(bundle.path, [*members, (SIGNATURE, key.sign(text))])


def _now() -> str:
    """The time of the build: SOURCE_DATE_EPOCH where that is set, so that a build can be repeated byte for byte.

    Raises:
        UsageError: it is set to something that is no time.
    """
    given = built_at()
    now = datetime.now(UTC) if given is None else datetime.fromtimestamp(given, UTC)
    return now.isoformat(timespec="seconds").replace("+00:00", "Z")


def _write(output: Path, manifest: object, members: list[tuple[str, bytes]], key: PrivateKey | None = None) -> None:
    """Write the file, once it was read back as a device will."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    signature = [] if key is None else [(SIGNATURE, key.sign(text))]
    _write_archive(output, [("manifest.json", text), *members, *signature])


def _write_archive(output: Path, members: list[tuple[str, bytes]]) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as bundle:
        for member, content in members:
            bundle.writestr(zipfile.ZipInfo(member, _EPOCH), content, zipfile.ZIP_DEFLATED)
    # Read as the device will read it, before it takes the place of a bundle that works.
    with tempfile.TemporaryDirectory(prefix="edgetool-") as folder:
        draft = Path(folder) / output.name
        draft.write_bytes(archive.getvalue())
        open_bundle(draft)
    write_result(output, archive.getvalue())


def _describe_model(model: bytes, runtime: str, warm_up: int) -> ModelPart:
    """The manifest's entry, with what a device needs in order to tell a bad bundle from a runtime that is too old."""
    parsed = onnx.load_from_string(model)
    return ModelPart(
        file="model.onnx",
        sha256=hashlib.sha256(model).hexdigest(),
        precision=stored_precision(parsed),
        size_bytes=len(model),
        ir_version=parsed.ir_version,
        opsets={entry.domain or "ai.onnx": entry.version for entry in parsed.opset_import if entry.domain in _DOMAINS},
        runtime=runtime,
        runtimes=runtimes_of(parsed),
        state_size=state_size(parsed),
        warm_up=warm_up,
    )
