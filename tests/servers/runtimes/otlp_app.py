"""A server that pushes its metrics with OpenTelemetry's SDK: `otlp_app.py PORT FORM ENDPOINT`, where FORM is `grpc` or `http`.

`/predict?delay=SECONDS&status=CODE` answers after the delay. Names are those of the semantic conventions for
HTTP servers, and one of its own.
"""

import sys
import time
from urllib.parse import parse_qs, urlsplit

from opentelemetry.exporter.otlp.proto.grpc.metric_exporter import OTLPMetricExporter as ByGrpc
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter as ByHttp
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from waitress import serve

port, form, endpoint = int(sys.argv[1]), sys.argv[2], sys.argv[3]
exporter = ByGrpc(endpoint=endpoint, insecure=True) if form == "grpc" else ByHttp(endpoint=endpoint)
provider = MeterProvider(
    resource=Resource.create({"service.name": "served", "service.instance.id": "served-0"}),
    metric_readers=[PeriodicExportingMetricReader(exporter, export_interval_millis=1000)],
)
meter = provider.get_meter("otlp_app")
duration = meter.create_histogram(
    "http.server.request.duration",
    unit="s",
    explicit_bucket_boundaries_advisory=[0.005, 0.05, 0.5, 1, 2.5, 5, 10, 30],
)
active = meter.create_up_down_counter("http.server.active_requests", unit="{request}")
answered = meter.create_counter("answers", unit="1", description="Answers, however they ended.")


def app(environ, start_response):
    query = parse_qs(urlsplit("?" + environ.get("QUERY_STRING", "")).query)
    delay, status = float(query.get("delay", ["0"])[0]), int(query.get("status", ["200"])[0])
    of_request = {"http.request.method": "GET", "url.scheme": "http"}
    active.add(1, of_request)
    begun = time.monotonic()
    time.sleep(delay)
    active.add(-1, of_request)
    told = {**of_request, "http.response.status_code": status, "http.route": "/predict"}
    duration.record(time.monotonic() - begun, told)
    answered.add(1, {"code": status})
    start_response(f"{status} said", [("Content-Type", "text/plain")])
    return [b"1"]


serve(app, host="127.0.0.1", port=port, threads=8)
