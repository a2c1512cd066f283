"""A web service that scores one client at a time.

    pip install -r requirements.txt
    SEQMEL_MODEL=model OMP_NUM_THREADS=1 uvicorn app:app --workers 2

POST /embed or /predict with {"events": [{"event_time": "2023-07-01 12:00:00", "mcc": 5411, ...}]}.
"""

from __future__ import annotations

import os
from typing import Any

from fastapi import FastAPI, HTTPException
from pydantic import BaseModel, Field

import seqmel

app = FastAPI(title="seqmel")
model = seqmel.load(os.environ.get("SEQMEL_MODEL", "model"))
scorer = model.scorer()


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
