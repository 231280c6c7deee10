"""A provider that fails while the agent runs gives way to the next one, and no batch is lost."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fakes import FakeEngine, make_candidate, make_manifest, readings, write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import Look
from edge_agent.engine.choice.batch_mix import BatchMix
from edge_agent.engine.choice.choose import Choice, decide
from edge_agent.engine.choice.evidence import Candidate, Evidence
from edge_agent.engine.choice.remembered import Memory
from edge_agent.engine.fallback import FallbackEngine
from edge_agent.engine.settings import EngineSettings
from edge_agent.engine.upkeep import Upkeep, mix_file
from edge_agent.errors import EngineError
from edge_agent.messages.reading import FloatArray
from edge_agent.messages.scores import Engine, Scores
from edge_agent.stream.pipeline import Pipeline

WINDOWS = np.ones((3, 1, 2), dtype=np.float32)


class FailingEngine(FakeEngine):
    """Works for a number of batches and then no more."""

    def __init__(self, provider: str, *, fail_after: int | None = None) -> None:
        super().__init__()
        self.provider = provider
        self.fail_after = fail_after

    def score(self, windows: FloatArray, _state: FloatArray | None = None) -> Scores:
        """See `Engine.score`."""
        if self.fail_after is not None and len(self.batches) >= self.fail_after:
            raise EngineError(f"provider {self.provider}: device lost")
        scores = super().score(windows)
        return Scores(scores.score, scores.contributions, self.provider)


class Workshop:
    """Opens engines that fail as told."""

    def __init__(self, **fail_after: int | None) -> None:
        self.fail_after = fail_after
        self.opened: list[str] = []

    def __call__(self, _bundle: Bundle, candidate: Candidate, _cache_dir: Path | None) -> Engine:
        self.opened.append(candidate.name)
        if self.fail_after.get(candidate.name) == -1:
            raise EngineError(f"provider {candidate.name}: cannot load the model")
        return FailingEngine(candidate.name, fail_after=self.fail_after.get(candidate.name))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))


def choice_of(bundle: Bundle, *names: str, mix: BatchMix | None = None) -> Choice:
    candidates = [make_candidate(name, us=10 * (number + 1)) for number, name in enumerate(names)]
    return decide(bundle, Evidence(candidates=candidates, absent=[], seconds=1.0), EngineSettings(), mix)


def test_the_batch_that_failed_is_scored_by_the_next_provider(bundle: Bundle) -> None:
    """And so are those after it; the answer tells who it is from."""
    workshop = Workshop(openvino=1)
    engine = FallbackEngine(bundle, choice_of(bundle, "openvino", "cpu"), opener=workshop)
    answered = [engine.score(WINDOWS).provider for _ in range(3)]
    assert answered == ["openvino", "cpu", "cpu"]
    assert workshop.opened == ["openvino", "cpu"]
    assert engine.describe()["failed"] == {"openvino": "provider openvino: device lost"}
    assert engine.describe()["running"] == "cpu"


def test_the_event_tells_the_provider_that_scored(bundle: Bundle) -> None:
    """Not the one that was chosen at the start."""
    engine = FallbackEngine(bundle, choice_of(bundle, "openvino", "cpu"), opener=Workshop(openvino=1))
    pipeline = Pipeline(
        agent="a", stream="s", manifest=make_manifest(alarm=3.0, clear=2.0), engine=engine, provider="openvino"
    )
    raised = pipeline.process(readings([[9, 9]])).events
    cleared = pipeline.process(readings([[0, 0]], start_s=2000)).events
    assert [event.provider for event in (*raised, *cleared)] == ["openvino", "cpu"]


def test_a_provider_that_fails_at_once_is_skipped(bundle: Bundle) -> None:
    """The first one does not load any more, the second one fails on the batch."""
    workshop = Workshop(openvino=-1, cuda=0)
    engine = FallbackEngine(bundle, choice_of(bundle, "openvino", "cuda", "cpu"), opener=workshop)
    assert engine.score(WINDOWS).provider == "cpu"
    assert set(engine.failed) == {"openvino", "cuda"}


def test_when_all_have_failed_the_batch_is_not_answered(bundle: Bundle) -> None:
    """So it is not acknowledged and comes again; the text has every reason."""
    engine = FallbackEngine(bundle, choice_of(bundle, "openvino", "cpu"), opener=Workshop(openvino=0, cpu=0))
    with pytest.raises(EngineError, match=r"openvino: provider openvino: device lost; cpu: provider cpu: device lost"):
        engine.score(WINDOWS)


def test_a_failure_is_not_remembered_as_a_success(bundle: Bundle, tmp_path: Path) -> None:
    """The next start proves and measures anew."""
    memory = Memory(bundle, tmp_path, ())
    choice = choice_of(bundle, "openvino", "cpu")
    memory.keep(Evidence(candidates=choice.candidates, absent=[], seconds=1.0))
    engine = FallbackEngine(bundle, choice, memory, opener=Workshop(openvino=1))
    engine.score(WINDOWS)
    assert memory.recall() is not None
    engine.score(WINDOWS)
    assert memory.recall() is None


def marks_in(folder: Path) -> list[str]:
    """Phases of the marks there."""
    texts = [file.read_text() for file in sorted(folder.glob("*.mark"))]
    return ["loading" if '"loading"' in text else "running" for text in texts]


def test_what_is_loaded_is_marked_until_a_planned_end(bundle: Bundle, tmp_path: Path) -> None:
    """Only what ends the whole process leaves the mark behind."""
    phases: list[list[str]] = []

    def opener(_bundle: Bundle, candidate: Candidate, _cache_dir: Path | None) -> Engine:
        phases.append(marks_in(tmp_path))
        return FailingEngine(candidate.name)

    engine = FallbackEngine(bundle, choice_of(bundle, "cpu"), Memory(bundle, tmp_path, ()), opener=opener)
    assert phases == [["loading"]]
    assert marks_in(tmp_path) == ["running"]
    engine.close()
    assert marks_in(tmp_path) == []
    choice = choice_of(bundle, "cpu")
    engine.offer(choice, choice.ranking[0])  # a thread that had not heard of the end
    assert marks_in(tmp_path) == []


def test_a_provider_that_says_that_it_failed_keeps_no_mark(bundle: Bundle, tmp_path: Path) -> None:
    """Neither when it is loaded nor later; who took over has one."""
    memory = Memory(bundle, tmp_path, ())
    workshop = Workshop(openvino=-1, cuda=0)
    engine = FallbackEngine(bundle, choice_of(bundle, "openvino", "cuda", "cpu"), memory, opener=workshop)
    engine.score(WINDOWS)
    (mark,) = tmp_path.glob("*.mark")
    assert '"provider":"cpu"' in mark.read_text()


def test_an_offer_takes_the_mark_over(bundle: Bundle, tmp_path: Path) -> None:
    """Both are marked while both are loaded; an offer that nobody took before the next one is not."""
    engine = FallbackEngine(
        bundle, choice_of(bundle, "openvino", "cpu"), Memory(bundle, tmp_path, ()), opener=Workshop()
    )
    other = choice_of(bundle, "cpu", "openvino")
    for _ in range(2):
        engine.offer(other, other.ranking[0])
        assert marks_in(tmp_path) == ["running", "running"]
    assert engine.score(WINDOWS).provider == "cpu"
    assert marks_in(tmp_path) == ["running"]


def test_a_better_known_choice_of_what_runs_is_adopted_without_loading(bundle: Bundle) -> None:
    """The times of a provider that a start began with before it was timed."""
    workshop = Workshop()
    engine = FallbackEngine(bundle, choice_of(bundle, "cpu"), opener=workshop)
    timed = choice_of(bundle, "cpu", "openvino")
    engine.adopt(timed, timed.ranking[0])
    engine.take_offer()
    assert engine.choice is timed
    assert engine.current is timed.ranking[0]
    assert workshop.opened == ["cpu"]


def test_a_provider_that_failed_before_its_choice_came_does_not_come_back(bundle: Bundle) -> None:
    """The one that took over goes on, with the new ranking behind it."""
    engine = FallbackEngine(bundle, choice_of(bundle, "openvino", "cpu"), opener=Workshop(openvino=1))
    engine.score(WINDOWS)
    timed = choice_of(bundle, "openvino", "cpu")
    engine.score(WINDOWS)
    engine.adopt(timed, timed.ranking[0])
    assert engine.score(WINDOWS).provider == "cpu"
    assert engine.choice is timed


class _Clock:
    now_mono_s = 0.0

    def __call__(self) -> float:
        return self.now_mono_s


class _Running:
    """An engine with its upkeep on a clock that is set by hand."""

    def __init__(self, bundle: Bundle, state_dir: Path, choice: Choice | None = None, **fail_after: int | None) -> None:
        self.problem: Exception | None = None
        self.clock = _Clock()
        self.asked_anew: list[bool] = []
        self.is_hanging = False
        self.next_choice = choice_of(bundle, "cpu", "openvino")
        self.engine = FallbackEngine(
            bundle, choice or choice_of(bundle, "openvino", "cpu"), opener=Workshop(**fail_after)
        )
        self.upkeep = Upkeep(
            bundle,
            self.engine,
            EngineSettings(),
            stream="pump",
            state_dir=state_dir,
            chooser=self._choose,
            clock=self.clock,
        )

    def _choose(self, anew: bool, look: Look) -> Choice:
        self.asked_anew.append(anew)
        while self.is_hanging:
            look()
            time.sleep(0.001)
        if self.problem is not None:
            raise self.problem
        return self.next_choice

    def tick_after(self, seconds: float) -> None:
        self.clock.now_mono_s += seconds
        self.upkeep.tick()
        self.upkeep.wait(10)

    def take(self, spent_us: float, *, batches: int = 300, windows: int = 1) -> None:
        for _ in range(batches):
            self.engine.record.add(windows, int(spent_us * 1000))


@pytest.fixture
def running(bundle: Bundle, tmp_path: Path) -> _Running:
    return _Running(bundle, tmp_path)


def test_latency_that_left_the_measurement_measures_anew(running: _Running) -> None:
    """Measured 10 us, live 5 ms: the new choice takes over before the next batch."""
    running.take(5000)
    running.tick_after(601)
    assert running.asked_anew == [True]
    assert running.engine.score(WINDOWS).provider == "cpu"


def test_a_sleepy_processor_is_no_reason_to_measure(running: _Running) -> None:
    """Measured 10 us without a pause, live 300 us after a second's sleep."""
    running.take(300)
    running.tick_after(601)
    assert True not in running.asked_anew


def test_a_busy_machine_is_not_measured_all_the_time(running: _Running, bundle: Bundle) -> None:
    """At most every six hours."""
    running.next_choice = choice_of(bundle, "openvino", "cpu")
    for _ in range(3):
        running.take(5000)
        running.tick_after(601)
    assert running.asked_anew.count(True) == 1
    running.take(5000)
    running.tick_after(7 * 3600)
    assert running.asked_anew.count(True) == 2


def test_batch_sizes_are_kept_and_the_choice_follows_them(running: _Running, tmp_path: Path) -> None:
    """300 batches of 512 windows: the chooser is asked without measuring."""
    running.take(20, windows=512)
    running.tick_after(601)
    assert running.upkeep.mix == BatchMix(batches={512: 300.0}, changed=1.0)
    assert mix_file(tmp_path, "pump").exists()
    assert running.asked_anew == [False]
    assert running.engine.score(WINDOWS).provider == "cpu"


def test_nothing_happens_before_it_is_due(running: _Running) -> None:
    """A tick on the loop costs nothing."""
    running.take(5000)
    running.tick_after(599)
    assert running.asked_anew == []


def test_the_same_mix_does_not_choose_again(running: _Running) -> None:
    """Three ticks on a steady stream ask once."""
    for _ in range(3):
        running.take(20, windows=512)
        running.tick_after(601)
    assert running.asked_anew == [False]


def test_a_provider_that_failed_is_not_taken_back_by_the_mix(running: _Running) -> None:
    """Only a new measurement clears it."""
    running.engine.failed["cpu"] = "device lost"
    running.take(20, windows=512)
    running.tick_after(601)
    assert running.engine.score(WINDOWS).provider == "openvino"


def unsettled(bundle: Bundle) -> Choice:
    """As a start has it that knew nothing."""
    return msgspec.structs.replace(choice_of(bundle, "openvino"), settled=False)


def test_what_a_start_left_open_is_found_out_beside_the_loop(bundle: Bundle, tmp_path: Path) -> None:
    """On the first tick, once; the winner takes over."""
    running = _Running(bundle, tmp_path, unsettled(bundle))
    running.tick_after(0)
    assert running.engine.describe()["settled"] is False
    running.tick_after(0)
    assert running.asked_anew == [False]
    assert running.engine.describe()["settled"] is True
    assert running.engine.score(WINDOWS).provider == "cpu"


def test_a_winner_that_does_not_load_in_the_agent_gives_way_to_the_next(bundle: Bundle, tmp_path: Path) -> None:
    """And where that is what runs, it stays; the choice is settled either way."""
    for ranking, runs in ((("cuda", "cpu", "openvino"), "cpu"), (("cuda", "openvino", "cpu"), "openvino")):
        running = _Running(bundle, tmp_path, unsettled(bundle), cuda=-1)
        running.next_choice = choice_of(bundle, *ranking)
        running.tick_after(0)
        running.tick_after(0)
        assert running.engine.choice is running.next_choice
        assert running.engine.score(WINDOWS).provider == runs


def test_a_choice_that_failed_is_made_again(bundle: Bundle, tmp_path: Path) -> None:
    """A disk that was full for a while; ten minutes later, then after twice that."""
    running = _Running(bundle, tmp_path, unsettled(bundle))
    running.problem = OSError("no space left on device")
    for seconds in (0, 599, 1, 1199, 1):
        running.tick_after(seconds)
    assert running.asked_anew == [False] * 3
    running.problem = None
    running.tick_after(2400)
    running.tick_after(0)
    assert running.engine.describe()["settled"] is True


def test_the_first_choice_stays_when_it_was_the_best(bundle: Bundle, tmp_path: Path) -> None:
    """Without being loaded again, also while nothing comes to be scored."""
    running = _Running(bundle, tmp_path, unsettled(bundle))
    running.next_choice = choice_of(bundle, "openvino", "cpu")
    running.tick_after(0)
    running.tick_after(0)
    assert running.engine.choice is running.next_choice
    assert running.engine.current.rounds


def test_a_choice_that_is_being_made_is_let_go_of_at_a_stop(bundle: Bundle, tmp_path: Path) -> None:
    """Nobody waits for a provider that hangs."""
    running = _Running(bundle, tmp_path, unsettled(bundle))
    running.is_hanging = True
    running.upkeep.tick()
    running.upkeep.stop()
    running.upkeep.wait(10)
    assert running.engine.choice.provider == "openvino"
    assert not running.upkeep.is_choosing
