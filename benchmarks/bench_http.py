"""The cost of `http`: each request compared with a static token, its import, the socket, renewal."""

import json
import math
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from _ratio import Row, interleave, median, per_call, table
from mlflow.utils.rest_utils import MlflowHostCreds, http_request

from mlflow_connections._agent import agent_for
from mlflow_connections.headers import RENEW_AT
from mlflow_connections_http._authenticator import HttpAuthenticator
from mlflow_connections_http._sources import ClientCredentials, Fixed
from mlflow_connections_sandbox._http import ProtectedMlflow

REQUESTS = 300
FETCHES = 200
THREADS = 20
LIFETIMES = 10
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
IMPORTS = 15
IMPORT = """
import requests, time
begun = time.process_time()
import mlflow_connections_http
print(time.process_time() - begun)
"""
FETCH = """
import json, sys, time
from mlflow_connections.headers import fetch_from_agent
times = []
for _ in range(int(sys.argv[2])):
    begun = time.perf_counter()
    fetch_from_agent(sys.argv[1], "http://127.0.0.1:80")
    times.append(time.perf_counter() - begun)
print(json.dumps(times))
"""


class Renewal(NamedTuple):
    """A run of many threads over several lifetimes of a token.

    Attributes:
        fetched: The number of tokens that were fetched.
        due: The number of tokens that are due if each is used to 80 % of its life.
        refused: The number of headers that had expired when a thread got them.
    """

    fetched: int
    due: int
    refused: int


def main() -> None:
    """Measure and print."""
    print(table([each_request(), importing(), by_socket()]))
    found = renewal()
    print(
        f"{THREADS} threads over {LIFETIMES} lifetimes: {found.fetched} tokens fetched, {found.due} due, "
        f"{found.refused} expired ones handed out"
    )


def each_request() -> Row:
    """Send requests with MLflow's own function, with its static token and with ours."""
    url, process = answering()
    plain, ours = MlflowHostCreds(url, token="t"), MlflowHostCreds(url)
    authenticator = HttpAuthenticator(url, Fixed({"Authorization": "Bearer t"}))

    def with_ours() -> None:
        authenticator.bind()
        per_call(lambda: http_request(ours, "/x", "GET"), REQUESTS)()
        authenticator.unbind()

    before, after = (
        median(times, 1e6 / REQUESTS)
        for times in interleave(
            per_call(lambda: http_request(plain, "/x", "GET"), REQUESTS),
            with_ours,
            clock=time.process_time,  # the server is another process
        )
    )
    os.kill(process, signal.SIGKILL)
    aim = "at most 50 µs more"
    return Row("a request with a token, CPU", before, after, "µs", aim, after - before <= 50)


def answering() -> tuple[str, int]:
    """Start a server in a separate process that responds immediately, and return its URL and process ID."""
    listener = socket.create_server(("127.0.0.1", 0))
    process = os.fork()
    if process == 0:
        while True:
            client, _ = listener.accept()
            threading.Thread(target=answer, args=(client,), daemon=True).start()
    port = listener.getsockname()[1]
    listener.close()
    return f"http://127.0.0.1:{port}", process


def answer(client: socket.socket) -> None:
    """Answer each request of a connection."""
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    while received := client.recv(1 << 16):
        if received.endswith(b"\r\n\r\n"):
            client.sendall(ANSWER)


def importing() -> Row:
    """Compare importing the package with importing requests, which MLflow imports anyway."""
    used = [
        float(
            subprocess.run(
                [sys.executable, "-c", IMPORT], stdout=subprocess.PIPE, check=True
            ).stdout
        )
        for _ in range(IMPORTS)
    ]
    cpu = statistics.median(used) * 1e3
    return Row("import in addition to requests, CPU", None, cpu, "ms", "at most 5 ms", cpu <= 5)


def by_socket() -> Row:
    """Fetch headers from another process."""
    authenticator = HttpAuthenticator("http://127.0.0.1:80", Fixed({"Authorization": "Bearer t"}))
    done = subprocess.run(
        [sys.executable, "-c", FETCH, agent_for(authenticator), str(FETCHES)],
        stdout=subprocess.PIPE,
        check=True,
    )
    fetched = statistics.median(json.loads(done.stdout)) * 1e3
    return Row("a token by the socket", None, fetched, "ms", "at most 5 ms", fetched <= 5)


def renewal() -> Renewal:
    """Get headers in many threads, over several lifetimes of a second."""
    with tempfile.TemporaryDirectory() as folder:
        issuer = ProtectedMlflow("http://127.0.0.1:9", Path(folder) / "issuer")
        issuer.lifetime = 1.0
        issuer.start()
        authenticator = HttpAuthenticator(
            issuer.url,
            ClientCredentials(
                issuer=issuer.issuer,
                client_id=issuer.client.client_id,
                client_secret=issuer.client.client_secret,
                parameters={"audience": issuer.client.audience},
            ),
        )
        end = time.monotonic() + LIFETIMES * issuer.lifetime
        refused: list[int] = []

        def work() -> None:
            while time.monotonic() < end:
                if (authenticator.headers().lifetime or 0) <= 0:
                    refused.append(1)
                time.sleep(0.005)

        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        issuer.close()
        return Renewal(issuer.issued, math.ceil(LIFETIMES / RENEW_AT), len(refused))


if __name__ == "__main__":
    main()
