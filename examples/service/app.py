"""A web service that scores one client at a time.

    pip install -r requirements.txt
    SEQMEL_MODEL=model OMP_NUM_THREADS=1 uvicorn app:app --workers 2

POST /embed or /predict with {"events": [{"event_time": "2023-07-01 12:00:00", "mcc": 5411, ...}]}.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field

import seqmel

app = FastAPI(title="seqmel")
model = seqmel.load(os.environ.get("SEQMEL_MODEL", "model"))
scorer = model.scorer()


lock = threading.Lock()
counts: Counter[tuple[str, int]] = Counter()
seconds: Counter[str] = Counter()


@app.middleware("http")
async def measure(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    """Count requests by path and status, and the time that they take."""
    began = time.perf_counter()
    response = await answer(request)
    path = request.url.path if response.status_code != 404 else "other"
    with lock:
        counts[path, response.status_code] += 1
        seconds[path] += time.perf_counter() - began
    return response


@app.get("/metrics", response_class=PlainTextResponse)
def metrics() -> str:
    """Requests, seconds and memory of this process, for Prometheus."""
    with lock:
        lines = [
            f'requests_total{{path="{path}",status="{status}"}} {count}'
            for (path, status), count in sorted(counts.items())
        ]
        lines += [
            f'request_seconds_total{{path="{path}"}} {spent:.6f}'
            for path, spent in sorted(seconds.items())
        ]
    with open("/proc/self/statm", encoding="ascii") as file:  # of Linux
        resident = int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return "\n".join([*lines, f"process_resident_memory_bytes {resident}", ""])


class Client(BaseModel):
    """All events of one client."""

    events: list[dict[str, str | int | float | bool | None]] = Field(max_length=100_000)


@app.get("/health")
def health() -> dict[str, Any]:
    """Whether the service runs, and with which model."""
    return {"status": "ok", "model": model.fingerprint(), "seqmel": seqmel.__version__}


@app.post("/embed")
def embed(client: Client) -> dict[str, Any]:
    """Return the vector of a client, and the values that the training did not see."""
    try:
        vector = scorer.embed(client.events)
        return {"vector": vector.tolist(), "unseen": scorer.unseen(client.events)}
    except seqmel.SeqmelError as error:
        raise HTTPException(422, str(error)) from None


@app.post("/predict")
def predict(client: Client) -> dict[str, Any]:
    """Return the predictions of a fine-tuned model for a client."""
    try:
        return scorer.predict(client.events)
    except seqmel.SeqmelError as error:
        raise HTTPException(422, str(error)) from None
