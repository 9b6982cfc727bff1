"""Where drand's rounds come from: its HTTP servers, a folder, or a command; each is one `BeaconSource`.

The one rule: a source is a stranger. Its answer is bounded in size and time, and is a signature only when the
contract says so.

    HTTP      GET URL/CHAIN/public/ROUND      {"round": …, "signature": HEX, …}
    folder    FOLDER/ROUND.json               the same
    command   COMMAND … ROUND                 prints the same, or the signature in hex
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path

import httpx
import trio

from actors.ports import BeaconSource, NoAnswer
from node.adapters.evm.rpc import public_name
from node.errors import describe_os_error
from protocols.beacon import CHAIN_HASH

FETCH_S = 8.0  # a server may hold back a request for a round that is due in a moment
MAX_ANSWER_BYTES = 4096


class HttpSource:
    """A drand server, or a relay of one."""

    def __init__(self, url: str, client: httpx.AsyncClient) -> None:
        self._url = url.rstrip("/")
        self._client = client

    @property
    def name(self) -> str:
        return public_name(self._url)

    async def fetch(self, number: int) -> bytes | NoAnswer:
        try:
            with trio.fail_after(FETCH_S):
                return await self._get(number)
        except trio.TooSlowError:
            return NoAnswer(f"no answer within {FETCH_S:g} s")
        except httpx.HTTPError as error:
            return NoAnswer(f"no connection ({type(error).__name__})")  # its text may hold the URL

    async def _get(self, number: int) -> bytes | NoAnswer:
        request = self._client.build_request("GET", f"{self._url}/{CHAIN_HASH}/public/{number}")
        async with aclosing(await self._client.send(request, stream=True)) as response:
            if response.status_code != httpx.codes.OK:
                return NoAnswer(f"HTTP status {response.status_code}")
            answer = bytearray()
            # Cancelled, not left: that unwinds httpx's generators from the innermost one outwards.
            with trio.CancelScope() as scope:
                async for part in response.aiter_bytes():
                    answer += part
                    if len(answer) > MAX_ANSWER_BYTES:
                        scope.cancel()
        return read_round(bytes(answer), number)


class FolderSource:
    """Rounds that somebody put there."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @property
    def name(self) -> str:
        return str(self._folder)

    async def fetch(self, number: int) -> bytes | NoAnswer:
        try:
            async with await trio.open_file(self._folder / f"{number}.json", "rb") as file:
                return read_round(await file.read(MAX_ANSWER_BYTES + 1), number)
        except OSError as error:
            return NoAnswer(describe_os_error(error))


class CommandSource:
    """A program of the operator's."""

    def __init__(self, command: Sequence[str]) -> None:
        self._command = tuple(command)

    @property
    def name(self) -> str:
        return self._command[0]

    async def fetch(self, number: int) -> bytes | NoAnswer:
        command = [*self._command, str(number)]
        try:
            with trio.fail_after(FETCH_S):
                ended = await trio.run_process(command, capture_stdout=True, check=False, stdin=b"")
        except OSError as error:
            return NoAnswer(describe_os_error(error))
        except trio.TooSlowError:
            return NoAnswer(f"no answer within {FETCH_S:g} s")
        return read_round(ended.stdout, number) if ended.returncode == 0 else NoAnswer(f"status {ended.returncode}")


def read_round(answer: bytes, number: int) -> bytes | NoAnswer:
    """The signature of that round out of what a source said."""
    if len(answer) > MAX_ANSWER_BYTES:
        return NoAnswer("the answer is too large")
    try:
        text = answer.decode().strip()
        if text.startswith("{"):
            said = json.loads(text)
            if said.get("round") != number:
                return NoAnswer("the answer is about another round")
            text = said["signature"]
        return bytes.fromhex(text.removeprefix("0x"))
    except (ValueError, KeyError, AttributeError, RecursionError):
        return NoAnswer("the answer is no round of drand")


@asynccontextmanager
async def open_sources(
    urls: Sequence[str], folder: Path | None = None, command: Sequence[str] = ()
) -> AsyncIterator[tuple[BeaconSource, ...]]:
    """In the order in which they are asked: what is at hand first."""
    # httpx logs each request's whole URL at INFO.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    near: list[BeaconSource] = [] if folder is None else [FolderSource(folder)]
    if command:
        near.append(CommandSource(command))
    # `trust_env` off: a proxy from the environment is nobody's choice here.
    async with httpx.AsyncClient(timeout=FETCH_S, trust_env=False) as client:
        yield (*near, *(HttpSource(url, client) for url in urls))
