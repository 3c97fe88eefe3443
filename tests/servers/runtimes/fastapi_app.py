"""A FastAPI application with prometheus-fastapi-instrumentator, served by uvicorn: `fastapi_app.py PORT`.

`/predict?delay=SECONDS&status=CODE` answers after the delay. Its metrics page is left out of its metrics: a scrape is no request.
"""

import asyncio
import sys

import uvicorn
from fastapi import FastAPI
from fastapi.responses import JSONResponse
from prometheus_fastapi_instrumentator import Instrumentator

app = FastAPI()
instrumentator = Instrumentator(
    should_instrument_requests_inprogress=True,
    inprogress_name="http_requests_inprogress",
    excluded_handlers=["/metrics"],
)
instrumentator.instrument(app).expose(app)


@app.get("/predict")
async def predict(delay: float = 0.0, status: int = 200):
    await asyncio.sleep(delay)
    return JSONResponse({"label": 1}, status_code=status)


uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[1]), log_level="warning")
