"""What is remembered of the providers, and who took the agent down."""

from __future__ import annotations

import os
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
from fakes import here, make_candidate, measured, write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import Stopped
from edge_agent.engine.choice import remembered as memory
from edge_agent.engine.choice.batch_mix import BatchMix
from edge_agent.engine.choice.choose import Choice, choose_provider, decide, provider_memory
from edge_agent.engine.choice.discovery import Discovery
from edge_agent.engine.choice.evidence import Candidate, Evidence
from edge_agent.engine.choice.remembered import Memory
from edge_agent.engine.choice.report import choice_lines
from edge_agent.engine.crash import Run, this_run
from edge_agent.engine.golden import Verdict
from edge_agent.engine.plugins import PluginPackage
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import ProviderError
from edge_agent.files.checksum import seal
from edge_agent.files.shared_library import Library


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))


def test_another_library_is_another_question(bundle: Bundle, tmp_path: Path) -> None:
    """What was right and fast with the operators of one library says nothing of another one's."""
    libraries = [Library(path="/lib.so", sha256=digit * 64) for digit in "ab"]
    opened = [bundle, *(replace(bundle, libraries=(library,)) for library in libraries)]
    assert len({provider_memory(each, EngineSettings(), tmp_path).key for each in opened}) == 3


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
    deep = seal(b'{"x": ' + b"[" * 5000)
    for damaged in (b"{", b"", deep, whole[:-1], whole.replace(b"1", b"\xff", 1), whole.replace(b"1", b"2", 1)):
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
        facts[-1].on_verdict(make_candidate("cpu", us=1))  # type: ignore[attr-defined]
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
