"""The part of the tour, and the example bundle, that need TensorFlow: by `make test-tensorflow`."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_bundles import CARDS, build_twice
from tour import SECTIONS, TOUR, first_block, follow, run_python


def test_the_tour_of_keras_ends_in_alerts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is trained and saved there is packed by the line that stands there, and alerts on the faults."""
    monkeypatch.chdir(tmp_path)
    run_python(first_block(TOUR, "python"), tmp_path)
    follow(SECTIONS["Keras"], tmp_path)


def test_the_example_is_built_again(tmp_path: Path) -> None:
    """As those of test_models.py."""
    (card,) = (card for card in CARDS if card.parent.name == "shuttle_keras")
    build_twice(card, tmp_path)
