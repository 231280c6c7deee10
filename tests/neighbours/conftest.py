"""A broker for each test, with everything it needs in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fakes import write_bundle
from processes import Broker, Sender, Subscriber


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path / "broker") as running:
        yield running


@pytest.fixture
def subscriber(broker: Broker) -> Iterator[Subscriber]:
    with Subscriber(broker.port) as running:
        yield running


@pytest.fixture
def sender(broker: Broker) -> Iterator[Sender]:
    with Sender(broker.port) as running:
        yield running


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Scores c1² + c2²; an alert from 9 on, cleared below 4."""
    return write_bundle(tmp_path / "square-1.0.0.edge")
