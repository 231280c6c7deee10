"""The example bundles are what their cards say: built again from the stored weights by the line that stands there."""

from __future__ import annotations

from pathlib import Path

import pytest
from example_bundles import CARDS, build_twice

# `make test-tensorflow` builds this one.
KERAS = "shuttle_keras"
HERE = [card for card in CARDS if card.parent.name != KERAS]


@pytest.mark.parametrize("card", HERE, ids=[card.parent.name for card in HERE])
def test_a_bundle_is_built_again(card: Path, tmp_path: Path) -> None:
    """The same bytes twice; and what is stored, up to what another CPU rounds otherwise."""
    build_twice(card, tmp_path)


def test_there_are_some_of_each_kind() -> None:
    """Each card says what it is of, and where it is blind; each bundle is there."""
    assert len(CARDS) >= 6
    for card in CARDS:
        text = card.read_text(encoding="utf-8")
        assert "river.datasets" in text
        assert "Trained on" in text
        assert (card.parent / f"{card.parent.name}-1.0.0.edge").is_file()
        assert (card.parent / "train.py").is_file()
