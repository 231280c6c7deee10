"""What a start does before the first reading, with providers that hang, crash or are blamed."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest
from bad_providers import TESTS_DIR, bad, found
from fakes import make_candidate, write_bundle

from edge_agent.agent.open_streams import open_streams
from edge_agent.agent.stream import LoadedStream
from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import Stopped
from edge_agent.config.load import load_config
from edge_agent.engine.choice import discovery, measuring
from edge_agent.engine.choice.choose import Choice, choose_provider, provider_memory
from edge_agent.engine.choice.discovery import Discovery
from edge_agent.engine.choice.evidence import Candidate, Evidence
from edge_agent.engine.choice.starting import choose_to_start
from edge_agent.engine.golden import Verdict
from edge_agent.engine.providers import PROVIDERS, Provider
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import ProviderError


@pytest.fixture(autouse=True)
def _children_find_the_bad_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", TESTS_DIR)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))


def to_start(bundle: Bundle, state_dir: Path, wanted: EngineSettings, *devices: Provider) -> Choice:
    """The choice of a start on a device with these."""

    def discover() -> Discovery:
        assert devices, "nobody is asked for devices"
        return found(*devices)

    memory = provider_memory(bundle, wanted, state_dir)
    return choose_to_start(bundle, wanted, memory, mix=None, look=lambda: None, discover_with=discover)


def test_a_start_waits_for_nothing_but_the_processors_provider(bundle: Bundle, tmp_path: Path) -> None:
    """Not even for the list of devices, which a driver may hold up; the next start need not prove it again."""
    wanted = EngineSettings(prefer=("openvino",))
    first = to_start(bundle, tmp_path, wanted)
    assert (first.provider, first.settled, first.remembered) == ("cpu", False, False)
    second = to_start(bundle, tmp_path, wanted)
    assert (second.provider, second.settled, second.remembered) == ("cpu", False, True)


def test_a_start_does_not_look_for_devices_while_the_processors_provider_is_slow(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look may take a minute, and it is about to be ready."""
    monkeypatch.setattr(measuring, "_PATIENCE_S", 0.0)
    assert to_start(bundle, tmp_path, EngineSettings()).provider == "cpu"


def test_a_look_for_devices_that_fails_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """The processor's own provider is there all the same."""
    monkeypatch.setattr(discovery, "_TIMEOUT_S", 0.0)
    found_here = discovery.discover()
    assert [provider.name for provider in found_here.providers] == ["cpu"]
    assert not found_here.complete


def test_a_start_takes_the_first_other_one_where_the_processors_may_not_run(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though one before it hangs."""
    monkeypatch.setattr(measuring, "_PATIENCE_S", 0.2)
    memory = provider_memory(bundle, EngineSettings(), tmp_path)
    refused = Candidate(provider=PROVIDERS["cpu"], threads=1, verdict=Verdict.WRONG, reason="wrong scores")
    memory.keep(Evidence(candidates=[refused], absent=[], seconds=0.0, complete=False))
    choice = to_start(bundle, tmp_path, EngineSettings(), bad("Hanger"), PROVIDERS["cpu"], bad("Honest"))
    assert (choice.provider, choice.settled) == ("honest", False)


def test_a_start_with_a_required_provider_proves_only_that(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where that fails it ends with the reason, and the next start tries again."""
    devices = [bad("Honest"), bad("Aborter")]
    for device in devices:
        monkeypatch.setitem(PROVIDERS, device.name, device)
    choice = to_start(bundle, tmp_path, EngineSettings(require="honest"), *devices)
    assert [candidate.name for candidate in choice.candidates] == ["honest"]
    for _ in range(2):
        with pytest.raises(ProviderError, match="require = 'aborter' cannot run: aborter: crashed with signal"):
            to_start(bundle, tmp_path, EngineSettings(require="aborter"), *devices)


def test_a_required_provider_that_took_the_agent_down_starts_again_without_measuring(
    bundle: Bundle, tmp_path: Path
) -> None:
    """There is no other; what was measured is still known."""
    wanted = EngineSettings(require="openvino")
    memory = provider_memory(bundle, wanted, tmp_path)
    timed = make_candidate("openvino", us=10)
    memory.keep(Evidence(candidates=[timed], absent=[], seconds=1.0, blamed={"openvino": "crashed"}))
    choice = to_start(bundle, tmp_path, wanted)
    assert (choice.provider, choice.settled, choice.remembered) == ("openvino", True, True)
    assert "openvino crashed, and there is no other" in choice.reason


def test_a_start_that_fails_after_the_load_blames_nobody(bundle: Bundle, tmp_path: Path) -> None:
    """A journal that cannot be read, for one: the mark of what was loaded goes with the start."""

    class DamagedJournal:
        def records(self, _stream: str) -> None:
            raise OSError("database disk image is malformed")

    file = tmp_path / "agent.toml"
    file.write_text(
        f'[agent]\nstate_dir = "{tmp_path}"\n[[stream]]\nname = "s"\nbundle = "{bundle.path}"\ntopic = "a/+/b"\n'
    )
    config = load_config(file)
    provider_memory(bundle, config.engine, tmp_path).keep(
        Evidence(candidates=[make_candidate("cpu", us=10)], absent=[], seconds=1.0)
    )
    loaded, journal = LoadedStream(config.streams[0], bundle), DamagedJournal()
    with pytest.raises(OSError, match="malformed"), ExitStack() as stack:
        open_streams([loaded], config, journal, stack, lambda: None)  # type: ignore[arg-type]
    assert not list(tmp_path.glob("*.mark"))


def test_what_hung_before_the_end_of_a_start_is_known_to_the_next(bundle: Bundle, tmp_path: Path) -> None:
    """Each verdict is kept as it comes."""
    devices = found(bad("Aborter"), bad("Hanger"), PROVIDERS["cpu"])
    memory = provider_memory(bundle, EngineSettings(), tmp_path)

    def look() -> None:
        if memory.recall() is not None:
            raise Stopped

    facts = {"state_dir": tmp_path, "discover_with": lambda: devices}
    with pytest.raises(Stopped):
        choose_provider(bundle, EngineSettings(), look=look, **facts)  # type: ignore[arg-type]
    kept = memory.recall()
    assert kept is not None
    assert [(c.name, c.verdict) for c in kept.candidates] == [("aborter", Verdict.CRASHED)]
    assert not kept.complete
