#!/usr/bin/env bash
# Expected: what prometheus-client serves is any `Collector`, as the types of `MetricsHandler.registry` and of
# `make_wsgi_app(registry: Collector)` say, so that a program whose figures are elsewhere gives an object with `collect`.
# Found: so it is, until somebody scrapes a part, which Prometheus does with `params: {name[]: [...]}`. Then the library
# calls `restricted_registry`, which only a `CollectorRegistry` has. The AttributeError ends the request's thread without an
# answer. A header `Accept: text/plain;version=x` does the same to any registry: a text is compared with a number.
# Versions: prometheus-client 0.26.0, Python 3.11.7, Linux x86-64. Date: 2026-12-01.
# Exits with 1 if both requests are answered.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet prometheus-client==0.26.0
cat >"$folder/trial.py" <<'PYTHON'
import threading
import urllib.request
from http.client import RemoteDisconnected
from http.server import ThreadingHTTPServer
from importlib.metadata import version

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import MetricsHandler
from prometheus_client.registry import Collector, CollectorRegistry


class Figures(Collector):
    def collect(self):
        yield GaugeMetricFamily("figure", "One.", 1)


class OfFigures(MetricsHandler):
    registry = Figures()


class OfRegistry(MetricsHandler):
    registry = CollectorRegistry()


print(f"prometheus-client {version('prometheus-client')}")
unanswered = 0
for handler in (OfFigures, OfRegistry):
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.handle_error = lambda *_: None  # it would print the traceback
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for query, accept in (("", "*/*"), ("?name[]=figure", "*/*"), ("", "text/plain;version=x")):
        request = urllib.request.Request(f"http://127.0.0.1:{server.server_port}/metrics{query}", headers={"Accept": accept})
        try:
            said = urllib.request.urlopen(request, timeout=10).status
        except RemoteDisconnected:
            said, unanswered = "no answer", unanswered + 1
        print(f"  {handler.__name__}: GET /metrics{query} with Accept: {accept}: {said}")
    server.shutdown()
raise SystemExit(unanswered == 0)
PYTHON
"$folder/venv/bin/python" "$folder/trial.py"
