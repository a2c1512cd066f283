"""Load on the example service: requests per second, p50 and p99, errors.

    pip install -r examples/service/requirements.txt
    SEQMEL_MODEL=model OMP_NUM_THREADS=1 uvicorn --app-dir examples/service app:app
    python benchmarks/load.py events.parquet [--url URL] [--connections 4] [--seconds 30]

Each connection sends the events of one client after the other to /embed, and waits for the answer
before the next. An hour's soak is `--seconds 3600`: it reads the memory of the service from
/metrics at the start and at the end.
"""

from __future__ import annotations

import argparse
import http.client
import json
import threading
import time
from urllib.parse import urlsplit

import numpy as np
import pandas as pd

_CLIENTS = 200


def bodies(path: str, client: str, most: int) -> list[bytes]:
    """Return a request per client, with its last events."""
    events = pd.read_parquet(path)
    found = []
    for _, part in list(events.groupby(client))[:_CLIENTS]:
        records = part.drop(columns=client).tail(most).to_json(orient="records", date_format="iso")
        found.append(b'{"events": ' + records.encode() + b"}")
    return found


def get(url: str, path: str) -> str:
    """Return the text of a page of the service."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    connection.request("GET", path)
    text = connection.getresponse().read().decode()
    connection.close()
    return text


def memory(url: str) -> float:
    """Return the resident memory of the service in MB."""
    lines = (line.split() for line in get(url, "/metrics").splitlines())
    return (
        next(float(line[1]) for line in lines if line[0] == "process_resident_memory_bytes") / 1e6
    )


def send(
    url: str, requests: list[bytes], first: int, end: float, seconds: list[float], wrong: list[str]
) -> None:
    """Send requests over one connection until the time is over; one that fails is opened again."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)
    place = first
    while time.monotonic() < end:
        body = requests[place % len(requests)]
        place += 1
        began = time.perf_counter()
        try:
            connection.request("POST", "/embed", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            wrong.append(f"{type(error).__name__}: {error}")
            connection.close()
            continue
        finally:
            seconds.append(time.perf_counter() - began)
        if answer.status != 200:
            wrong.append(f"{answer.status} {text[:200].decode(errors='replace')}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("events", help="a Parquet file of events like those of the training")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--client", default="client_id")
    parser.add_argument("--most", type=int, default=200, help="events per request at most")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=30)
    asked = parser.parse_args()
    requests = bodies(asked.events, asked.client, asked.most)
    counts = [body.count(b"{") - 1 for body in requests]
    print(json.loads(get(asked.url, "/health")))
    seconds: list[list[float]] = [[] for _ in range(asked.connections)]
    wrong: list[str] = []
    send(asked.url, requests, 0, time.monotonic() + 1, [], wrong)  # a warm-up
    before = memory(asked.url)
    end = time.monotonic() + asked.seconds
    threads = [
        threading.Thread(target=send, args=(asked.url, requests, 17 * i, end, own, wrong))
        for i, own in enumerate(seconds)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    every = 1000 * np.concatenate([np.array(own) for own in seconds])
    p50, p99 = np.percentile(every, [50, 99])
    print(
        f"{len(every):,} requests of {int(np.median(counts))} events over {asked.connections} "
        f"connections: {len(every) / asked.seconds:,.0f} per second, p50 {p50:.1f} ms, p99 "
        f"{p99:.1f} ms, {len(wrong)} refused or failed"
    )
    print(f"memory of the service {before:,.0f} MB before, {memory(asked.url):,.0f} MB after")
    for line in wrong[:3]:
        print(line)


if __name__ == "__main__":
    main()
