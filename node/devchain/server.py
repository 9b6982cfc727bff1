"""HTTP/1.1 on loopback: one POST, one JSON-RPC answer, connections kept alive.

The one rule: bytes that are no request cost their own connection and nothing else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from http import HTTPStatus

import h11
import trio

MAX_BODY_BYTES = 4 * 1024 * 1024  # a contract creation is 50 KB of hex, a batch of a hundred calls less than this
MAX_CONNECTIONS = 256  # four nodes and a requester keep fewer than ten each
IDLE_S = 75.0
REQUEST_S = 15.0  # from the first byte of a request to its last
READ_BYTES = 64 * 1024

Answer = Callable[[bytes], Awaitable[bytes]]


class Server:
    def __init__(self, answer: Answer) -> None:
        self._answer = answer
        self._connections = 0

    async def serve(self, listeners: Sequence[trio.SocketListener]) -> None:
        """Serve until cancelled."""
        await trio.serve_listeners(self._handle, list(listeners))

    async def _handle(self, stream: trio.SocketStream) -> None:
        if self._connections >= MAX_CONNECTIONS:
            await stream.aclose()
            return
        self._connections += 1
        try:
            await _Connection(stream, self._answer).run()
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the client is gone
        finally:
            self._connections -= 1
            await trio.aclose_forcefully(stream)


class _Connection:
    def __init__(self, stream: trio.SocketStream, answer: Answer) -> None:
        self._stream = stream
        self._answer = answer
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=16 * 1024)

    async def run(self) -> None:
        while self._http.our_state is not h11.MUST_CLOSE:
            try:
                request = await self._request()
                if request is None:
                    return
                await self._reply(*request)
                self._http.start_next_cycle()
            except h11.RemoteProtocolError as error:
                await self._refuse(HTTPStatus(error.error_status_hint))
                return
            except h11.LocalProtocolError:
                return  # the request was cut short by our own refusal: nothing can follow it

    async def _request(self) -> tuple[h11.Request, bytes | None] | None:
        """Head and body of the next request; no body where it is too large, None at the end."""
        with trio.move_on_after(IDLE_S):
            head = await self._event()
            if not isinstance(head, h11.Request):
                return None
            with trio.move_on_after(REQUEST_S):
                return head, await self._body()
        return None

    async def _body(self) -> bytes | None:
        if self._http.they_are_waiting_for_100_continue:
            await self._stream.send_all(self._http.send(h11.InformationalResponse(status_code=100, headers=[])) or b"")
        body = bytearray()
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
            if len(body) > MAX_BODY_BYTES:
                return None
        return bytes(body)

    async def _event(self) -> object:
        while (event := self._http.next_event()) is h11.NEED_DATA:
            self._http.receive_data(await self._stream.receive_some(READ_BYTES))
        return event

    async def _reply(self, request: h11.Request, body: bytes | None) -> None:
        if body is None:
            await self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
        elif request.method != b"POST":
            await self._refuse(HTTPStatus.METHOD_NOT_ALLOWED)
        else:
            await self._send(HTTPStatus.OK, await self._answer(body))

    async def _refuse(self, status: HTTPStatus) -> None:
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self._send(status, b'{"error":"%s"}' % status.phrase.encode(), (("connection", "close"),))

    async def _send(self, status: HTTPStatus, body: bytes, extra: tuple[tuple[str, str], ...] = ()) -> None:
        headers = [("content-type", "application/json"), ("content-length", str(len(body))), *extra]
        events = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        await self._stream.send_all(b"".join(self._http.send(event) or b"" for event in events))
