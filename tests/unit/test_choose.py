"""The choice of a provider from evidence: speed, memory, policies, and what is remembered."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from fakes import here, make_candidate, measured, write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine.choice.batch_mix import BatchMix
from edge_agent.engine.choice.choose import Choice, choose_provider, decide
from edge_agent.engine.choice.evidence import Candidate, Evidence
from edge_agent.engine.choice.report import choice_lines
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import ProviderError


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))


def choose(bundle: Bundle, *candidates: Candidate, wanted: EngineSettings | None = None, **more: object) -> Choice:
    return choose_provider(
        bundle,
        wanted or EngineSettings(),
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
    assert choose(bundle, *candidates, mix=BatchMix(batches={512: 1000.0})).provider == "openvino"


def test_changing_batch_sizes_count(bundle: Bundle) -> None:
    """OpenVINO prepares anew for each size, which timing one size over and over does not see."""
    steady = BatchMix(batches={8: 1000.0})
    changing = BatchMix(batches={8: 1000.0}, changed=900.0)
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
    wanted = EngineSettings(prefer=("openvino", "xnnpack"))
    choice = choose(bundle, *candidates, wanted=wanted)
    assert [candidate.name for candidate in choice.ranking] == ["xnnpack", "cpu"]
    assert choice.reason.startswith("xnnpack is preferred by [engine] prefer")
    assert choose(bundle, *candidates, wanted=EngineSettings(prefer=("openvino",))).provider == "cpu"


@pytest.mark.parametrize("wanted", [EngineSettings(require="openvino"), EngineSettings(provider="openvino")])
def test_a_required_provider_is_the_only_one(bundle: Bundle, wanted: EngineSettings) -> None:
    """Nothing else is even tried."""
    choice = choose(bundle, make_candidate("cpu", us=1), make_candidate("openvino", us=90), wanted=wanted)
    assert [candidate.name for candidate in choice.candidates] == ["openvino"]


@pytest.mark.parametrize(
    ("wanted", "problem"),
    [
        (EngineSettings(provider="cpuu"), r"provider = 'cpuu' is not known; known: auto, cpu"),
        (EngineSettings(prefer=("cpuu",)), r"prefer = 'cpuu' is not known"),
        (EngineSettings(require="cuda"), r"require = 'cuda' is not here: not in onnxruntime 1.0; see what is"),
        (EngineSettings(require="openvino"), r"require = 'openvino' cannot run: openvino: wrong scores"),
    ],
)
def test_a_provider_that_cannot_run_ends_with_the_reason(bundle: Bundle, wanted: EngineSettings, problem: str) -> None:
    """And exit code 69."""
    with pytest.raises(ProviderError, match=problem) as caught:
        choose(bundle, make_candidate("cpu", us=1), make_candidate("openvino", us=0), wanted=wanted)
    assert caught.value.exit_code == 69


def test_no_right_provider_is_an_error_with_every_reason(bundle: Bundle) -> None:
    """The operator learns what was tried."""
    with pytest.raises(ProviderError, match=r"cpu: wrong scores; openvino: wrong scores"):
        choose(bundle, make_candidate("cpu", us=0), make_candidate("openvino", us=0))


"""A process of this boot that is not there any more."""


OPENVINO = make_candidate("openvino", us=20)


@pytest.mark.parametrize(
    ("wanted", "ranking", "reason"),
    [
        (EngineSettings(prefer=("openvino",)), ["cpu", "openvino"], "so it comes last"),
        (EngineSettings(require="openvino"), ["openvino"], "openvino is required by [engine] require"),
        (EngineSettings(require="openvino"), ["openvino"], "openvino crashed, and there is no other"),
    ],
)
def test_blame_goes_before_a_preference_and_behind_a_requirement(
    bundle: Bundle, wanted: EngineSettings, ranking: list[str], reason: str
) -> None:
    """What is required runs all the same: nothing else may."""
    names = ("openvino",) if wanted.require else ("cpu", "openvino")
    candidates = [make_candidate(name, us=10) for name in names]
    evidence = Evidence(candidates=candidates, absent=[], seconds=1.0, blamed={"openvino": "crashed"})
    choice = decide(bundle, evidence, wanted, None)
    assert [candidate.name for candidate in choice.ranking] == ranking
    assert reason in choice.reason


def test_a_choice_that_is_not_timed_yet_can_be_told(bundle: Bundle) -> None:
    """In health and to a person."""
    proven = msgspec.structs.replace(make_candidate("cpu", us=10), samples_us={}, memory_bytes=0)
    evidence = Evidence(candidates=[proven], absent=[], seconds=0.0, complete=False)
    choice = decide(bundle, evidence, EngineSettings(), None)
    assert choice.reason == "the first that gives the golden scores; the others are being proven and timed"
    assert choice.describe()["settled"] is False
    assert any(line.startswith("* cpu") for line in choice_lines(choice))
    required = decide(bundle, evidence, EngineSettings(require="cpu"), None)
    assert required.reason == "cpu is required by [engine] require; it is being timed"


def test_before_they_are_timed_the_safest_comes_first(bundle: Bundle) -> None:
    """Whatever the order of the verdicts."""
    candidates = [make_candidate("openvino", us=1), make_candidate("cpu", us=9)]
    evidence = Evidence(candidates=candidates, absent=[], seconds=0.0, complete=False)
    choice = decide(bundle, evidence, EngineSettings(), None)
    assert [candidate.name for candidate in choice.ranking] == ["cpu", "openvino"]
