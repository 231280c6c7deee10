"""The choice of a provider from evidence: speed, memory, policies, and what is remembered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from fakes import make_candidate, write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.config import EngineSection
from edge_agent.engine import memory
from edge_agent.engine.discovery import Absent, Discovery
from edge_agent.engine.evidence import Candidate
from edge_agent.engine.measuring import Measure
from edge_agent.engine.mix import Mix
from edge_agent.engine.plugins import PluginPackage
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.selection import Choice, choose_provider, provider_memory
from edge_agent.errors import ProviderError


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))


def measured(*candidates: Candidate, calls: list[int] | None = None) -> Measure:
    def measure(_bundle: Bundle, found: Discovery, threads: int, _mix: Mix, _cache: Path | None) -> list[Candidate]:
        if calls is not None:
            calls.append(threads)
        names = [provider.name for provider in found.providers]
        return [candidate for candidate in candidates if candidate.provider.name in names]

    return measure


def here(*names: str) -> Callable[[], Discovery]:
    absent = [Absent(provider="cuda", reason="not in onnxruntime 1.0")]
    return lambda: Discovery(providers=[PROVIDERS[name] for name in names], absent=absent)


def choose(bundle: Bundle, *candidates: Candidate, wanted: EngineSection | None = None, **more: object) -> Choice:
    return choose_provider(
        bundle,
        wanted or EngineSection(),
        state_dir=None,
        measure_with=measured(*candidates),
        discover_with=here("cpu", "openvino", "xnnpack"),
        **more,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    ("times_us", "chosen"),
    [
        ({"cpu": 10, "openvino": 50, "xnnpack": 50}, "cpu"),
        ({"cpu": 50, "openvino": 10, "xnnpack": 20}, "openvino"),
        ({"cpu": 50, "openvino": 0, "xnnpack": 20}, "xnnpack"),
    ],
)
def test_the_fastest_provider_that_is_right_is_chosen(bundle: Bundle, times_us: dict[str, float], chosen: str) -> None:
    """A provider with wrong scores (0 us here) is never chosen, however fast."""
    choice = choose(bundle, *(make_candidate(name, us=us) for name, us in times_us.items()))
    assert choice.provider == chosen
    assert len(choice.candidates) == 3


@pytest.mark.parametrize(
    ("slower", "smaller_mib", "chosen"), [(1.03, 40, "cpu"), (1.06, 40, "openvino"), (1.03, -40, "openvino")]
)
def test_within_five_percent_the_smaller_memory_wins(
    bundle: Bundle, slower: float, smaller_mib: int, chosen: str
) -> None:
    """And above it the speed."""
    choice = choose(
        bundle,
        make_candidate("cpu", us=10 * slower, memory_mib=100 - smaller_mib),
        make_candidate("openvino", us=10, memory_mib=100),
    )
    assert choice.provider == chosen


def test_noise_does_not_buy_smaller_memory(bundle: Bundle) -> None:
    """As fast in its quickest round, 8 % slower in the middle: not shown to be within 5 %."""
    noisy = make_candidate("cpu", us=[10.0, 13.0, 10.4, 10.8, 13.0, 13.0, 10.2], memory_mib=60)
    assert choose(bundle, noisy, make_candidate("openvino", us=10, memory_mib=100)).provider == "openvino"


def test_the_real_batch_sizes_decide(bundle: Bundle) -> None:
    """A provider that is slow alone and fast in a backlog is right for a stream that lives in backlogs."""
    candidates = (
        make_candidate("cpu", us={1: 40, 8: 60, 64: 400, 512: 2800}),
        make_candidate("openvino", us={1: 70, 8: 90, 64: 300, 512: 1800}),
    )
    assert choose(bundle, *candidates).provider == "cpu"
    assert choose(bundle, *candidates, mix=Mix(batches={512: 1000.0})).provider == "openvino"


def test_changing_batch_sizes_count(bundle: Bundle) -> None:
    """OpenVINO prepares anew for each size, which timing one size over and over does not see."""
    steady = Mix(batches={8: 1000.0})
    changing = Mix(batches={8: 1000.0}, changed=900.0)
    candidates = (make_candidate("cpu", us=35), make_candidate("openvino", us=30, change_us=60))
    assert choose(bundle, *candidates, mix=steady).provider == "openvino"
    assert choose(bundle, *candidates, mix=changing).provider == "cpu"


def test_fewer_threads_win_when_more_do_not_help(bundle: Bundle) -> None:
    """The other cores have other work."""
    one, two = make_candidate("cpu", us=10), make_candidate("cpu", us=9.8, threads=2)
    choice = choose(bundle, one, two)
    assert (choice.provider, choice.threads) == ("cpu", 1)
    assert [candidate.name for candidate in choice.ranking] == ["cpu", "cpu x2"]


def test_a_preferred_provider_is_taken_when_it_is_right(bundle: Bundle) -> None:
    """The first of the list that qualifies, and the fastest when none does."""
    candidates = (make_candidate("cpu", us=10), make_candidate("openvino", us=0), make_candidate("xnnpack", us=90))
    wanted = EngineSection(prefer=("openvino", "xnnpack"))
    choice = choose(bundle, *candidates, wanted=wanted)
    assert [candidate.name for candidate in choice.ranking] == ["xnnpack", "cpu"]
    assert choice.reason.startswith("xnnpack is preferred by [engine] prefer")
    assert choose(bundle, *candidates, wanted=EngineSection(prefer=("openvino",))).provider == "cpu"


@pytest.mark.parametrize("wanted", [EngineSection(require="openvino"), EngineSection(provider="openvino")])
def test_a_required_provider_is_the_only_one(bundle: Bundle, wanted: EngineSection) -> None:
    """Nothing else is even tried."""
    choice = choose(bundle, make_candidate("cpu", us=1), make_candidate("openvino", us=90), wanted=wanted)
    assert [candidate.name for candidate in choice.candidates] == ["openvino"]


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (EngineSection(provider="cpuu"), r"provider = 'cpuu' is not known; known: auto, cpu"),
        (EngineSection(prefer=("cpuu",)), r"prefer = 'cpuu' is not known"),
        (EngineSection(require="cuda"), r"require = 'cuda' is not here: not in onnxruntime 1.0; see what is"),
        (EngineSection(require="openvino"), r"require = 'openvino' cannot run: openvino: wrong scores"),
    ],
)
def test_a_provider_that_cannot_run_ends_with_the_reason(bundle: Bundle, wanted: EngineSection, problem: str) -> None:
    """And exit code 69."""
    with pytest.raises(ProviderError, match=problem) as caught:
        choose(bundle, make_candidate("cpu", us=1), make_candidate("openvino", us=0), wanted=wanted)
    assert caught.value.exit_code == 69


def test_no_right_provider_is_an_error_with_every_reason(bundle: Bundle) -> None:
    """The operator learns what was tried."""
    with pytest.raises(ProviderError, match=r"cpu: wrong scores; openvino: wrong scores"):
        choose(bundle, make_candidate("cpu", us=0), make_candidate("openvino", us=0))


class _Device:
    """Chooses on one device again and again, and counts what was measured."""

    def __init__(self, bundle: Bundle, state_dir: Path) -> None:
        self.calls: list[int] = []
        self._bundle, self._state_dir = bundle, state_dir

    def start(self, *, mix: Mix | None = None, anew: bool = False, threads: int = 1) -> Choice:
        candidates = (
            make_candidate("cpu", us={1: 10, 8: 10, 64: 10, 512: 90}),
            make_candidate("openvino", us={1: 20, 8: 20, 64: 20, 512: 20}),
        )
        return choose_provider(
            self._bundle,
            EngineSection(threads=threads),
            state_dir=self._state_dir,
            mix=mix,
            anew=anew,
            measure_with=measured(*candidates, calls=self.calls),
            discover_with=here("cpu", "openvino"),
        )


@pytest.fixture
def device(bundle: Bundle, tmp_path: Path) -> _Device:
    return _Device(bundle, tmp_path)


def test_a_choice_is_remembered_until_something_changes(device: _Device) -> None:
    """The second start measures nothing; another limit of threads measures anew, and so does being asked to."""
    first, second = device.start(), device.start()
    assert (first.remembered, second.remembered, len(device.calls)) == (False, True, 1)
    assert second.provider == first.provider
    device.start(threads=2)
    device.start(anew=True)
    assert device.calls == [1, 2, 1]


def test_another_mix_chooses_anew_from_the_same_evidence(device: _Device) -> None:
    """Without measuring."""
    assert device.start().provider == "cpu"
    assert device.start(mix=Mix(batches={512: 500.0})).provider == "openvino"
    assert len(device.calls) == 1


_ANOTHER_PLUGIN = PluginPackage(package="onnxruntime-ep-another", version="1.0", module="another")


@pytest.mark.parametrize(
    ("fact", "found"),
    [
        ("installed_runtimes", {"onnxruntime": "9.9"}),
        ("_libraries", [("another.so", 1, 1)]),
        ("find_plugins", [_ANOTHER_PLUGIN]),
        ("_processor", "another"),
    ],
)
def test_another_runtime_library_plugin_or_processor_measures_anew(
    device: _Device, fact: str, found: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evidence of one device says nothing about another one."""
    device.start()
    monkeypatch.setattr(memory, fact, lambda: found)
    device.start()
    assert len(device.calls) == 2


def test_another_model_measures_anew(device: _Device, tmp_path: Path) -> None:
    """Though it has the same name."""
    device.start()
    other = _Device(open_bundle(write_bundle(tmp_path / "other-1.0.0.edge", channels=3)), tmp_path)
    assert not other.start().remembered
    assert device.start().remembered


def test_a_damaged_memory_is_measured_again(device: _Device, tmp_path: Path) -> None:
    """It never stops a start."""
    device.start()
    (file,) = tmp_path.glob("provider-*.json")
    whole = file.read_bytes()
    for damaged in (b"{", b"", whole[:-1], whole.replace(b"1", b"\xff", 1), whole.replace(b"1", b"2", 1)):
        file.write_bytes(damaged)
        assert not device.start().remembered


def test_a_start_that_died_while_loading_is_not_repeated(device: _Device, bundle: Bundle, tmp_path: Path) -> None:
    """What was loaded into the agent may have taken it down, so it has to be proven again."""
    device.start()
    remembered = provider_memory(bundle, EngineSection(), tmp_path)
    remembered.mark_starting(True)
    assert not device.start().remembered
    assert device.start().remembered
