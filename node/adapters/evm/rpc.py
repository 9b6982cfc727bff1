"""One JSON-RPC endpoint over httpx: requests with retries, and failures that say what to do with them.

The one rule: an endpoint is a stranger. Its answers are bounded in size and parsed as hostile, and neither its
errors nor ours show the path or query of its URL, which is where providers put their access tokens.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

MAX_ANSWER_BYTES = 32 * 1024 * 1024  # the logs of 2,000 busy blocks; more is split by the caller
TIMEOUT_S = 30.0  # py-evm without its fast curve verifies a proof in a second, on a busy machine in ten
RETRY_DELAYS_S = (0.2, 0.5, 1.0, 2.0)  # long enough for a load balancer to find another backend
RETRIED_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
CONNECTIONS = 8  # too low: a burst of calls waits for one slow simulation
REVERTED = 3
MAX_REASON_CHARS = 200


class Unavailable(Exception):
    """No usable answer, after retries: the endpoint is down, overloaded or talks nonsense."""


class AnswerTooLarge(Unavailable):
    """The same request will never fit: ask for less."""


class Failure(Exception):
    """The endpoint answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: bytes | None) -> None:
        super().__init__(message)
        self.code, self.message, self.data = code, message, data

    @property
    def is_revert(self) -> bool:
        return self.code == REVERTED or self.data is not None or "revert" in self.message.lower()


class Endpoint:
    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url
        self._client = client
        self._ids = count(1)
        # Here, not in the client's pool: waiting for a connection is not waiting for an answer.
        self._turns = trio.CapacityLimiter(CONNECTIONS)

    @property
    def name(self) -> str:
        """The URL without what may be secret."""
        return public_name(self._url)

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    async def request(self, method: str, *params: Any) -> Any:
        """Return the result. Raises Failure or Unavailable. Every method that is used here may safely be repeated."""
        problem = ""
        for delay_s in (0.0, *RETRY_DELAYS_S):
            await trio.sleep(delay_s)
            try:
                return await self._request(method, params)
            except _Transient as error:
                problem = str(error)
        raise Unavailable(f"{self.name}: {problem}")

    async def request_once(self, method: str, *params: Any) -> Any:
        """The same without a second try: somebody else may answer."""
        try:
            return await self._request(method, params)
        except _Transient as error:
            raise Unavailable(f"{self.name}: {error}") from None

    async def _request(self, method: str, params: tuple[Any, ...]) -> Any:
        number = next(self._ids)
        body = json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()
        try:
            async with self._turns:
                answer = await self._post(body)
        except httpx.TransportError as error:
            raise _Transient(_describe(error)) from None
        except httpx.HTTPError as error:
            raise Unavailable(f"{self.name}: {_describe(error)}") from None
        return self._result(answer, number)

    async def _post(self, body: bytes) -> bytes:
        request = self._client.build_request("POST", self._url, content=body)
        request.stream = _Body(body)
        async with aclosing(await self._client.send(request, stream=True)) as response:
            if response.status_code in RETRIED_STATUS:
                raise _Transient(f"HTTP status {response.status_code}")
            if response.status_code >= 300 and not _is_json(response):
                raise Unavailable(f"{self.name}: HTTP status {response.status_code}")
            answer = bytearray()
            # Cancelled, not left: that unwinds httpx's generators from the innermost one outwards.
            with trio.CancelScope() as scope:
                async for part in response.aiter_bytes():
                    answer += part
                    if len(answer) > MAX_ANSWER_BYTES:
                        scope.cancel()
            if len(answer) > MAX_ANSWER_BYTES:
                raise AnswerTooLarge(f"{self.name}: the answer is larger than {MAX_ANSWER_BYTES} bytes")
            return bytes(answer)

    def _result(self, answer: bytes, number: int) -> Any:
        try:
            parsed = json.loads(answer)
        except (ValueError, RecursionError):
            raise Unavailable(f"{self.name}: the answer is not JSON-RPC") from None
        if not isinstance(parsed, dict) or parsed.get("id", number) not in (number, None):
            raise Unavailable(f"{self.name}: the answer is not JSON-RPC")
        error = parsed.get("error")
        if error is None:
            return parsed.get("result")
        raise _read_failure(error)


class _Body(httpx.AsyncByteStream):
    """The bytes, once. httpx's own is an async generator, and complains when a request is cancelled under trio."""

    def __init__(self, body: bytes) -> None:
        self._parts = iter((body,))

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        for part in self._parts:
            return part
        raise StopAsyncIteration


class _Transient(Exception):
    """Worth another try."""


@asynccontextmanager
async def open_endpoint(url: str) -> AsyncIterator[Endpoint]:
    # httpx logs each request's whole URL at INFO.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
    headers = {"content-type": "application/json"}
    # `trust_env` off: a proxy from the environment must not see what we sign.
    async with httpx.AsyncClient(timeout=TIMEOUT_S, limits=limits, headers=headers, trust_env=False) as client:
        yield Endpoint(url, client)


def public_name(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


# -- Answers -----------------------------------------------------------------------


def read_field(value: object, name: str) -> object:
    return value.get(name) if isinstance(value, dict) else None


def read_quantity(value: object) -> int:
    """Raises Unavailable: an endpoint that sends anything else is of no use."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return int(value, 16)
        except ValueError:
            pass
    raise Unavailable("malformed answer: not a quantity")


def read_data(value: object) -> bytes:
    """Raises Unavailable."""
    if isinstance(value, str) and value.startswith("0x"):
        try:
            return bytes.fromhex(value[2:])
        except ValueError:
            pass
    raise Unavailable("malformed answer: not data")


def to_hex(data: bytes) -> str:
    return "0x" + data.hex()


def _read_failure(error: object) -> Failure:
    if not isinstance(error, dict):
        return Failure(0, "malformed error", None)
    code, message = error.get("code"), error.get("message")
    text = " ".join(str(message).split())[:MAX_REASON_CHARS]
    return Failure(code if isinstance(code, int) else 0, text, _revert_data(error.get("data")))


def _revert_data(data: object) -> bytes | None:
    """Clients differ: hex, or an object that holds the hex one level deeper."""
    if isinstance(data, dict):
        data = data.get("data", data.get("result"))
    if isinstance(data, str) and data.startswith("0x"):
        try:
            return bytes.fromhex(data[2:])
        except ValueError:
            return None
    return None


def _is_json(response: httpx.Response) -> bool:
    return "json" in response.headers.get("content-type", "")


def _describe(error: Exception) -> str:
    """httpx's messages may hold the URL: name the kind of failure only."""
    match error:
        case httpx.ConnectError():
            return "no connection"
        case httpx.TimeoutException():
            return f"no answer within {TIMEOUT_S:g} s"
        case _:
            return f"connection failed ({type(error).__name__})"
