"""Every engine keeps the contract of `Engine`, the fake one included."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fakes import FakeEngine, canonical_model, model_with_a_scan
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

from edge_agent.engine.providers import Provider, available_providers
from edge_agent.engine.session import OrtEngine
from edge_agent.errors import BundleError, EngineError
from edge_agent.messages.scores import Engine

NAMES = ["fake", *(provider.name for provider in available_providers())]


@pytest.fixture(params=NAMES)
def engine(request: pytest.FixtureRequest) -> Engine:
    if request.param == "fake":
        return FakeEngine()
    provider = next(p for p in available_providers() if p.name == request.param)
    return OrtEngine(canonical_model(channels=2, window=3), provider)


@pytest.mark.parametrize("batch", [1, 2, 64])
def test_a_batch_gives_a_score_for_each_window(engine: Engine, batch: int) -> None:
    """Of float32, with one contribution for each channel."""
    windows = np.random.default_rng(0).standard_normal((batch, 3, 2)).astype(np.float32)
    scores = engine.score(windows)
    assert scores.score.shape == (batch,)
    assert scores.score.dtype == np.float32
    assert scores.contributions is not None
    assert scores.contributions.shape == (batch, 2)
    assert (scores.contributions >= 0).all()


def test_a_window_scores_the_same_alone_and_in_a_batch(engine: Engine) -> None:
    """Within float32's rounding."""
    windows = np.random.default_rng(1).standard_normal((16, 3, 2)).astype(np.float32)
    together = engine.score(windows).score
    alone = np.concatenate([engine.score(windows[i : i + 1]).score for i in range(16)])
    np.testing.assert_allclose(alone, together, rtol=1e-5)


def test_larger_readings_score_higher(engine: Engine) -> None:
    """Higher is more anomalous."""
    small, large = np.full((1, 3, 2), 1, np.float32), np.full((1, 3, 2), 5, np.float32)
    assert engine.score(large).score[0] > engine.score(small).score[0]


@pytest.mark.parametrize("provider", available_providers(), ids=lambda provider: provider.name)
def test_a_batch_is_never_written_into(provider: Provider) -> None:
    """Not by a later run either: the windows may share memory with what is kept of an asset."""
    engine = OrtEngine(model_with_a_scan(), provider)
    random = np.random.default_rng(0)
    batches = [random.standard_normal((16, 1, 8)).astype(np.float32) for _ in range(4)]
    before = [batch.copy() for batch in batches]
    for batch in batches:
        engine.score(batch)
    for batch, kept in zip(batches, before, strict=True):
        np.testing.assert_array_equal(batch, kept)


@pytest.mark.parametrize("provider", available_providers(), ids=lambda provider: provider.name)
def test_a_model_that_is_not_canonical_is_refused(provider: object) -> None:
    """With what was found."""
    from fakes import autoencoder

    model = autoencoder(values=4, hidden=2).SerializeToString()
    with pytest.raises(BundleError, match="expected float32 'readings'"):
        OrtEngine(model, provider)  # type: ignore[arg-type]


@pytest.mark.parametrize("provider", available_providers(), ids=lambda provider: provider.name)
def test_what_the_runtime_refuses_is_an_engine_error(provider: object) -> None:
    """Not one of the runtime's own exceptions."""
    with pytest.raises(EngineError, match="cannot load the model"):
        OrtEngine(b"no model", provider)  # type: ignore[arg-type]


@pytest.mark.parametrize("provider", available_providers(), ids=lambda provider: provider.name)
def test_a_provider_that_fails_while_it_runs_is_told_and_not_replaced(provider: Provider) -> None:
    """The runtime would go on with the CPU by itself, and only its standard output would know."""

    class Failing:
        """The real session, which the runtime's Python layer may ask anything, but for its `run`."""

        def __init__(self, real: Any) -> None:
            self._real = real

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

        def run(self, *_: object) -> None:
            raise EPFail("the device is gone")

    engine = OrtEngine(canonical_model(channels=2, window=3), provider)
    before = engine._session.get_providers()
    engine._session._sess = Failing(engine._session._sess)
    with pytest.raises(EngineError, match="the device is gone"):
        engine.score(np.zeros((1, 3, 2), np.float32))
    assert engine._session.get_providers() == before
