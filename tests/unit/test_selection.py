"""The choice of a provider from evidence: speed, memory, policies, and what is remembered."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import msgspec
import pytest
from fakes import make_candidate, write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import Stopped
from edge_agent.engine.choice import remembered as memory
from edge_agent.engine.choice.batch_mix import BatchMix
from edge_agent.engine.choice.choose import Choice, choose_provider, decide, provider_memory
from edge_agent.engine.choice.discovery import Absent, Discovery
from edge_agent.engine.choice.evidence import Candidate, Evidence
from edge_agent.engine.choice.measuring import Measure
from edge_agent.engine.choice.remembered import Memory
from edge_agent.engine.choice.report import choice_lines
from edge_agent.engine.crash import Run, this_run
from edge_agent.engine.golden import Verdict
from edge_agent.engine.plugins import PluginPackage
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import ProviderError


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))


def measured(*candidates: Candidate, calls: list[int] | None = None) -> Measure:
    def measure(_bundle: Bundle, found: Discovery, threads: int, *_: object) -> list[Candidate]:
        if calls is not None:
            calls.append(threads)
        names = [provider.name for provider in found.providers]
        return [candidate for candidate in candidates if candidate.provider.name in names]

    return measure


def here(*names: str) -> Callable[[], Discovery]:
    absent = [Absent(provider="cuda", reason="not in onnxruntime 1.0")]
    return lambda: Discovery(providers=[PROVIDERS[name] for name in names], absent=absent)


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


class _Device:
    """Chooses on one device again and again, and counts what was measured."""

    def __init__(self, bundle: Bundle, state_dir: Path) -> None:
        self.calls: list[int] = []
        self._bundle, self._state_dir = bundle, state_dir

    def start(self, *, mix: BatchMix | None = None, anew: bool = False, threads: int = 1) -> Choice:
        candidates = (
            make_candidate("cpu", us={1: 10, 8: 10, 64: 10, 512: 90}),
            make_candidate("openvino", us={1: 20, 8: 20, 64: 20, 512: 20}),
        )
        return choose_provider(
            self._bundle,
            EngineSettings(threads=threads),
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
    assert device.start(mix=BatchMix(batches={512: 500.0})).provider == "openvino"
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


def test_an_unfinished_measurement_goes_on_where_it_was(bundle: Bundle, tmp_path: Path) -> None:
    """Who hung is not waited for again; who was right is proven again, to be timed with the rest."""
    memory = provider_memory(bundle, EngineSettings(), tmp_path)
    hung = msgspec.structs.replace(make_candidate("openvino", us=0), verdict=Verdict.HUNG, reason="hung")
    memory.keep(Evidence(candidates=[hung, make_candidate("cpu", us=9)], absent=[], seconds=1.0, complete=False))
    asked: list[str] = []

    def measure(_bundle: Bundle, found: Discovery, *_: object) -> list[Candidate]:
        asked.extend(provider.name for provider in found.providers)
        return [make_candidate(provider.name, us=10) for provider in found.providers]

    facts = {"measure_with": measure, "discover_with": here("cpu", "openvino", "xnnpack")}
    choice = choose_provider(bundle, EngineSettings(), state_dir=tmp_path, **facts)  # type: ignore[arg-type]
    assert asked == ["cpu", "xnnpack"]
    assert [(c.name, c.verdict.value) for c in choice.candidates] == [
        ("cpu", "qualified"),
        ("openvino", "hung"),
        ("xnnpack", "qualified"),
    ]
    assert choice.settled
    kept = memory.recall()
    assert kept is not None
    assert kept.complete


def test_measuring_anew_that_is_interrupted_takes_nothing_away(bundle: Bundle, tmp_path: Path) -> None:
    """Neither the times nor the blame, though some verdicts had come; nor where the look for devices failed."""
    memory = provider_memory(bundle, EngineSettings(), tmp_path)
    known = Evidence(candidates=[make_candidate("cpu", us=9)], absent=[], seconds=1.0, blamed={"openvino": "crashed"})
    memory.keep(known)

    def interrupted(*facts: object) -> list[Candidate]:
        facts[-1].heard(make_candidate("cpu", us=1))  # type: ignore[attr-defined]
        raise Stopped

    facts = {"state_dir": tmp_path, "anew": True}
    with pytest.raises(Stopped):
        choose_provider(bundle, EngineSettings(), measure_with=interrupted, discover_with=here("cpu"), **facts)  # type: ignore[arg-type]
    assert memory.recall() == known
    failed = msgspec.structs.replace(here("cpu")(), complete=False)
    for candidate, problem in ((make_candidate("cpu", us=1), None), (make_candidate("cpu", us=0), ProviderError)):
        with pytest.raises(problem) if problem else nullcontext():
            choose_provider(
                bundle,
                EngineSettings(),
                measure_with=measured(candidate),
                discover_with=lambda: failed,
                **facts,  # type: ignore[arg-type]
            )
        assert memory.recall() == known


def test_a_look_for_devices_that_failed_is_taken_again(bundle: Bundle, tmp_path: Path) -> None:
    """A busy boot must not leave out an accelerator for good."""
    candidates = make_candidate("cpu", us=50), make_candidate("openvino", us=10)
    failed = msgspec.structs.replace(here("cpu")(), complete=False)
    for found, provider in ((failed, "cpu"), (here("cpu", "openvino")(), "openvino")):
        facts = {"measure_with": measured(*candidates), "discover_with": lambda found=found: found}
        choice = choose_provider(bundle, EngineSettings(), state_dir=tmp_path, **facts)  # type: ignore[arg-type]
        assert (choice.provider, choice.settled) == (provider, provider == "openvino")
    required = {"measure_with": measured(*candidates), "discover_with": lambda: failed}
    choice = choose_provider(bundle, EngineSettings(require="cpu"), state_dir=tmp_path, **required)  # type: ignore[arg-type]
    assert choice.settled, "nothing else may run anyway"


def test_where_nothing_is_right_the_next_start_tries_all_again(bundle: Bundle, tmp_path: Path) -> None:
    """Perhaps memory was short when the machine had just started."""
    facts = {"measure_with": measured(make_candidate("cpu", us=0)), "discover_with": here("cpu")}
    with pytest.raises(ProviderError):
        choose_provider(bundle, EngineSettings(), state_dir=tmp_path, **facts)  # type: ignore[arg-type]
    assert provider_memory(bundle, EngineSettings(), tmp_path).recall() is None


GONE = Run(boot=this_run().boot, pid=1 << 23, started="1")
"""A process of this boot that is not there any more."""
OPENVINO = make_candidate("openvino", us=20)


def test_who_took_the_agent_down_comes_last(device: _Device, bundle: Bundle, tmp_path: Path) -> None:
    """What was measured stays; it is told, and only measuring anew clears it."""
    wanted = BatchMix(batches={512: 500.0})
    assert device.start(mix=wanted).provider == "openvino"
    Memory(bundle, tmp_path, ("only None", "threads 1"), run=GONE).mark(OPENVINO)
    for _ in range(2):
        choice = device.start(mix=wanted)
        assert [candidate.name for candidate in choice.ranking] == ["cpu", "openvino"]
        assert choice.remembered
        assert "openvino ended the agent while it was loaded, without a word, so it comes last" in choice.reason
        assert choice.describe()["blamed"] == {"openvino": "ended the agent while it was loaded, without a word"}
        assert any("openvino ended the agent while it was loaded" in line for line in choice_lines(choice))
    assert len(device.calls) == 1
    assert device.start(mix=wanted, anew=True).provider == "openvino"


def test_a_failure_that_is_told_forgets_the_times_and_not_the_blame(bundle: Bundle, tmp_path: Path) -> None:
    """All is proven again, and it still comes last."""
    memory = Memory(bundle, tmp_path, ())
    blamed = {"openvino": "ended the agent"}
    memory.keep(Evidence(candidates=[OPENVINO], absent=[], seconds=1.0, blamed=blamed))
    memory.forget()
    left = memory.recall()
    assert left == Evidence(candidates=[], absent=[], seconds=0.0, complete=False, blamed=blamed)


def test_of_several_that_took_the_agent_down_the_last_one_comes_last(bundle: Bundle, tmp_path: Path) -> None:
    """The fastest first would be a crash loop for ever; so each of them has its turn."""
    candidates = [make_candidate("cpu", us=50), OPENVINO]
    memory = provider_memory(bundle, EngineSettings(), tmp_path)
    memory.keep(Evidence(candidates=candidates, absent=[], seconds=1.0, blamed={"openvino": "-", "cpu": "-"}))
    wanted = EngineSettings(prefer=("cpu",))

    def ranking() -> list[str]:
        evidence = memory.recall()
        assert evidence is not None
        choice = decide(bundle, evidence, wanted, None)
        assert choice.reason.startswith(f"{choice.provider}, as it is the longest ago") or choice.provider == "cpu"
        return [candidate.name for candidate in choice.ranking]

    assert ranking() == ["openvino", "cpu"]
    Memory(bundle, tmp_path, ("only None", "threads 1"), run=GONE).mark(OPENVINO)
    assert ranking() == ["cpu", "openvino"]


def test_what_cannot_be_kept_leaves_nothing_half_written(bundle: Bundle, tmp_path: Path) -> None:
    """On a full disk, and after a while what a killed process had begun."""
    memory = Memory(bundle, tmp_path, ())
    (tmp_path / ".provider-x.json.1-1.tmp").touch()
    os.utime(tmp_path / ".provider-x.json.1-1.tmp", (1, 1))
    evidence = Evidence(candidates=[OPENVINO], absent=[], seconds=1.0)
    assert memory.keep(evidence)
    (file,) = tmp_path.glob("provider-*")
    file.unlink()
    file.mkdir()
    assert not memory.keep(evidence)
    assert list(tmp_path.glob("provider-*")) == [file]


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
