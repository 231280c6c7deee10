"""A bundle is what its manifest says, to the last byte, or it is refused."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import write_bundle
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.bundle import open_bundle
from edge_agent.errors import BundleError
from edge_agent.golden_vectors import golden_deviation


def test_a_good_bundle_opens(tmp_path: Path) -> None:
    """With everything the agent needs."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge", channels=3, window=2))
    assert [channel.name for channel in bundle.manifest.channels] == ["c1", "c2", "c3"]
    assert bundle.golden_readings.shape == (24, 2, 3)
    assert bundle.golden_scores.shape == (24,)


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"format": 2}, "format 2 is not known, this agent reads 1"),
        ({"window": 0}, "manifest.json: Expected `int` >= 1 - at `$.window`"),
        ({"channels": []}, "manifest.json: Expected `array` of length >= 1"),
        ({"channels": [{"name": "c1"}, {"name": "c1"}]}, "two channels of one name"),
        ({"channels": [{"name": "c1"}, {"name": "time"}]}, "channel 'time' has a name"),
        ({"threshold": {"alarm": 1, "clear": 2}}, "threshold clear = 2.0 must not be above alarm = 1.0"),
        ({"window": 3}, "golden vectors have shapes"),
        ({"channels": [{"name": 'a"b'}, {"name": "c2"}]}, "matching regex"),
        ({"name": "a/b"}, "manifest.json: Expected `str` matching regex"),
        ({"calibration": {"rows": 1, "false_alarm_rate": 0, "quantiles": {}}}, "`$.calibration.false_alarm_rate`"),
        ({"calibration": {"rows": 1, "false_alarm_rate": 0.1, "quantiles": {"p9": 1}}}, "matching regex"),
        ({"model": {"file": "../x", "sha256": "0" * 64, "precision": "", "size_bytes": 1}}, "at `$.model.file`"),
        ({"model": {"file": "model.onnx", "sha256": "0" * 64, "precision": "", "size_bytes": 1}}, "model.onnx differs"),
        ({"golden": {"file": "none.npz", "sha256": "0" * 64, "tolerance": 1}}, "has no none.npz"),
    ],
)
def test_a_wrong_manifest_is_told(tmp_path: Path, changes: dict[str, Any], problem: str) -> None:
    """With file and key."""
    path = write_bundle(tmp_path / "x-1.0.0.edge", changes=changes)
    with pytest.raises(BundleError) as caught:
        open_bundle(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert problem in str(caught.value)


@pytest.mark.parametrize("true_size", [True, False])
def test_a_model_that_is_another_one_takes_no_memory(tmp_path: Path, true_size: bool) -> None:
    """A quarter of a gigabyte in 250 kB, and the hash, or the size, is that of something else."""
    path = write_bundle(tmp_path / "x-1.0.0.edge")
    with zipfile.ZipFile(path) as archive:
        manifest, golden = json.loads(archive.read("manifest.json")), archive.read("golden.npz")
    manifest["model"]["size_bytes"] = 256 << 20 if true_size else 1 << 20
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("golden.npz", golden)
        with archive.open("model.onnx", "w") as member:
            for _ in range(256):
                member.write(bytes(1 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(BundleError) as caught:
            open_bundle(path)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    expected = "sha256 a6d72ac7690f" if true_size else "268435456 bytes, expected 1048576"
    assert f"{path}: model.onnx differs from its manifest ({expected}" in str(caught.value)


def test_a_large_model_is_read_whole(tmp_path: Path) -> None:
    """One that is hashed before it is kept."""
    path = write_bundle(tmp_path / "x-1.0.0.edge")
    with zipfile.ZipFile(path) as archive:
        manifest, golden = json.loads(archive.read("manifest.json")), archive.read("golden.npz")
    model = np.random.default_rng(0).bytes(17 << 20)
    manifest["model"].update(size_bytes=len(model), sha256=hashlib.sha256(model).hexdigest())
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("golden.npz", golden)
        archive.writestr("model.onnx", model)
    assert open_bundle(path).model == model


def test_golden_vectors_must_be_as_large_as_they_claim(tmp_path: Path) -> None:
    """A header that claims 4 TiB, under the right hash."""
    path = write_bundle(tmp_path / "x-1.0.0.edge")
    with zipfile.ZipFile(path) as archive:
        manifest, model = json.loads(archive.read("manifest.json")), archive.read("model.onnx")
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 1, 1), }"
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readings.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    manifest["golden"]["sha256"] = hashlib.sha256(inner.getvalue()).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("model.onnx", model)
        archive.writestr("golden.npz", inner.getvalue())
    with pytest.raises(BundleError, match=r"'readings' is float32 .* in 0 bytes, expected 4398046511104"):
        open_bundle(path)


def test_a_missing_bundle_says_how_to_make_one(tmp_path: Path) -> None:
    """The next step is in the text."""
    with pytest.raises(BundleError, match="no such bundle; make one: edgetool pack"):
        open_bundle(tmp_path / "none.edge")


@given(place=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_bit_is_refused_or_harmless(tmp_path: Path, place: float, bit: int) -> None:
    """Anywhere in the file: either refused, or (in the archive's own notes) what comes out is equal."""
    path = write_bundle(tmp_path / "x-1.0.0.edge")
    good = open_bundle(path)
    data = bytearray(path.read_bytes())
    data[int(place * len(data))] ^= 1 << bit
    path.write_bytes(data)
    try:
        found = open_bundle(path)
    except BundleError:
        return
    assert found.model == good.model
    assert found.manifest == good.manifest
    np.testing.assert_array_equal(found.golden_scores, good.golden_scores)


def test_many_flipped_bits_never_show_a_traceback(tmp_path: Path) -> None:
    """A deterministic sweep: what zlib and numpy raise on damage is refused like everything else."""
    path = write_bundle(tmp_path / "x-1.0.0.edge")
    good = path.read_bytes()
    for place in range(0, len(good), 3):
        data = bytearray(good)
        data[place] ^= 1 << (place % 8)
        path.write_bytes(data)
        try:
            open_bundle(path)
        except BundleError:
            continue


@pytest.mark.parametrize("header", [b"{", b"((((", b"{1:2,'a':3}", b"{'descr':'<f4','fortran_order':False,'shape':()}"])
def test_a_hostile_array_header_is_refused(tmp_path: Path, header: bytes) -> None:
    """numpy's parser raises many things; the right hash does not make them right."""
    path = write_bundle(tmp_path / "x-1.0.0.edge")
    with zipfile.ZipFile(path) as archive:
        manifest, model = json.loads(archive.read("manifest.json")), archive.read("model.onnx")
    inner = io.BytesIO()
    array = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("readings.npy", array)
        archive.writestr("score.npy", array)
    manifest["golden"]["sha256"] = hashlib.sha256(inner.getvalue()).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("model.onnx", model)
        archive.writestr("golden.npz", inner.getvalue())
    with pytest.raises(BundleError):
        open_bundle(path)


@given(length=st.floats(0, 1, exclude_max=True))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_cut_bundle_is_refused(tmp_path: Path, length: float) -> None:
    """A copy that broke off."""
    path = write_bundle(tmp_path / "x-1.0.0.edge")
    path.write_bytes(path.read_bytes()[: int(length * path.stat().st_size)])
    with pytest.raises(BundleError):
        open_bundle(path)


def test_nothing_in_a_bundle_is_executed(tmp_path: Path) -> None:
    """Golden vectors that are a pickle are refused unread."""
    path = write_bundle(tmp_path / "x-1.0.0.edge")
    with zipfile.ZipFile(path) as archive:
        manifest = json.loads(archive.read("manifest.json"))
        model = archive.read("model.onnx")
    golden = tmp_path / "golden.npz"
    np.savez(golden, readings=np.array([{"a": 1}], dtype=object), score=np.zeros(1, np.float32))
    manifest["golden"]["sha256"] = hashlib.sha256(golden.read_bytes()).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("manifest.json", json.dumps(manifest))
        archive.writestr("model.onnx", model)
        archive.write(golden, "golden.npz")
    with pytest.raises(BundleError, match="'readings' is object, expected a plain array"):
        open_bundle(path)


@pytest.mark.parametrize(
    ("found", "deviation"),
    [
        ([1.0, 2.0, 10.0], 0.0),
        ([1.0, 2.0, 11.0], 0.1),
        ([1.2, 2.0, 10.0], 0.1),  # relative to the median 2, because 1 is smaller
        ([1.0, 2.0], np.inf),
        ([1.0, 2.0, np.nan], np.inf),
    ],
)
def test_golden_deviation_is_a_share(found: list[float], deviation: float) -> None:
    """Of each score, or of the median where that is larger."""
    golden = np.array([1, 2, 10], np.float32)
    assert golden_deviation(np.array(found, np.float32), golden) == pytest.approx(deviation, abs=1e-6)


def test_a_bundle_that_may_not_be_read_is_not_to_be_packed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be good. Root reads everything, so the refusal is made up."""

    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(BundleError) as found:
        open_bundle(tmp_path / "a.edge")
    assert "cannot be read (Permission denied); let it be read: chmod a+r" in str(found.value)
    assert "pack" not in str(found.value).removeprefix(str(tmp_path))
