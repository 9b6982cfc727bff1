"""Websocket transport, plain and under TLS: what browsers and js light nodes dial.

    /ip4/…/tcp/…/ws     /dns4/…/tcp/…/tls/ws     /dns4/…/tcp/…/wss

A connection's bytes go in binary messages, whose borders mean nothing. Mends, by not using it, py-libp2p 0.8.1's
transport: it reads proxies from the environment (and prints them), holds 32 MB of a message before anybody
authenticated, knows no remote address, and logs each stranger's doing as an error.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from libp2p.abc import IListener, ITransport
from libp2p.io.abc import ReadWriteCloser
from libp2p.io.exceptions import ConnectionClosedError
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Ping,
    RejectConnection,
    RejectData,
    Request,
    TextMessage,
)
from wsproto.utilities import ProtocolError

from node.adapters.libp2p.streams import log

HANDSHAKE_S = 10.0
FAREWELL_S = 0.5  # for the close frame; the socket is closed after it in any case
RECEIVE_BYTES = 64 * 1024
BACKLOG = 128

Watch = Callable[[trio.SocketStream], None]
"""Sets the options of a new socket."""


class WebSocketStream(ReadWriteCloser):  # type: ignore[misc]  # libp2p publishes no types
    """The byte stream inside one websocket."""

    def __init__(self, stream: Any, machine: WSConnection, remote: tuple[str, int] | None) -> None:
        self._stream = stream
        self._machine = machine
        self._remote = remote
        self._unread = bytearray()
        self._ended = False
        self._write_lock = trio.Lock()  # messages, and the answers to pings

    async def read(self, n: int | None = None) -> bytes:
        """Return what is there, at most n bytes; empty at the end."""
        while not self._unread and not self._ended:
            await self._receive()
        size = len(self._unread) if n is None else n
        data = bytes(self._unread[:size])
        del self._unread[:size]
        return data

    async def write(self, data: bytes) -> None:
        await self._send(BytesMessage(data=data))

    async def close(self) -> None:
        with trio.move_on_after(FAREWELL_S), suppress(ConnectionClosedError):
            if self._machine.state is ConnectionState.OPEN:
                await self._send(CloseConnection(code=1000))
        self._ended = True
        await trio.aclose_forcefully(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        return self._remote

    # -- Handshakes ------------------------------------------------------------

    async def greet(self, host: str) -> None:
        """As the client. Raises ConnectionClosedError."""
        await self._send(Request(host=host, target="/"))
        await self._wait_event(AcceptConnection)

    async def welcome(self) -> None:
        """As the server. Raises ConnectionClosedError."""
        await self._wait_event(Request)
        await self._send(AcceptConnection())

    async def _wait_event(self, wanted: type) -> None:
        while not self._ended:
            if any(isinstance(event, wanted) for event in await self._receive_events()):
                return
        raise ConnectionClosedError("no websocket handshake", transport="websocket")

    # -- The machine -----------------------------------------------------------

    async def _receive(self) -> None:
        for event in await self._receive_events():
            match event:
                case BytesMessage(data=data):
                    self._unread += data
                case TextMessage():
                    raise ConnectionClosedError("a text message", transport="websocket")
                case Ping():
                    await self._send(event.response())
                case CloseConnection():
                    self._ended = True
                    if self._machine.state is ConnectionState.REMOTE_CLOSING:
                        with trio.move_on_after(FAREWELL_S):
                            await self._send(event.response())

    async def _receive_events(self) -> list[Any]:
        try:
            data = await self._stream.receive_some(RECEIVE_BYTES)
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise ConnectionClosedError(str(error), transport="websocket") from error
        try:
            self._machine.receive_data(bytes(data) or None)
            events = list(self._machine.events())
        except ProtocolError as error:
            raise ConnectionClosedError(f"no websocket: {error}", transport="websocket") from error
        self._ended = self._ended or not data or any(isinstance(e, RejectConnection | RejectData) for e in events)
        return events

    async def _send(self, event: Any) -> None:
        async with self._write_lock:
            try:
                await self._stream.send_all(self._machine.send(event))
            except (trio.BrokenResourceError, trio.ClosedResourceError, ProtocolError) as error:
                raise ConnectionClosedError(str(error), transport="websocket") from error


# -- Transport -----------------------------------------------------------------


class WebSocket(ITransport):  # type: ignore[misc]  # libp2p publishes no types
    """Dials and listens. `server_tls` is for addresses that end in /wss or /tls/ws; `client_tls` for dialling those."""

    def __init__(self, watch: Watch, server_tls: ssl.SSLContext | None, client_tls: ssl.SSLContext | None) -> None:
        self._watch = watch
        self._server_tls = server_tls
        self._client_tls = client_tls or ssl.create_default_context()

    def protocols(self) -> list[str]:
        return ["ws", "wss"]

    def can_dial(self, maddr: Multiaddr) -> bool:
        names = [protocol.name for protocol in maddr.protocols()]
        return names[1:2] == ["tcp"] and names[2:] in (["ws"], ["wss"], ["tls", "ws"], ["tls", "sni", "ws"])

    def can_listen(self, maddr: Multiaddr) -> bool:
        return self.can_dial(maddr)

    async def dial(self, maddr: Multiaddr) -> RawConnection:
        parts = {protocol.name: value for protocol, value in maddr.items()}
        (_, host), *_ = maddr.items()
        try:
            with trio.fail_after(HANDSHAKE_S):
                socket = await trio.open_tcp_stream(host, int(parts["tcp"]))
                self._watch(socket)
                name = parts.get("sni") or host
                stream = await _start_client(socket, name, self._client_tls if is_secure(maddr) else None)
                return RawConnection(stream, True)
        except (OSError, trio.TooSlowError, trio.BrokenResourceError, ConnectionClosedError) as error:
            raise OpenConnectionError(_root_cause(error)) from error

    def create_listener(self, handler_function: Callable[[Any], Awaitable[None]]) -> WebSocketListener:
        return WebSocketListener(handler_function, self._watch, self._server_tls)


def is_secure(address: Multiaddr) -> bool:
    return any(protocol.name in ("wss", "tls") for protocol in address.protocols())


def _root_cause(error: BaseException) -> str:
    """trio and wsproto wrap what TLS and the socket say, and say nothing themselves."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error) or type(error).__name__


async def _start_client(socket: trio.SocketStream, host: str, tls: ssl.SSLContext | None) -> WebSocketStream:
    remote = socket.socket.getpeername()[:2]
    stream = WebSocketStream(
        trio.SSLStream(socket, tls, server_hostname=host, https_compatible=True) if tls else socket,
        WSConnection(ConnectionType.CLIENT),
        remote,
    )
    try:
        await stream.greet(host)
    except BaseException:
        await trio.aclose_forcefully(socket)
        raise
    return stream


class WebSocketListener(IListener):  # type: ignore[misc]  # libp2p publishes no types
    """One address; each connection is upgraded, then handed to the swarm."""

    background_nursery: trio.Nursery
    """Set by the swarm before `listen`."""

    def __init__(self, handler: Callable[[Any], Awaitable[None]], watch: Watch, tls: ssl.SSLContext | None) -> None:
        self._handler = handler
        self._watch = watch
        self._tls = tls
        self._secure = False
        self._address: Multiaddr | None = None
        self._scope = trio.CancelScope()

    async def listen(self, maddr: Multiaddr) -> None:
        """Raises OSError when the address can't be listened on."""
        self._secure = is_secure(maddr)
        if self._secure and self._tls is None:
            raise OSError(f"{maddr}: no certificate for TLS")
        (protocol, host), (_, port), *_ = maddr.items()
        listeners = await trio.open_tcp_listeners(int(port), host=host, backlog=BACKLOG)
        bound = listeners[0].socket.getsockname()[1]
        self._address = Multiaddr(f"/{protocol.name}/{host}/tcp/{bound}{'/tls' if self._secure else ''}/ws")
        self.background_nursery.start_soon(self._serve, listeners)

    async def _serve(self, listeners: list[trio.SocketListener]) -> None:
        with self._scope:
            await trio.serve_listeners(self._accept, listeners)

    async def _accept(self, socket: trio.SocketStream) -> None:
        try:
            with trio.fail_after(HANDSHAKE_S):
                self._watch(socket)
                remote = socket.socket.getpeername()[:2]
                secured = (
                    trio.SSLStream(socket, self._tls, server_side=True, https_compatible=True)
                    if self._secure and self._tls
                    else socket
                )
                stream = WebSocketStream(secured, WSConnection(ConnectionType.SERVER), remote)
                await stream.welcome()
        except Exception as error:  # noqa: BLE001  a stranger's handshake
            log.debug("websocket handshake: %r", error)
            await trio.aclose_forcefully(socket)
            return
        await self._handler(stream)

    def get_addrs(self) -> tuple[Multiaddr, ...]:
        return () if self._address is None else (self._address,)

    async def close(self) -> None:
        self._scope.cancel()
        await trio.lowlevel.checkpoint()
