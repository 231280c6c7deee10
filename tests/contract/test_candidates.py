"""Candidates are proven in real child processes, and none that misbehaves is ever chosen or takes the agent down."""

from __future__ import annotations

import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from bad_providers import TESTS_DIR, bad, found
from fakes import write_bundle
from processes import wait_until

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.child_process import ChildEndedError, ChildProcess, Stopped
from edge_agent.cli import main
from edge_agent.engine.choice import discovery, measuring
from edge_agent.engine.choice.batch_mix import BATCH_SIZES, DEFAULT_MIX
from edge_agent.engine.choice.choose import choose_provider
from edge_agent.engine.choice.evidence import Candidate
from edge_agent.engine.choice.measuring import Observer, measure, prove_each
from edge_agent.engine.choice.probe_child import Limits
from edge_agent.engine.golden import Verdict
from edge_agent.engine.providers import PROVIDERS, SAFEST, Provider
from edge_agent.engine.settings import EngineSettings
from edge_agent.errors import ProviderError


@pytest.fixture(autouse=True)
def _children_find_the_bad_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", TESTS_DIR)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))


def tried(bundle: Bundle, provider: Provider, limits: Limits | None = None) -> Candidate:
    (candidate,) = measure(bundle, found(provider), 1, DEFAULT_MIX, None, limits=limits, prove_only=True)
    return candidate


@pytest.mark.parametrize(
    ("kind", "verdict", "reason"),
    [
        ("Liar", Verdict.WRONG, "wrong scores in a batch of 1: off by 0.0151"),
        ("LiarInBatches", Verdict.WRONG, "wrong scores in a batch of 512"),
        ("NotANumber", Verdict.NOT_A_NUMBER, "score in a batch of 1: 1 of 1 no number"),
        ("FixedBatch", Verdict.SHAPE, "score has shape (1,) for a batch of 3, expected (3,)"),
        ("Aborter", Verdict.CRASHED, "crashed with signal SIGABRT driver: assertion failed"),
        ("Segfaulter", Verdict.CRASHED, "crashed with signal SIGSEGV"),
        ("Idler", Verdict.ELSEWHERE, "all 3 nodes run on SomeOtherExecutionProvider: idler would do nothing"),
        ("Sharer", Verdict.QUALIFIED, "1 of 3 nodes run on SomeOtherExecutionProvider"),
        ("Honest", Verdict.QUALIFIED, "golden scores met within"),
    ],
)
def test_what_a_candidate_does_is_its_verdict(bundle: Bundle, kind: str, verdict: Verdict, reason: str) -> None:
    """With the reason in numbers."""
    candidate = tried(bundle, bad(kind))
    assert candidate.verdict is verdict
    assert reason in candidate.reason


def test_a_candidate_that_hangs_is_ended_at_its_limit(bundle: Bundle) -> None:
    """And costs no more than that."""
    started = time.monotonic()
    candidate = tried(bundle, bad("Hanger"), Limits(load_s=2.0))
    assert candidate.verdict is Verdict.HUNG
    assert candidate.reason == "hung: no sign of life in 2 s"
    assert time.monotonic() - started < 10


def test_a_candidate_that_is_slow_does_not_hang(bundle: Bundle) -> None:
    """It takes longer than the limit and gives a sign of life after each batch; what would take too long is not run."""
    started = time.monotonic()
    candidate = tried(bundle, bad("Sluggish"), Limits(load_s=4.5))
    assert time.monotonic() - started > 4.5
    assert candidate.verdict is Verdict.QUALIFIED
    most = re.search(r"more than (\d+) windows at once would take over 3 s here: not tried", candidate.reason)
    assert most is not None
    assert 60 <= int(most[1]) <= 75


class Listener(Observer):
    """Notes the verdicts; gives up when told so."""

    def __init__(self, *, stop_after: int | None = None) -> None:
        self.verdicts: list[tuple[str, Verdict]] = []
        self._stop_after = stop_after

    def look(self) -> None:
        if self._stop_after is not None and len(self.verdicts) >= self._stop_after:
            raise Stopped

    def on_verdict(self, candidate: Candidate) -> None:
        self.verdicts.append((candidate.name, candidate.verdict))


def test_beside_one_that_does_not_answer_the_next_is_proven(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the order of the candidates is that of the discovery all the same."""
    monkeypatch.setattr(measuring, "_PATIENCE_S", 0.2)
    listener = Listener()
    devices = found(bad("Hanger"), PROVIDERS["cpu"])
    limits = Limits(load_s=4.0)
    candidates = measure(bundle, devices, 1, DEFAULT_MIX, None, listener, limits=limits, prove_only=True)
    assert listener.verdicts == [("cpu", Verdict.QUALIFIED), ("hanger", Verdict.HUNG)]
    assert [candidate.name for candidate in candidates] == ["hanger", "cpu"]


def test_the_child_of_one_that_is_refused_is_gone_with_its_verdict(bundle: Bundle) -> None:
    """It does not hold on to the device, nor take time, for as long as nobody else is right."""
    with ExitStack() as stack:
        coming = prove_each(stack, bundle, [bad("Hanger")], 1, None, Observer(), Limits(load_s=1.0))
        candidate, _child = next(coming)
        assert candidate.verdict is Verdict.HUNG
        assert probes() == set()


def test_without_room_for_a_process_the_processor_is_what_there_is_and_is_not_proven(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As under a limit of tasks: an answer with its reason, and no traceback."""

    def full(*_: object, **__: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", full)
    devices = discovery.discover()
    assert ([provider.name for provider in devices.providers], devices.complete) == ([SAFEST], False)
    (candidate,) = measure(bundle, devices, 1, DEFAULT_MIX, None)
    reason = "cannot be tried, no process can be started for it (Resource temporarily unavailable)"
    assert (candidate.verdict, candidate.reason) == (Verdict.OUT_OF_MEMORY, reason)


def test_a_child_takes_no_module_from_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An engineer's `random.py` beside the model, or another copy of this package."""
    for name in ("json.py", "random.py", "edge_agent.py"):
        (tmp_path / name).write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    found = discovery.discover()
    assert found.complete
    assert SAFEST in {provider.name for provider in found.providers}


def test_a_child_that_was_waited_for_is_not_killed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its number may be somebody else's; what it had started is ended before."""
    child = ChildProcess("edge_agent.engine.choice.probe")
    killed: list[int] = []
    kill = os.killpg

    def killpg(group: int, number: int) -> None:
        assert Path(f"/proc/{group}").exists(), "its number is still its own"
        killed.append(group)
        kill(group, number)

    monkeypatch.setattr(os, "killpg", killpg)
    os.kill(child.pid, signal.SIGKILL)
    for _ in range(2):
        with pytest.raises(ChildEndedError) as ended:
            child.answer(10.0)
        assert ended.value.code == -signal.SIGKILL
    for _ in range(2):
        child.close()
    assert killed == [child.pid]


def probes() -> set[int]:
    """Processes of this test's children that are there."""
    mark = f"PYTEST_CURRENT_TEST={os.environ['PYTEST_CURRENT_TEST']}".encode()
    there: set[int] = set()
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            command, environment = ((folder / name).read_bytes() for name in ("cmdline", "environ"))
        except OSError:
            continue
        if b"edge_agent.engine." in command and mark in environment:
            there.add(int(folder.name))
    return there


def test_a_stop_while_measuring_leaves_no_child(bundle: Bundle) -> None:
    """Whatever the children do."""
    started = time.monotonic()
    devices = found(bad("Aborter"), bad("Hanger"))
    with pytest.raises(Stopped):
        measure(bundle, devices, 1, DEFAULT_MIX, None, Listener(stop_after=1))
    assert time.monotonic() - started < 10
    assert probes() == set()


KILLED = """\
import sys
from pathlib import Path
from bad_providers import bad, found
from edge_agent.bundle import open_bundle
from edge_agent.engine.choice.measuring import measure
from edge_agent.engine.choice.batch_mix import DEFAULT_MIX
print("measuring", flush=True)
measure(open_bundle(Path(sys.argv[1])), found(bad("Hanger")), 1, DEFAULT_MIX, None)
"""


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_child_ends_with_its_parent(bundle: Bundle, how: signal.Signals) -> None:
    """Also one that hangs, and a parent that has no time to end it."""
    command = [sys.executable, "-c", KILLED, str(bundle.path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"measuring\n"
        wait_until(probes, what="a probe")
        parent.send_signal(how)
    wait_until(lambda: not probes(), 5, "the end of the probe")


def test_a_signal_to_the_whole_service_is_not_taken_for_a_crash() -> None:
    """A service manager sends SIGTERM to all processes at once; the agent's end is the children's."""
    with ChildProcess("edge_agent.engine.choice.probe") as child:
        blocked = int(re.findall(r"SigBlk:\s*(\w+)", Path(f"/proc/{child.pid}/status").read_text())[0], 16)
        assert all(blocked >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP))
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, set())


def test_a_candidate_that_takes_too_much_memory_is_ended(bundle: Bundle) -> None:
    """Before the machine has none left."""
    candidate = tried(bundle, bad("Glutton"), Limits(memory_bytes=300 << 20))
    assert candidate.verdict is Verdict.OUT_OF_MEMORY
    assert candidate.reason == "used more than 300 MiB of memory"


def test_a_limit_on_allocations_is_a_verdict_too(bundle: Bundle) -> None:
    """On the processor the kernel refuses what is above the limit, and the child says so."""
    glutton = Provider(name="glutton", ort_name="CPUExecutionProvider", engine="bad_providers:Glutton", host_only=True)
    candidate = tried(bundle, glutton, Limits(memory_bytes=300 << 20))
    assert candidate.verdict is Verdict.OUT_OF_MEMORY


def test_a_candidate_that_fails_while_it_is_timed_is_out(bundle: Bundle) -> None:
    """Though its scores were right."""
    candidates = measure(bundle, found(bad("Sprinter"), PROVIDERS["cpu"]), 1, DEFAULT_MIX, None)
    assert [candidate.verdict for candidate in candidates] == [Verdict.CRASHED, Verdict.QUALIFIED]
    assert candidates[0].reason.endswith("when it was timed")


def test_among_bad_ones_the_right_one_is_chosen(bundle: Bundle) -> None:
    """However many of the others there are."""
    kinds = ("Liar", "NotANumber", "Aborter", "FixedBatch")
    choice = choose_provider(
        bundle,
        EngineSettings(),
        state_dir=None,
        discover_with=lambda: found(*(bad(kind) for kind in kinds), PROVIDERS["cpu"]),
    )
    assert choice.provider == "cpu"
    assert [candidate.name for candidate in choice.ranking] == ["cpu"]
    assert set(choice.ranking[0].batch_us()) == set(BATCH_SIZES)
    assert choice.ranking[0].memory_bytes > 10 << 20
    assert "liar refused (wrong scores" in choice.reason


def test_wrong_golden_scores_refuse_every_provider(tmp_path: Path) -> None:
    """Golden scores that no provider of this device meets, by 2 %."""
    lying = open_bundle(write_bundle(tmp_path / "lying-1.0.0.edge", golden_factor=1.02))
    with pytest.raises(
        ProviderError, match=r"no provider gives the golden scores .* cpu: wrong scores .* off by 0.019"
    ):
        choose_provider(lying, EngineSettings(), state_dir=None)


def test_threads_are_candidates_up_to_the_limit_and_the_cores(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each number of threads is proven and timed by itself."""
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: range(3))
    candidates = measure(bundle, found(PROVIDERS["cpu"]), 4, DEFAULT_MIX, None, prove_only=True)
    assert [candidate.name for candidate in candidates] == ["cpu", "cpu x2", "cpu x3"]


def test_providers_shows_every_candidate_and_the_choice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a table, and as JSON from what the first call remembered."""
    config = tmp_path / "agent.toml"
    bundle = write_bundle(tmp_path / "square-1.0.0.edge")
    config.write_text(
        f'[agent]\nstate_dir = "{tmp_path}"\n[engine]\nrequire = "cpu"\n'
        f'[[stream]]\nname = "s"\nbundle = "{bundle}"\ntopic = "a/+/b"\n'
    )
    assert main(["providers", "--config", str(config)]) == 0
    table = capsys.readouterr().out
    assert "* cpu" in table
    assert "cuda" in table
    assert "chosen: cpu (measured now): cpu is required by [engine] require" in table
    assert main(["providers", "--json", "--config", str(config)]) == 0
    (stream,) = json.loads(capsys.readouterr().out)["streams"]
    assert stream["remembered"] is True
    assert set(stream["candidates"][0]["batch_us"]) == {"1", "8", "64", "512"}
    assert "cuda" in [absent["provider"] for absent in stream["absent"]]
