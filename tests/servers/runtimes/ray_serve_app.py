"""A Ray Serve application on this machine alone: `ray_serve_app.py PORT METRICS_PORT DIRECTORY`.

`/predict?delay=SECONDS&status=CODE` answers after the delay; four requests are worked on at once, more wait.
"""

import asyncio
import signal
import sys

import ray
from ray import serve
from starlette.requests import Request
from starlette.responses import JSONResponse


@serve.deployment(num_replicas=1, max_ongoing_requests=4)
class Predict:
    async def __call__(self, request: Request):
        await asyncio.sleep(float(request.query_params.get("delay", "0")))
        status = int(request.query_params.get("status", "200"))
        return JSONResponse({"label": 1}, status_code=status)


port, metrics_port, directory = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
ray.init(
    address="local",
    num_cpus=2,
    include_dashboard=False,
    log_to_driver=False,
    object_store_memory=80_000_000,
    _node_ip_address="127.0.0.1",
    _metrics_export_port=metrics_port,
    _temp_dir=directory,
    _system_config={"metrics_report_interval_ms": 1000},
)
serve.start(http_options={"host": "127.0.0.1", "port": port})
serve.run(Predict.bind(), name="shop", route_prefix="/predict")
signal.pause()
