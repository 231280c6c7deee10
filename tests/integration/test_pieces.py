"""A model in pieces answers as it does in one."""

from __future__ import annotations

from pathlib import Path

import pytest
from zoo import ZOO, build

from edgetool.graph.pieces import cut
from edgetool.graph.repairs import repair
from edgetool.graph.weights import WeightStore
from edgetool.precision.storage import store_weights
from edgetool.verify.drift import compare_answers
from edgetool.verify.workbench import Workbench


@pytest.mark.parametrize("name", sorted(ZOO))
def test_pieces_answer_as_the_whole(name: str, tmp_path: Path) -> None:
    """With a cut at every weight: subgraphs keep what they capture, constants stay constant in each piece."""
    made = build(name)
    store = WeightStore(tmp_path)
    model, _ = repair(made.model, store, fed=set(made.samples[0]))
    store_weights(model, store)
    whole = store.save(model, "whole.onnx")
    with Workbench(tmp_path, made.samples) as bench:
        expected = bench.run(whole)
        pieces = cut(whole, store, limit_bytes=1)
        found = bench.run_pieces(pieces, list(expected[0]), "cpu")
    # A cut ends fusions, and rounds a tensor that is float16, which the CPU provider keeps in float32 otherwise.
    assert max(drift.drift for drift in compare_answers(expected, found)) < 1e-3


def test_a_chain_is_cut_at_its_weights(tmp_path: Path) -> None:
    """Two products whose matrices are too large together are two pieces; a model that fits is none."""
    store = WeightStore(tmp_path)
    model, _ = repair(build("mlp").model, store, fed={"x"})
    whole = store.save(model, "whole.onnx")
    assert len(cut(whole, store, limit_bytes=9000)) == 2
    assert cut(whole, store) == [whole]
