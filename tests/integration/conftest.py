"""A broker for each test, with everything it needs in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fakes import write_bundle
from processes import Broker, Sender, Subscriber

if TYPE_CHECKING:
    from browser import Browser, Dashboard


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


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """One browser for all tests of a module, because it takes seconds to start."""
    from browser import Browser

    with Browser() as running:
        yield running


@pytest.fixture
def browser(window: Browser) -> Browser:
    """With an empty page, which has asked for nothing."""
    window.open("about:blank")
    window.forget()
    return window


@pytest.fixture
def dashboard(window: Browser, broker: Broker, tmp_path: Path) -> Iterator[Dashboard]:
    from browser import Dashboard

    with Dashboard(broker.port, "--history", tmp_path / "history.db") as running:
        yield running
        # A page that is left there would ask on for what has gone, and complain in the next test.
        window.open("about:blank")
        if running.process is not None:
            running.stop()
