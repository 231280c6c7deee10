"""Candidates are proven in real child processes, and none that misbehaves is ever chosen or takes the agent down."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from bad_providers import TESTS_DIR, bad, found
from fakes import write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.cli import main
from edge_agent.config import EngineSection
from edge_agent.engine.child import Limits
from edge_agent.engine.evidence import Candidate
from edge_agent.engine.golden import Verdict
from edge_agent.engine.measuring import measure
from edge_agent.engine.mix import BATCH_SIZES, DEFAULT_MIX
from edge_agent.engine.providers import PROVIDERS, Provider
from edge_agent.engine.selection import choose_provider
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
        ("Liar", Verdict.WRONG, "wrong scores in a batch of 24: off by 0.03"),
        ("LiarInBatches", Verdict.WRONG, "wrong scores in a batch of 512"),
        ("NotANumber", Verdict.NOT_A_NUMBER, "score in a batch of 24: 1 of 24 no number"),
        ("FixedBatch", Verdict.SHAPE, "score has shape (24,) for a batch of 1, expected (1,)"),
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
    assert candidate.reason == "hung: no answer in 2 s"
    assert time.monotonic() - started < 10


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
        EngineSection(),
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
        choose_provider(lying, EngineSection(), state_dir=None)


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
