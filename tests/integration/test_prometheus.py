"""`[metrics]`: a real Prometheus scrapes a real agent, and evaluates our rules and our dashboard."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fakes import write_bundle
from processes import Agent, Broker, Sender, Subscriber, free_port, program, run_tool, wait_until, write_config

INTEGRATIONS = Path(__file__).parents[2] / "docs" / "integrations"
RULES = INTEGRATIONS / "prometheus-alerts.yml"
DASHBOARD = INTEGRATIONS / "grafana-dashboard.json"
METRIC = re.compile(r"edge_agent_\w+")


def fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


class Prometheus:
    """A real one, that scrapes every half second."""

    def __init__(self, folder: Path, target: int) -> None:
        self.port = free_port()
        self._config = folder / "prometheus.yml"
        self._config.write_text(
            "global: {scrape_interval: 500ms, evaluation_interval: 500ms}\n"
            f"rule_files: [{RULES}]\n"
            f"scrape_configs: [{{job_name: edge-agent, static_configs: [{{targets: ['127.0.0.1:{target}']}}]}}]\n"
        )
        self._folder = folder

    def get(self, path: str, **parameters: str) -> Any:
        query = urllib.parse.urlencode(parameters)
        answer = json.loads(fetch(f"http://127.0.0.1:{self.port}/api/v1/{path}?{query}"))
        assert answer["status"] == "success"
        return answer["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.get("query", query=expression)["result"]
        return found

    def names(self) -> set[str]:
        return {*self.get("label/__name__/values")}

    @contextmanager
    def running(self) -> Iterator[Prometheus]:
        options = [f"--config.file={self._config}", f"--storage.tsdb.path={self._folder / 'tsdb'}"]
        options.append(f"--web.listen-address=127.0.0.1:{self.port}")
        log = (self._folder / "prometheus.log").open("wb")
        with log, subprocess.Popen([program("prometheus"), *options], stdout=log, stderr=log) as process:
            try:
                wait_until(self._is_up, what=f"prometheus; see {log.name}")
                yield self
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(timeout=20)

    def _is_up(self) -> bool:
        try:
            return "Ready" in fetch(f"http://127.0.0.1:{self.port}/-/ready")
        except (OSError, urllib.error.URLError):
            return False


CALIBRATION = {"rows": 100, "false_alarm_rate": 0.001, "quantiles": {f"{n / 10:g}": n / 10 for n in range(1, 10)}}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """One that knows how its scores were spread, so that drift is watched."""
    return write_bundle(tmp_path / "square-1.0.0.edge", changes={"calibration": CALIBRATION})


def metrics_config(folder: Path, broker: Broker, bundle: Path, port: int, extra: str = "") -> Path:
    extra = f'[metrics]\nlisten = "127.0.0.1:{port}"\n{extra}'
    return write_config(
        folder, broker.port, {"pump": bundle, "fan": bundle}, extra=extra, stream="[stream.drift]\nblock = 100"
    )


def test_a_prometheus_scrapes_what_our_rules_and_dashboard_ask_for(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, sender: Sender, bundle: Path
) -> None:
    """Each expression gives an answer, and names metrics that are there; a rule fires when the agent is gone."""
    port = free_port()
    extra = "most_assets = 2\n[publish]\nscores = '0.5s'\n[sparkplug]\ngroup = 'plant'\n[evidence]\nbefore_s = 5"
    prometheus = Prometheus(tmp_path, port)
    with prometheus.running(), Agent(metrics_config(tmp_path, broker, bundle, port, extra)) as agent:
        subscriber.wait_online()

        def send(rounds: range) -> None:
            for number in rounds:
                for asset, value in (("a1", 9.0 * (number % 2)), ("a2", 1.0), ("a3", 0.5)):
                    sender.send(f"sensors/{asset}/pump", {"c1": value, "c2": number / 1000})
            sender.send("sensors/a1/pump", b"no json")

        send(range(60))
        wait_until(lambda: prometheus.query('edge_agent_messages_rejected_total{reason="not_json"} >= 1'))
        send(range(60, 120))
        wait_until(lambda: prometheus.query("rate(edge_agent_readings_total{stream='pump'}[1m]) > 0"))
        wait_until(lambda: prometheus.query("edge_agent_drift_psi"))
        wait_until(lambda: len(prometheus.query("edge_agent_asset_score")) == 2)
        wait_until(lambda: prometheus.query("rate(edge_agent_alert_events_total{event='raise'}[1m]) > 0"))
        there = prometheus.names()
        for expression in rules():
            prometheus.query(expression)
            assert {*METRIC.findall(expression)} <= there
        for title, expression in panels():
            assert prometheus.query(expression), f"{title} is empty: {expression}"
            assert {*METRIC.findall(expression)} <= there
        wait_until(lambda: prometheus.query("edge_agent_sparkplug_connected == 1"))
        assert prometheus.query("edge_agent_evidence_dropped_total == 0")
        assert prometheus.query("edge_agent_evidence_waiting_bytes >= 0")
        (info,) = prometheus.query("edge_agent_info{stream='pump'}")
        labels = {key: info["metric"][key] for key in ("agent", "provider", "model", "model_version")}
        assert labels == {"agent": "g1", "provider": "cpu", "model": "square", "model_version": "1.0.0"}
        # No label but those of assets that were asked for grows with what senders make up.
        assert {each["metric"]["asset"] for each in prometheus.query('{asset!=""}')} <= {"a1", "a2", "a3"}
        agent.stop()
        wait_until(lambda: any(each["labels"]["alertname"] == "EdgeAgentGone" for each in alerts(prometheus)))


def test_metrics_are_clean_and_on_one_path(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """By promtool's own check; no other path answers, and no more than four who say nothing are waited for."""
    port = free_port()
    with Agent(metrics_config(tmp_path, broker, bundle, port)):
        subscriber.wait_online()
        wait_until(lambda: subscriber.health)
        held = [
            socket.create_connection(("127.0.0.1", port)) for _ in range(2)
        ]  # and one whose answer is not quite over
        text = fetch(f"http://127.0.0.1:{port}/metrics")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            fetch(f"http://127.0.0.1:{port}/")
        held += [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
        held[-1].settimeout(10)
        assert held[-1].recv(1) == b""  # closed at once
        wait_until(lambda: _is_given(port), what="those who say nothing to be given up")
        for each in held:
            each.close()
    found = subprocess.run(
        [program("promtool"), "check", "metrics"], input=text, capture_output=True, text=True, check=False, timeout=60
    )
    assert (found.returncode, found.stdout, found.stderr) == (0, "", "")
    assert "asset=" not in text
    assert "edge_agent_sparkplug_connected " in text
    assert "\nedge_agent_sparkplug_connected " not in text
    assert "\nedge_agent_evidence_dropped_total " not in text
    found = subprocess.run(
        [program("promtool"), "check", "rules", RULES], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 0, found.stderr


def test_no_request_ends_the_metrics(tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path) -> None:
    """Neither one for a part of them, as Prometheus makes with `params`, nor one that cannot be understood."""
    port = free_port()
    agent = Agent(metrics_config(tmp_path, broker, bundle, port))
    with agent:
        subscriber.wait_online()
        wait_until(lambda: subscriber.health and _is_given(port))
        for _ in range(10):
            assert "edge_agent_info" in fetch(f"http://127.0.0.1:{port}/metrics?name[]=edge_agent_info")
        for _ in range(10):
            with socket.create_connection(("127.0.0.1", port), timeout=10) as odd:
                odd.sendall(b"GET /metrics HTTP/1.1\r\nAccept: text/plain;version=x\r\n\r\n")
                # Other versions of the library take it for a version that they know.
                assert odd.recv(12)[-3:] in (b"200", b"406")
                while odd.recv(65536):
                    pass
    assert "Traceback" not in agent.log.read_text()


RULES_TEST = """\
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - {{series: 'edge_agent_uptime_seconds{{instance="hangs"}}', values: '10+60x5 310x30'}}
      - {{series: 'edge_agent_uptime_seconds{{instance="runs"}}', values: '10+60x40'}}
      - {{series: 'edge_agent_uptime_seconds{{instance="starts anew"}}', values: '10 70 10 70 10+60x30'}}
      - {{series: 'edge_agent_events_dropped_total{{instance="full"}}', values: '0x5 3x30'}}
    alert_rule_test:
      - {{alertname: EdgeAgentHangs, eval_time: 12m, exp_alerts: []}}
      - alertname: EdgeAgentHangs
        eval_time: 30m
        exp_alerts: [{{exp_labels: {{severity: page, instance: hangs}}, exp_annotations: {hangs}}}]
      - alertname: EdgeAgentEventsDropped
        eval_time: 15m
        exp_alerts: [{{exp_labels: {{severity: ticket, instance: full}}, exp_annotations: {dropped}}}]
"""


def test_rules_fire_when_they_are_to(tmp_path: Path) -> None:
    """An agent whose loop hangs still gives metrics, the last ones; one that starts again and again does not hang."""
    hangs = {
        "summary": "hangs runs and does nothing",
        "description": "It waits for a disk or a driver that does not answer. "
        "Where systemd's watchdog is on, it starts anew by itself.",
    }
    dropped = {
        "summary": "full has given up 3 events",
        "description": "They were over the limits of its journal, and nobody will see them.",
    }
    file = tmp_path / "test.yml"
    file.write_text(RULES_TEST.format(rules=RULES, hangs=json.dumps(hangs), dropped=json.dumps(dropped)))
    found = subprocess.run(
        [program("promtool"), "test", "rules", file], capture_output=True, text=True, check=False, timeout=60
    )
    assert found.returncode == 0, found.stdout + found.stderr


def _is_given(port: int) -> bool:
    try:
        return bool(fetch(f"http://127.0.0.1:{port}/metrics"))
    except OSError:
        return False


def test_a_port_that_is_taken_stops_no_agent(
    tmp_path: Path, broker: Broker, subscriber: Subscriber, bundle: Path
) -> None:
    """It is told once, and listened on as soon as it is free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", free_port()))
        taken.listen()
        port = taken.getsockname()[1]
        agent = Agent(metrics_config(tmp_path, broker, bundle, port))
        with agent:
            subscriber.wait_online()
            wait_until(lambda: "metrics cannot be given" in agent.log.read_text())
            taken.close()
            wait_until(lambda: _is_given(port))
    assert agent.log.read_text().count("metrics cannot be given") == 1


def test_check_and_show_config_tell_what_is_published(tmp_path: Path, broker: Broker, bundle: Path) -> None:
    """And what is wrong with it."""
    config = metrics_config(
        tmp_path, broker, bundle, 9464, "[publish]\nscores = '5s'\n[homeassistant]\ndiscovery = true"
    )
    told = run_tool("edge-agent", "check", "--config", config).stdout
    for text in ("scores every 5s, at most 100 a second", "below homeassistant/", "http://127.0.0.1:9464/metrics"):
        assert f"published beside alerts: {text}" in told or text in told
    assert (
        len(msgspec.json.decode(run_tool("edge-agent", "check", "--json", "--config", config).stdout)["beside_alerts"])
        == 3
    )
    assert '[metrics]\nlisten = "127.0.0.1:9464"' in run_tool("edge-agent", "show-config", "--config", config).stdout
    wrong = run_tool("edge-agent", "check", "--config", config, "--set", "metrics.listen=a:b:c")
    assert wrong.returncode == 78
    assert "[metrics] listen = 'a:b:c': expected HOST or HOST:PORT" in wrong.stderr


def rules() -> list[str]:
    """The expressions of our rules, as Prometheus itself reads them."""
    with tempfile.TemporaryDirectory() as name, Prometheus(Path(name), 1).running() as prometheus:
        groups = prometheus.get("rules")["groups"]
        return [rule["query"] for group in groups for rule in group["rules"]]


def panels() -> list[tuple[str, str]]:
    """Title and expression of each panel of the dashboard, with its variables filled in."""
    found = json.loads(DASHBOARD.read_text())["panels"]
    filled = {"$__rate_interval": "1m", "$instance": ".*", "$stream": ".*"}
    return [
        (panel["title"], re.sub(r"\$\w+", lambda match: filled[match[0]], target["expr"]))
        for panel in found
        for target in panel["targets"]
    ]


def alerts(prometheus: Prometheus) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = prometheus.get("alerts")["alerts"]
    return found
