"""Circuit relay v2: serving circuits to others, dialling over them, and being dialled.

A circuit is a stream to the relay; libp2p's own handshakes run inside it, so a relayed peer is as authentic as any.
Own, since py-libp2p 0.8.1's (5,400 lines) reads its messages without a frame's length and writes a status between the
bytes of a circuit that reached its limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

import trio
from libp2p.abc import ITransport
from libp2p.io.abc import ReadWriteCloser
from libp2p.network.connection.raw_connection import RawConnection
from libp2p.peer.id import ID
from libp2p.transport.exceptions import OpenConnectionError
from multiaddr import Multiaddr

from node.adapters.libp2p.streams import (
    READ_BYTES,
    Stream,
    StreamFault,
    finish,
    is_connected,
    log,
    open_stream,
    peer_of,
    read_some,
    read_varint_frame,
    reset,
    write_all,
    write_varint_frame,
)
from protocols.circuit import (
    HOP,
    MAX_CIRCUIT_BYTES,
    RESERVATION_S,
    STOP,
    CircuitMessage,
    CircuitStatus,
    Hop,
    Relaying,
    Reservation,
    Stop,
    decode_hop,
    decode_stop,
    encode_hop,
    encode_stop,
)
from protocols.ids import PeerId
from protocols.prefix import Prefix
from protocols.verdict import Reject

CIRCUIT = "p2p-circuit"
SETUP_S = 10.0  # for each side of a circuit to answer
QUESTION_S = 10.0


def is_circuit(address: Multiaddr | str) -> bool:
    return f"/{CIRCUIT}" in str(address)


class CircuitStream(ReadWriteCloser):  # type: ignore[misc]  # libp2p publishes no types
    """The byte stream inside a circuit. It comes from where the relay is: that is whom we can count."""

    def __init__(self, stream: Stream, on_close: Callable[[], None]) -> None:
        self._stream = stream
        self._on_close = on_close
        self._closed = False

    async def read(self, n: int | None = None) -> bytes:
        return await read_some(self._stream, n or READ_BYTES)

    async def write(self, data: bytes) -> None:
        await write_all(self._stream, data)

    async def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._on_close()
            await reset(self._stream)

    def get_remote_address(self) -> tuple[str, int] | None:
        with suppress(Exception):  # the socket is gone
            address: tuple[str, int] | None = self._stream.muxed_conn.secured_conn.get_remote_address()
            return address
        return None


# -- Our end -------------------------------------------------------------------


class Circuits(ITransport):  # type: ignore[misc]  # libp2p publishes no types
    """Dials addresses like /ip4/…/tcp/…/p2p/RELAY/p2p-circuit, and takes circuits that relays offer."""

    def __init__(self) -> None:
        self._host: Any = None
        self._relayed: Counter[PeerId] = Counter()

    def attach(self, host: Any) -> None:
        """The host needs its transports before there is one."""
        self._host = host

    def is_relayed(self, peer: PeerId) -> bool:
        """Whether we are connected to the peer over a circuit."""
        return self._relayed[peer] > 0

    def protocols(self) -> list[str]:
        return [CIRCUIT]

    def can_dial(self, maddr: Multiaddr) -> bool:
        return is_circuit(maddr)

    def can_listen(self, maddr: Multiaddr) -> bool:
        return False

    def create_listener(self, handler_function: Callable[[Any], Awaitable[None]]) -> Any:
        raise NotImplementedError("a relay offers circuits over its connection; nothing listens")

    async def dial(self, maddr: Multiaddr) -> RawConnection:
        """Raises OpenConnectionError."""
        where, _, rest = str(maddr).partition(f"/{CIRCUIT}")
        target = rest.removeprefix("/p2p/")
        try:
            relay = await self._reach_relay(where)
            stream = await self._host.new_stream(ID.from_base58(relay), [HOP])
            await self._ask(stream, target)
        except OpenConnectionError:
            raise
        except Exception as error:
            raise OpenConnectionError(f"no circuit: {error}") from error
        return RawConnection(self._wrap(stream, PeerId(target)), True)

    async def _reach_relay(self, where: str) -> PeerId:
        address, _, relay = where.rpartition("/p2p/")
        if not is_connected(self._host, PeerId(relay)):
            if not address or is_circuit(address):
                raise OpenConnectionError("we aren't connected to the relay")
            await self._host.get_network().dial_addr(Multiaddr(address), ID.from_base58(relay))
        return PeerId(relay)

    async def _ask(self, stream: Stream, target: str) -> None:
        try:
            with trio.fail_after(2 * SETUP_S):
                asked = CircuitMessage(Hop.CONNECT, peer=ID.from_base58(target).to_bytes())
                await write_varint_frame(stream, encode_hop(asked))
                answer = decode_hop(await read_varint_frame(stream, MAX_CIRCUIT_BYTES))
        except BaseException:
            await reset(stream)
            raise
        if isinstance(answer, Reject) or answer.kind != Hop.STATUS or answer.status != CircuitStatus.OK:
            await reset(stream)
            raise OpenConnectionError(f"the relay refused: {_said(answer)}")

    async def serve_stop(self, stream: Stream) -> None:
        """Handler of the stop protocol: a relay offers a circuit to us. It is over when the connection in it is."""
        with trio.fail_after(QUESTION_S):
            offered = decode_stop(await read_varint_frame(stream, MAX_CIRCUIT_BYTES))
        if isinstance(offered, Reject) or offered.kind != Stop.CONNECT or offered.peer is None:
            refusal = CircuitMessage(Stop.STATUS, status=CircuitStatus.MALFORMED_MESSAGE)
            await write_varint_frame(stream, encode_stop(refusal))
            return
        source = PeerId(ID(offered.peer).to_base58())
        await write_varint_frame(stream, encode_stop(CircuitMessage(Stop.STATUS, status=CircuitStatus.OK)))
        inner = self._wrap(stream, source)
        try:
            # Who is at its other end, the handshake in it shows, whatever the relay says.
            await self._host.get_network()._do_handle_inbound_connection(inner, Multiaddr(f"/{CIRCUIT}"), None)
        finally:
            with trio.CancelScope(shield=True):
                await inner.close()

    def _wrap(self, stream: Stream, peer: PeerId) -> CircuitStream:
        self._relayed[peer] += 1

        def closed() -> None:
            self._relayed[peer] -= 1
            if not self._relayed[peer]:
                del self._relayed[peer]

        return CircuitStream(stream, closed)

    async def reserve(self, relay: PeerId) -> Reservation | str:
        """Ask a connected peer for a place; a string says why there is none."""
        try:
            with trio.fail_after(SETUP_S):
                async with open_stream(self._host, relay, HOP) as stream:
                    await write_varint_frame(stream, encode_hop(CircuitMessage(Hop.RESERVE)))
                    answer = decode_hop(await read_varint_frame(stream, MAX_CIRCUIT_BYTES))
        except (StreamFault, trio.TooSlowError) as fault:
            return str(fault) or "too slow"
        except Exception as error:  # noqa: BLE001  the connection went away under us
            return repr(error)
        if isinstance(answer, Reject) or answer.status != CircuitStatus.OK or answer.reservation is None:
            return _said(answer)
        return answer.reservation


def _said(answer: CircuitMessage | Reject) -> str:
    if isinstance(answer, Reject):
        return answer.reason
    known = {status.value: status.name.lower().replace("_", " ") for status in CircuitStatus}
    return known.get(answer.status, f"status {answer.status}")


# -- The relay -----------------------------------------------------------------


class CircuitRelay:
    """What a full node gives to those who can't be dialled. `addresses` are ours, as of whenever it is asked."""

    def __init__(
        self,
        host: Any,
        circuits: Circuits,
        relaying: Relaying,
        *,
        prefix_of: Callable[[PeerId], Prefix],
        addresses: Callable[[], Sequence[str]],
        time_s: Callable[[], float],
    ) -> None:
        self._host = host
        self._circuits = circuits
        self.relaying = relaying
        self._prefix_of = prefix_of
        self._addresses = addresses
        self._time_s = time_s
        self.relayed_bytes = 0

    async def serve_hop(self, stream: Stream) -> None:
        """Handler of the hop protocol; of a circuit it lasts as long as that."""
        with trio.fail_after(QUESTION_S):
            asked = decode_hop(await read_varint_frame(stream, MAX_CIRCUIT_BYTES))
        peer = peer_of(stream)
        if isinstance(asked, Reject):
            await _answer(stream, CircuitStatus.MALFORMED_MESSAGE)
        elif asked.kind == Hop.RESERVE:
            await self._reserve(stream, peer)
        elif asked.kind == Hop.CONNECT and asked.peer is not None:
            await self._connect(stream, peer, PeerId(ID(asked.peer).to_base58()))
        else:
            await _answer(stream, CircuitStatus.UNEXPECTED_MESSAGE)

    async def _reserve(self, stream: Stream, peer: PeerId) -> None:
        status = CircuitStatus.PERMISSION_DENIED
        if not self._circuits.is_relayed(peer):  # a place is for whom we reach without another relay
            status = self.relaying.reserve(peer, self._prefix_of(peer), trio.current_time())
        if status != CircuitStatus.OK:
            await _answer(stream, status)
            return
        addresses = tuple(Multiaddr(a).to_bytes() for a in self._addresses() if not is_circuit(a))
        reservation = Reservation(int(self._time_s() + RESERVATION_S), addresses)
        granted = CircuitMessage(Hop.STATUS, reservation=reservation, limits=self._limits, status=status)
        await write_varint_frame(stream, encode_hop(granted))

    @property
    def _limits(self) -> tuple[int, int]:
        return self.relaying.limits.duration_s, self.relaying.limits.bytes

    async def _connect(self, stream: Stream, source: PeerId, target: PeerId) -> None:
        status = self.relaying.open(source, target, trio.current_time())
        if status != CircuitStatus.OK:
            await _answer(stream, status)
            return
        try:
            await self._join(stream, source, target)
        finally:
            self.relaying.close(source, target)

    async def _join(self, stream: Stream, source: PeerId, target: PeerId) -> None:
        try:
            with trio.fail_after(SETUP_S):
                other = await self._offer(source, target)
        except (StreamFault, trio.TooSlowError) as fault:
            log.info("no circuit from %s to %s: %s", source, target, fault)
            await _answer(stream, CircuitStatus.CONNECTION_FAILED)
            return
        try:
            joined = CircuitMessage(Hop.STATUS, limits=self._limits, status=CircuitStatus.OK)
            await write_varint_frame(stream, encode_hop(joined))
            await self._pump(stream, other)
        finally:
            await reset(other)
            await reset(stream)

    async def _offer(self, source: PeerId, target: PeerId) -> Stream:
        """Return the stream to the target once it has taken the circuit. Raises StreamFault."""
        if not is_connected(self._host, target):
            raise StreamFault("not connected")
        try:
            stream = await self._host.new_stream(ID.from_base58(target), [STOP])
        except Exception as error:
            raise StreamFault(f"no {STOP} stream: {error}") from error
        try:
            peer = ID.from_base58(source).to_bytes()
            await write_varint_frame(stream, encode_stop(CircuitMessage(Stop.CONNECT, peer=peer, limits=self._limits)))
            answer = decode_stop(await read_varint_frame(stream, MAX_CIRCUIT_BYTES))
            if isinstance(answer, Reject) or answer.status != CircuitStatus.OK:
                raise StreamFault(_said(answer))
        except BaseException:
            await reset(stream)
            raise
        return stream

    async def _pump(self, one: Stream, other: Stream) -> None:
        """Hand bytes on, both ways, until a side ends, fails or stalls, or a limit is reached."""
        left = self.relaying.limits.bytes

        async def pass_on(source: Stream, sink: Stream) -> None:
            nonlocal left
            with suppress(StreamFault):
                while (data := await read_some(source)) and len(data) <= left:
                    left -= len(data)
                    self.relayed_bytes += len(data)
                    await write_all(sink, data)
            nursery.cancel_scope.cancel()

        with trio.move_on_after(self.relaying.limits.duration_s):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(pass_on, one, other)
                nursery.start_soon(pass_on, other, one)


async def _answer(stream: Stream, status: CircuitStatus) -> None:
    await write_varint_frame(stream, encode_hop(CircuitMessage(Hop.STATUS, status=status)))
    await finish(stream)
