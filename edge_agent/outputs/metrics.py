"""What Prometheus scrapes: the last health message as metrics, on a thread that asks nothing of the loop."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any

from edge_agent.errors import MissingExtraError
from edge_agent.messages.scores import ScoreReport
from edge_agent.mqtt.address import Address
from edge_agent.outputs.metric_table import INFO, LABELLED, OF_AGENT, OF_STREAM, SUMMARY, Row

if TYPE_CHECKING:
    from prometheus_client.core import Metric

__all__ = ["Metrics"]

log = logging.getLogger(__name__)

_PATH = "/metrics"
_TIMEOUT_S = 5.0
"""Of each read and write: who asks and says no more must not hold a thread for ever."""
_POLL_S = 0.1
"""How soon it ends when it is asked to."""
_AT_ONCE = 4
"""Requests that are answered at a time; others are closed."""
_INTERVALS, _LEAST_S = 5, 60.0
"""An asset of which nothing was told for so many intervals, a minute at least, has no metrics any more: its last score
says nothing of now. Prometheus scrapes every 15 s or so, and an asset need not score in each interval.
"""


class Metrics:
    """The metrics of one agent, and the server that gives them. Health is told on the loop's thread.

    Args:
        address: where to listen.
        agent: its id.
        most_assets: assets of which there are metrics at most.
        interval_s: time between two reports of an asset, seconds.
        clock: monotonic seconds.

    Raises:
        MissingExtraError: prometheus-client is not installed.
    """

    def __init__(
        self,
        address: Address,
        *,
        agent: str,
        most_assets: int,
        interval_s: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        try:
            from prometheus_client import core
        except ImportError as exc:
            raise MissingExtraError("prometheus-client", "metrics") from exc
        self._core = core
        self._address = address
        self._agent = agent
        self._most_assets = most_assets
        self._kept_s = max(_LEAST_S, _INTERVALS * interval_s)
        self._clock = clock
        self._server: ThreadingHTTPServer | None = None
        self._problem = ""
        # It is replaced whole, never changed: the server's threads read it.
        self._health: Mapping[str, Any] = {}
        self._reports: dict[tuple[str, str], tuple[float, ScoreReport]] = {}
        """When the last report of an asset came, monotonic, and that report; the one that came last is last."""

    def note_health(self, health: Mapping[str, Any]) -> None:
        """Take what the next health message says; and listen, where that was not possible so far."""
        connections = [health[key] for key in ("broker", "alerts_broker") if key in health]
        node = health.get("sparkplug_node")
        self._health = {
            "evidence": None,
            **health,
            "connected": all(each["state"] == "connected" for each in connections),
            "sparkplug_connected": None if node is None else node["state"] == "connected",
        }
        if self._server is None:
            self._listen()

    def note_report(self, report: ScoreReport, rank: int) -> None:
        """Take what an asset scored.

        Args:
            report: as it is published.
            rank: its place among those of the interval, from 0 on.
        """
        if rank >= self._most_assets:
            return
        key = (report.stream, report.asset)
        self._reports.pop(key, None)
        self._reports[key] = self._clock(), report
        if len(self._reports) > self._most_assets:
            del self._reports[next(iter(self._reports))]

    def close(self) -> None:
        """Listen no longer."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()

    def collect(self) -> Iterator[Metric]:
        """All metrics, as prometheus-client asks for them. Called on the server's threads."""
        health = self._health
        if not health:
            return
        streams: Mapping[str, Mapping[str, Any]] = health["streams"]
        yield self._info(health, streams)
        yield from self._plain(OF_AGENT, [({}, health)])
        yield from self._plain(OF_STREAM, [({"stream": name}, told) for name, told in streams.items()])
        for row, label, keys in LABELLED:
            samples = [
                ({"stream": name, label: value}, count)
                for name, told in streams.items()
                for value, count in _labelled(told, row.key, keys)
            ]
            yield self._metric(row, samples)
        yield self._summary(health["latency"])
        yield from self._of_assets()

    def _plain(self, rows: tuple[Row, ...], of: list[tuple[dict[str, str], Mapping[str, Any]]]) -> Iterator[Metric]:
        for row in rows:
            found = [(labels, row.number(_at(told, row.key))) for labels, told in of]
            yield self._metric(row, [(labels, value) for labels, value in found if value is not None])

    def _metric(self, row: Row, samples: list[tuple[dict[str, str], float]]) -> Metric:
        metric = self._core.Metric(row.name, row.text, row.kind)
        for labels, value in samples:
            metric.add_sample(f"{row.name}_total" if row.kind == "counter" else row.name, labels, value)
        return metric

    def _info(self, health: Mapping[str, Any], streams: Mapping[str, Mapping[str, Any]]) -> Metric:
        metric = self._core.Metric(INFO.name, INFO.text, "gauge")
        agent = {"agent": self._agent, "version": health["version"]}
        for name, told in streams.items():
            model = {"model": told["model"]["name"], "model_version": told["model"]["version"]}
            metric.add_sample(INFO.name, {**agent, "stream": name, "provider": told["provider"], **model}, 1.0)
        return metric

    def _summary(self, latency: Mapping[str, float | None]) -> Metric:
        metric = self._core.Metric(SUMMARY.name, SUMMARY.text, "summary")
        for quantile, key in (("0.5", "p50_ms"), ("0.99", "p99_ms")):
            if (value := latency[key]) is not None:
                metric.add_sample(SUMMARY.name, {"quantile": quantile}, value / 1e3)
        metric.add_sample(f"{SUMMARY.name}_sum", {}, latency["sum_s"] or 0.0)
        metric.add_sample(f"{SUMMARY.name}_count", {}, latency["count"] or 0)
        return metric

    def _of_assets(self) -> Iterator[Metric]:
        if not self._most_assets:
            return
        since_mono_s = self._clock() - self._kept_s
        # A copy is made in one step, while the loop's thread changes nothing.
        reports = {key: report for key, (at, report) in self._reports.copy().items() if at >= since_mono_s}
        for key, text in (("highest", "Highest score of its last interval."), ("threshold", "Alarm limit.")):
            row = Row(key, f"edge_agent_asset_score{'' if key == 'highest' else '_limit'}", "gauge", text)
            samples = [
                ({"stream": stream, "asset": asset}, value)
                for (stream, asset), report in reports.items()
                if (value := getattr(report, key)) is not None
            ]
            yield self._metric(row, samples)

    # The server -------------------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            self._server = self._make_server()
        except OSError as exc:
            # Another agent has the port, or the address is not there yet: no reason not to score.
            if str(exc) != self._problem:
                self._problem = str(exc)
                log.warning("metrics cannot be given, trying again listen=%s error=%s", self._address, exc)
            return
        arguments = {"poll_interval": _POLL_S}
        serve = self._server.serve_forever
        threading.Thread(target=serve, kwargs=arguments, name="edge-agent.metrics", daemon=True).start()
        log.info("metrics are given listen=%s path=%s", self._address, _PATH)

    def _make_server(self) -> ThreadingHTTPServer:
        from prometheus_client.exposition import MetricsHandler, choose_encoder

        room = threading.Semaphore(_AT_ONCE)

        class Handler(MetricsHandler):
            """Answers on one path; the library's own answers on every."""

            timeout = _TIMEOUT_S
            registry = self

            def do_GET(self) -> None:  # noqa: N802 - the name is the library's
                if self.path.partition("?")[0] != _PATH:
                    self.send_error(HTTPStatus.NOT_FOUND, explain=f"metrics are at {_PATH}")
                    return
                try:
                    choose_encoder(self.headers.get("Accept", ""))
                except (TypeError, ValueError):  # the library's way to say that a version is none
                    self.send_error(HTTPStatus.NOT_ACCEPTABLE)
                    return
                # Whoever asks for a part of them (`name[]`) gets all: only a registry of the library's can choose.
                self.path = _PATH
                super().do_GET()

        class Server(ThreadingHTTPServer):
            """Has a bounded number of threads."""

            daemon_threads = True
            address_family = socket.AF_INET6 if ":" in self._address.host else socket.AF_INET

            def server_bind(self) -> None:
                # The library's own asks DNS for a name that nobody needs, and the loop would wait for the answer.
                TCPServer.server_bind(self)

            def process_request(self, request: Any, client_address: Any) -> None:
                if room.acquire(blocking=False):
                    try:
                        super().process_request(request, client_address)
                    except RuntimeError:  # the system has no thread for it just now
                        room.release()
                        self.shutdown_request(request)
                else:
                    self.shutdown_request(request)

            def process_request_thread(self, request: Any, client_address: Any) -> None:
                try:
                    with suppress(OSError):  # the client is gone
                        self.finish_request(request, client_address)
                finally:
                    # Before the end of the answer is seen: who asks one after the other must find room.
                    room.release()
                    self.shutdown_request(request)

        return Server(self._address, Handler)


def _at(told: Mapping[str, Any], key: str) -> Any:
    """The value under a path of keys with dots; None where it is null, or what it would be in is."""
    found: Any = told
    for name in key.split("."):
        found = None if found is None else found[name]
    return found


def _labelled(told: Mapping[str, Any], key: str, keys: tuple[str, ...]) -> Iterator[tuple[str, float]]:
    """Label and number of each sample: of these keys, or without any of all that is under one."""
    if keys:
        yield from ((name, told[count]) for name, count in (each.split("=") for each in keys))
    else:
        yield from told[key].items()
