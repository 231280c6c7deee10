"""Step functions of columns become one operator that steps where they do."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.engine.providers import import_runtime
from edge_agent.errors import ConversionError
from edgetool.frameworks import stairs
from edgetool.frameworks.made import empty_model, finish_model
from edgetool.frameworks.parts import Graph
from edgetool.frameworks.stairs import Stairs
from edgetool.graph.nodes import Nodes

Values = NDArray[np.float64]


def answers(made: Stairs, readings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Of a model with one column."""
    model = empty_model(1)
    nodes = Nodes(model)
    finish_model(model, nodes, {"y": (made.append(Graph(nodes), "x"), 0)})
    session = import_runtime().InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found: NDArray[np.float32] = session.run(None, {"x": readings[:, np.newaxis]})[0]
    return found


def test_each_float32_number_gets_the_step_that_it_is_on() -> None:
    """Where a value steps at it and behind it, at numbers that float32 has, and at some that it has not."""
    places = np.array([-7.25, 0.1, 0.3, 101325.004, 3.0])

    def count(x: Values) -> Values:
        values = np.sort(places)
        return 1.0 * np.searchsorted(values, x, side="right") + 10.0 * np.searchsorted(values, x, side="left")

    made = Stairs("test", None)
    made.add(0, count, places)
    around = places.astype(np.float32).view(np.int32)[:, np.newaxis] + np.arange(-3, 4, dtype=np.int32)
    readings = np.concatenate([around.view(np.float32).ravel(), np.array([-1e30, 0, 50, 1e30], np.float32)])
    np.testing.assert_allclose(answers(made, readings), count(readings.astype(np.float64)), atol=1e-5)


def test_a_place_that_is_a_little_off_does_no_harm() -> None:
    """The step is then where the place is, not gone; also the only one, beyond which nothing else is asked."""
    made = Stairs("test", None)
    made.add(0, lambda x: np.where(x > 5.0, 2.0, 1.0), np.array([5.0001]))
    found = answers(made, np.array([-1e30, 4.0, 5.01, 1e30], np.float32))
    np.testing.assert_array_equal(found, [1, 1, 2, 2])


def test_more_steps_than_a_model_should_hold_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the way out."""
    monkeypatch.setattr(stairs, "_MOST_STEPS", 10)
    values = np.linspace(0, 1, 50)
    with pytest.raises(ConversionError, match=r"PyOD's ECOD: .* more than 10 in all; train it on fewer rows"):
        Stairs("ECOD", None).add(0, lambda x: np.searchsorted(values, x).astype(np.float64), values)
