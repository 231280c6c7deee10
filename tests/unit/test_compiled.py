"""The cache of compiled models makes room for the journal."""

from __future__ import annotations

from pathlib import Path

import pytest
from fakes import here, make_candidate, write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.choice.batch_mix import BatchMix
from edge_agent.engine.choice.choose import choose_provider
from edge_agent.engine.choice.compiled import Compiled, drop_compiled
from edge_agent.engine.choice.discovery import Discovery
from edge_agent.engine.choice.evidence import Candidate
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.upkeep import clear_compiled

MODEL_BYTES = 1_000_000


def blob(folder: Path, provider: str) -> Path:
    """A compiled model."""
    file = folder / provider / "1.blob"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"compiled")
    return file


@pytest.mark.parametrize(
    ("free_mb", "exists", "is_used"),
    [(84, False, True), (83, False, False), (80, True, True), (79, True, False)],
)
def test_the_journal_has_its_room_first(tmp_path: Path, free_mb: int, *, exists: bool, is_used: bool) -> None:
    """80 MB stay free, and four times the model's size before there is a cache; what takes that room is removed."""
    place = tmp_path / "compiled" / "key"
    if exists:
        blob(place, "openvino")
    compiled = Compiled(tmp_path, "key", MODEL_BYTES, free_bytes=lambda _folder: free_mb * 10**6)
    assert compiled.folder() == (place if is_used else None)
    assert place.exists() is (exists and is_used)


def test_what_fills_the_disk_while_it_is_compiled_is_removed(tmp_path: Path) -> None:
    """Also that of the chosen provider, which may be cut off."""
    free_mb = iter([100, 3])
    compiled = Compiled(tmp_path, "key", MODEL_BYTES, free_bytes=lambda _folder: next(free_mb) * 10**6)
    place = compiled.folder()
    assert place is not None
    blob(place, "openvino")
    compiled.keep_only("openvino")
    assert not place.exists()


def test_what_is_not_chosen_is_not_kept(tmp_path: Path) -> None:
    """Neither after measuring nor when another mix of batch sizes chooses another one."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    places: list[Path] = []

    def measure(
        _bundle: Bundle, _found: Discovery, _threads: int, _mix: BatchMix, cache: Path | None, *_: object
    ) -> list[Candidate]:
        assert cache is not None
        places.append(cache)
        for name in ("openvino", "openvino-gpu"):
            blob(cache, name)
        return [
            make_candidate("openvino", us={1: 10, 8: 10, 64: 10, 512: 90}),
            make_candidate("openvino-gpu", us={1: 20, 8: 20, 64: 20, 512: 20}),
            make_candidate("cpu", us=100),
        ]

    def choose(mix: BatchMix | None) -> list[str]:
        devices = here("openvino", "openvino-gpu", "cpu")
        options = {"measure_with": measure, "discover_with": devices}
        choose_provider(bundle, EngineSettings(), state_dir=tmp_path, mix=mix, **options)  # type: ignore[arg-type]
        return [folder.name for folder in places[0].glob("*")]

    assert choose(None) == ["openvino"]
    assert choose(BatchMix(batches={512: 500.0})) == []


def test_what_is_no_longer_configured_is_not_kept(tmp_path: Path) -> None:
    """Such as that of the bundle's last version; the one in use stays."""
    bundle = open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))
    for key in ("former", "current"):
        blob(tmp_path / "compiled" / key, "openvino")
    drop_compiled(tmp_path, {"current"})
    assert [folder.name for folder in (tmp_path / "compiled").glob("*")] == ["current"]
    clear_compiled([(bundle, EngineSettings())], tmp_path)
    assert list((tmp_path / "compiled").glob("*")) == []
