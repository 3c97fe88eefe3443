"""A Flask application with prometheus-flask-exporter, served by waitress: `flask_app.py PORT`.

`/predict?delay=SECONDS&status=CODE` answers after the delay.
"""

import sys
import time

from flask import Flask, jsonify, request
from prometheus_flask_exporter import PrometheusMetrics
from waitress import serve

app = Flask(__name__)
PrometheusMetrics(app)


@app.get("/predict")
def predict():
    time.sleep(float(request.args.get("delay", "0")))
    return jsonify(label=1), int(request.args.get("status", "200"))


serve(app, host="127.0.0.1", port=int(sys.argv[1]), threads=8)
