"""Which assets have metrics of their own, and for how long."""

from __future__ import annotations

import socket
import threading

import pytest

from edge_agent.messages.scores import AssetState, ScoreReport
from edge_agent.mqtt.address import Address
from edge_agent.outputs.metrics import Metrics


def make_report(asset: str, highest: float) -> ScoreReport:
    return ScoreReport(
        agent="g1",
        stream="pump",
        asset=asset,
        time="2026-11-21T10:15:30.250Z",
        since="2026-11-21T10:15:25.250Z",
        windows=5,
        score=highest,
        highest=highest,
        threshold=9.0,
        clear=4.0,
        state=AssetState.NORMAL,
        channels=[],
    )


class Scraped:
    """Metrics of two assets at most, told every 20 s."""

    def __init__(self) -> None:
        self.now_mono_s = 1000.0
        address = Address("127.0.0.1", 9464)
        self.metrics = Metrics(address, agent="g1", most_assets=2, interval_s=20.0, clock=lambda: self.now_mono_s)

    def tell(self, **scores: float) -> None:
        """An interval with these assets, the nearest to its limit first."""
        self.now_mono_s += 20.0
        for rank, (asset, highest) in enumerate(scores.items()):
            self.metrics.note_report(make_report(asset, highest), rank)

    def scores(self) -> dict[str, float]:
        return {
            sample.labels["asset"]: sample.value
            for metric in self.metrics._of_assets()
            for sample in metric.samples
            if metric.name == "edge_agent_asset_score"
        }


@pytest.fixture
def scraped() -> Scraped:
    return Scraped()


def test_an_asset_that_scores_now_and_then_stays(scraped: Scraped) -> None:
    """Also while others score, or none does."""
    scraped.tell(a1=8.0)
    scraped.tell(a2=7.0)
    scraped.tell()
    assert scraped.scores() == {"a1": 8.0, "a2": 7.0}
    scraped.tell(a1=3.0)
    assert scraped.scores() == {"a2": 7.0, "a1": 3.0}


def test_an_asset_that_is_not_heard_goes_away(scraped: Scraped) -> None:
    """After five intervals; also where it was the only one, so that no other takes its place."""
    scraped.tell(a1=8.0)
    for _ in range(5):
        scraped.tell()
    assert scraped.scores() == {"a1": 8.0}
    scraped.tell()
    assert scraped.scores() == {}


def test_no_more_assets_have_metrics_than_are_asked_for(scraped: Scraped) -> None:
    """Those that are nearest to their limits, of the last interval in which they scored."""
    scraped.tell(a1=8.0, a2=7.0, a3=6.0)
    assert scraped.scores() == {"a1": 8.0, "a2": 7.0}
    scraped.tell(a3=8.5, a1=8.0, a2=7.0)
    assert scraped.scores() == {"a3": 8.5, "a1": 8.0}


def test_listening_asks_no_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which a device may not reach: the loop would wait for an answer, and score nothing meanwhile."""
    asked: list[str] = []

    def getfqdn(name: str = "") -> str:
        asked.append(name)
        return name

    monkeypatch.setattr(socket, "getfqdn", getfqdn)
    metrics = Metrics(Address("0.0.0.0", 0), agent="g1", most_assets=0)
    server = metrics._make_server()
    server.server_close()
    assert asked == []


def test_a_system_without_a_thread_ends_no_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a while none can be started; each request that is answered at a time has its place again afterwards."""
    server = Metrics(Address("127.0.0.1", 0), agent="g1", most_assets=0)._make_server()
    started: list[object] = []

    def start(thread: threading.Thread) -> None:
        if len(started) < 10:
            started.append(thread)
            raise RuntimeError("can't start new thread")
        started.append(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    for _ in range(11):
        one, other = socket.socketpair()
        with one, other:
            server.process_request(one, "")
    server.server_close()
    assert len(started) == 11
