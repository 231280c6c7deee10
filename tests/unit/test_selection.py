"""The choice of a provider, with candidates that lie, hang, crash or are slow."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fakes import write_bundle

from edge_agent.bundle import Bundle, open_bundle
from edge_agent.engine import selection
from edge_agent.engine.probe import ProbeResult, probe_provider
from edge_agent.engine.providers import PROVIDERS
from edge_agent.engine.selection import choose_provider
from edge_agent.errors import ProviderError


def result(name: str, *, us: float = 10.0, qualified: bool = True, reason: str = "") -> ProbeResult:
    return ProbeResult(
        provider=name,
        qualified=qualified,
        reason=reason,
        batch_us={"1": us, "8": us, "64": us} if qualified else {},
    )


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return open_bundle(write_bundle(tmp_path / "square-1.0.0.edge"))


@pytest.fixture
def three_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    present = [PROVIDERS[name] for name in ("cpu", "openvino", "cuda")]
    monkeypatch.setattr(selection, "available_providers", lambda: present)


@pytest.mark.usefixtures("three_providers")
@pytest.mark.parametrize(
    ("times_us", "chosen"),
    [
        ({"cpu": 10, "openvino": 50, "cuda": 50}, "cpu"),
        ({"cpu": 50, "openvino": 10, "cuda": 20}, "openvino"),
        ({"cpu": 10.3, "openvino": 10, "cuda": 10}, "cpu"),  # within 5 %: the one with fewer moving parts
        ({"cpu": 50, "openvino": None, "cuda": 20}, "cuda"),
    ],
)
def test_the_fastest_provider_that_is_right_is_chosen(
    bundle: Bundle, times_us: dict[str, float | None], chosen: str
) -> None:
    """A provider with wrong scores is never chosen, however fast."""

    def prober(_bundle: Bundle, name: str, _threads: int) -> ProbeResult:
        us = times_us[name]
        return result(name, us=us) if us else result(name, qualified=False, reason="wrong scores")

    choice = choose_provider(bundle, wanted="auto", threads=1, state_dir=None, prober=prober)
    assert choice.provider == chosen
    assert len(choice.candidates) == 3


@pytest.mark.usefixtures("three_providers")
def test_no_right_provider_is_an_error_with_every_reason(bundle: Bundle) -> None:
    """The operator learns what was tried."""

    def prober(_bundle: Bundle, name: str, _threads: int) -> ProbeResult:
        return result(name, qualified=False, reason=f"{name} is broken")

    with pytest.raises(ProviderError, match=r"cpu: cpu is broken; openvino: openvino is broken; cuda: cuda is broken"):
        choose_provider(bundle, wanted="auto", threads=1, state_dir=None, prober=prober)


@pytest.mark.usefixtures("three_providers")
@pytest.mark.parametrize(
    ("wanted", "problem"), [("cpuu", "is not known; known: auto, cpu"), ("tensorrt", "is not in this install")]
)
def test_a_provider_that_is_not_there_is_told(bundle: Bundle, wanted: str, problem: str) -> None:
    """With what there is."""
    with pytest.raises(ProviderError, match=problem):
        choose_provider(bundle, wanted=wanted, threads=1, state_dir=None)


@pytest.mark.usefixtures("three_providers")
def test_a_choice_is_remembered_until_something_changes(bundle: Bundle, tmp_path: Path) -> None:
    """The second start measures nothing; another number of threads measures anew."""
    tried: list[str] = []

    def prober(_bundle: Bundle, name: str, _threads: int) -> ProbeResult:
        tried.append(name)
        return result(name)

    first = choose_provider(bundle, wanted="auto", threads=1, state_dir=tmp_path, prober=prober)
    second = choose_provider(bundle, wanted="auto", threads=1, state_dir=tmp_path, prober=prober)
    assert (first.remembered, second.remembered, len(tried)) == (False, True, 3)
    assert second.provider == first.provider
    choose_provider(bundle, wanted="auto", threads=2, state_dir=tmp_path, prober=prober)
    assert len(tried) == 6


@pytest.mark.usefixtures("three_providers")
def test_a_damaged_memory_is_measured_again(bundle: Bundle, tmp_path: Path) -> None:
    """It never stops a start."""
    choose_provider(bundle, wanted="auto", threads=1, state_dir=tmp_path, prober=lambda _b, name, _t: result(name))
    (memory,) = tmp_path.glob("provider-*.json")
    memory.write_text("{")
    choice = choose_provider(
        bundle, wanted="auto", threads=1, state_dir=tmp_path, prober=lambda _b, name, _t: result(name)
    )
    assert not choice.remembered


def test_a_provider_is_proven_in_a_process_of_its_own(bundle: Bundle) -> None:
    """For real: the CPU provider meets the golden scores, and its times are measured."""
    choice = choose_provider(bundle, wanted="cpu", threads=1, state_dir=None)
    (candidate,) = choice.candidates
    assert candidate.qualified
    assert set(candidate.batch_us) == {"1", "8", "64"}


def test_a_provider_with_wrong_scores_is_refused(tmp_path: Path) -> None:
    """Golden scores that the provider does not meet, by 2 %."""
    lying = open_bundle(write_bundle(tmp_path / "lying-1.0.0.edge", golden_factor=1.02))
    found = probe_provider(lying, "cpu", 1)
    assert not found.qualified
    assert "wrong scores: off by 0.01" in found.reason


def test_a_process_that_crashes_is_a_reason_and_no_end(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    """The child is replaced by one that aborts."""
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ProviderError, match="cpu: crashed with exit code 1"):
        choose_provider(bundle, wanted="cpu", threads=1, state_dir=None)
