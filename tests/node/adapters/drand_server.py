"""A server on loopback that plays drand, with two of its real rounds."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from protocols.beacon import CHAIN_HASH

ROUNDS = {
    1: (
        "11f812d738a36b2210dc88c2d635ad8039588205f42445d6de09e6530165c346"
        "2a23aca348c84badcf8df5321ac24577b7963d5b0d780bc4626baedb45cde373",
        "781b75698adc3af62cfa55db83cf0c73ae54e1ac8c0d4c3a2224126b65369ec5",
    ),
    9_337_227: (
        "01d65d6128f4b2df3d08de85543d8efe06b0281d0770246ae3672e8ddd3efda0"
        "269373123458f0b5c0073eeed1c816a06809e127421513e34ee07df6987910b3",
        "a1e645cd6193837f626716851f5c42ad4bf63ad75193b2cae40f88c08c8f3bd8",
    ),
}
"""Signature and randomness, as drand published them."""
ANSWERS = {
    number: json.dumps({"round": number, "randomness": randomness, "signature": signature}).encode()
    for number, (signature, randomness) in ROUNDS.items()
}
LIES = {
    number: json.dumps({"round": number, "signature": ROUNDS[other][0]}).encode()
    for number, other in ((1, 9_337_227), (9_337_227, 1))
}
"""Another round's signature, under this round's name."""


class Drand:
    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[str] = []


@contextmanager
def play_drand(answers: Mapping[int, bytes] = ANSWERS) -> Iterator[Drand]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            drand.asked.append(self.path)
            prefix, _, number = self.path.rpartition("/")
            known = prefix == f"/{CHAIN_HASH}/public" and number.isdigit() and int(number) in answers
            body = answers[int(number)] if known else b'{"error":"EOF"}'
            self.send_response(200 if known else 404)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing to the terminal."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        drand = Drand(f"http://127.0.0.1:{server.server_port}")
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield drand
        finally:
            server.shutdown()
            thread.join()
