"""JSON-RPC 2.0: bytes in, bytes out. Whatever comes in, what goes out is a valid answer.

The one rule: a method that only reads what `DevChain` has published is answered at once, even while the EVM
works; all others wait for their turn and run in a thread, so that a long verification delays no poll.
Error codes and revert data are those of geth and anvil.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import trio

from node.devchain.chain import CallRequest, DevChain, LogFilter, Refused, Reverted

MAX_BATCH = 100
MAX_DEPTH = 32  # a batch of log filters has 5
MAX_TIME_JUMP_S = 10 * 365 * 24 * 3600
PARSE_ERROR, INVALID_REQUEST, NO_METHOD, INVALID_PARAMS, INTERNAL, SERVER, REVERTED = (
    -32700, -32600, -32601, -32602, -32603, -32000, 3,
)  # fmt: skip

_BRACKETS = re.compile(rb"[\[\]{}]")

log = logging.getLogger("skynet.node.devchain")

Method = Callable[[DevChain, list[Any]], Any]


@dataclass(frozen=True, slots=True)
class Fault:
    code: int
    message: str
    data: str | None = None


class BadParams(Exception):
    """A parameter is missing or malformed; its text names it."""


class Rpc:
    def __init__(self, chain: DevChain) -> None:
        self._chain = chain
        self._turn = trio.Lock()

    async def answer(self, body: bytes) -> bytes:
        try:
            parsed = _parse(body)
        except ValueError:
            return _encode(_failure(None, Fault(PARSE_ERROR, "parse error: not JSON")))
        if not isinstance(parsed, list):
            return _encode(await self._answer_one(parsed))
        if not 0 < len(parsed) <= MAX_BATCH:
            return _encode(_failure(None, Fault(INVALID_REQUEST, f"a batch has 1 to {MAX_BATCH} requests")))
        return _encode([await self._answer_one(request) for request in parsed])

    async def mine(self) -> None:
        """An empty block, unless this second has one."""
        async with self._turn:
            if self._chain.head()["timestamp"] < self._chain.now_s():
                await trio.to_thread.run_sync(self._chain.mine)

    async def _answer_one(self, request: Any) -> dict[str, Any]:
        if not isinstance(request, dict):
            return _failure(None, Fault(INVALID_REQUEST, "a request is an object"))
        name, params, number = request.get("method"), request.get("params", []), request.get("id")
        number = number if isinstance(number, int | str) else None
        if not isinstance(name, str) or not isinstance(params, list):
            return _failure(number, Fault(INVALID_REQUEST, "a request has a method and a list of params"))
        if name not in INSTANT and name not in EXECUTED:
            return _failure(number, Fault(NO_METHOD, f"the method {name[:64]} does not exist/is not available"))
        try:
            result = _hexed(await self._perform(name, params))
        except BadParams as error:
            return _failure(number, Fault(INVALID_PARAMS, f"{name}: {error}"))
        except Refused as error:
            return _failure(number, Fault(SERVER, str(error)))
        except Reverted as error:
            return _failure(number, Fault(REVERTED, str(error), "0x" + error.data.hex()))
        except Exception:
            # The boundary to strangers: a fault of ours in one request must not end the chain for all others.
            log.exception("bug in %s", name)
            return _failure(number, Fault(INTERNAL, "internal error; see the chain's log"))
        return {"jsonrpc": "2.0", "id": number, "result": result}

    async def _perform(self, name: str, params: list[Any]) -> Any:
        if name in INSTANT:
            return INSTANT[name](self._chain, params)
        method = EXECUTED[name]
        async with self._turn:
            return await trio.to_thread.run_sync(method, self._chain, params)


def _parse(body: bytes) -> Any:
    """ValueError for what is no JSON, or nested too deeply to be a request of ours."""
    depth = 0
    for bracket in _BRACKETS.finditer(body):
        depth += 1 if bracket[0] in b"[{" else -1
        # py-evm lifts Python's recursion limit to 100,000: a deep body would overflow the parser's C stack.
        if depth > MAX_DEPTH:
            raise ValueError("nested too deeply")
    return json.loads(body)


def _failure(number: int | str | None, fault: Fault) -> dict[str, Any]:
    error: dict[str, Any] = {"code": fault.code, "message": fault.message}
    if fault.data is not None:
        error["data"] = fault.data
    return {"jsonrpc": "2.0", "id": number, "error": error}


def _encode(answer: Any) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def _hexed(value: Any) -> Any:
    """Quantities and data as the Ethereum JSON-RPC writes them."""
    match value:
        case bool() | None | str() | float():
            return value
        case int():
            return hex(value)
        case bytes():
            return "0x" + value.hex()
        case dict():
            return {key: _hexed(item) for key, item in value.items()}
        case _:
            return [_hexed(item) for item in value]


# -- Parameters --------------------------------------------------------------------


def _at(params: list[Any], index: int, name: str) -> Any:
    if index >= len(params):
        raise BadParams(f"missing {name}")
    return params[index]


def _data(value: Any, name: str, size: int | None = None) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise BadParams(f"{name} must be 0x and hex digits")
    try:
        data = bytes.fromhex(value[2:])
    except ValueError:
        raise BadParams(f"{name} must be 0x and an even number of hex digits") from None
    if size is not None and len(data) != size:
        raise BadParams(f"{name} must have {size} bytes")
    return data


def _quantity(value: Any, name: str) -> int:
    if isinstance(value, bool):
        raise BadParams(f"{name} must be a quantity")
    if isinstance(value, str) and value.startswith("0x") and len(value) <= 66 and value.isascii():
        try:
            value = int(value, 16)
        except ValueError:
            raise BadParams(f"{name} must be 0x and hex digits") from None
    if not isinstance(value, int) or not 0 <= value < 1 << 256:
        raise BadParams(f"{name} must be a quantity")
    return value


def _block(chain: DevChain, params: list[Any], index: int) -> int:
    """A block number from a tag, a number or an EIP-1898 object; the latest where there is none."""
    value = params[index] if index < len(params) else "latest"
    if isinstance(value, dict):
        value = value.get("blockNumber", value.get("blockHash"))
        if isinstance(value, str) and len(value) == 66:
            return _known(chain.block_number(_data(value, "block hash", 32)))
    head = int(chain.head()["number"])
    match value:
        case "latest" | "pending" | "safe" | "finalized" | None:
            return head
        case "earliest":
            return 0
        case _:
            number = _quantity(value, "block")
            return _known(number if number <= head else None)


def _known(number: int | None) -> int:
    if number is None:
        raise Refused("header not found")
    return number


def _bound(chain: DevChain, value: Any, name: str) -> int:
    """One end of a log filter's range; a number beyond the head is as good as the head."""
    if isinstance(value, str) and not value.startswith("0x"):
        return _block(chain, [value], 0)
    return min(_quantity(value, name), int(chain.head()["number"]) + 1)


def _call(params: list[Any]) -> CallRequest:
    raw = _at(params, 0, "transaction")
    if not isinstance(raw, dict):
        raise BadParams("transaction must be an object")
    to, data = raw.get("to"), raw.get("input", raw.get("data"))
    gas = raw.get("gas")
    return CallRequest(
        to=None if to is None else _data(to, "to", 20),
        data=b"" if data is None else _data(data, "data"),
        sender=_data(raw.get("from") or "0x" + "00" * 20, "from", 20),
        value=_quantity(raw.get("value") or 0, "value"),
        gas=None if gas is None else _quantity(gas, "gas"),
    )


def _filter(chain: DevChain, params: list[Any]) -> LogFilter:
    raw = _at(params, 0, "filter")
    if not isinstance(raw, dict):
        raise BadParams("filter must be an object")
    if raw.get("blockHash") is not None:
        first = last = _known(chain.block_number(_data(raw["blockHash"], "blockHash", 32)))
    else:
        first = _bound(chain, raw.get("fromBlock") or "latest", "fromBlock")
        last = _bound(chain, raw.get("toBlock") or "latest", "toBlock")
    address, topics = raw.get("address") or [], raw.get("topics") or []
    if not isinstance(topics, list) or len(topics) > 4:
        raise BadParams("topics must be a list of at most four")
    addresses = _alternatives(address, "address", 20)
    return LogFilter(first, last, addresses, tuple(_alternatives(topic or [], "topics", 32) for topic in topics))


def _alternatives(value: Any, name: str, size: int) -> frozenset[bytes]:
    values = value if isinstance(value, list) else [value]
    return frozenset(_data(item, name, size) for item in values)


# -- Methods: read what is published -------------------------------------------------


def _get_block(chain: DevChain, number: int | None, params: list[Any]) -> Any:
    block = None if number is None else chain.block(number)
    if block is None or not (len(params) > 1 and params[1] is True):
        return block
    return {**block, "transactions": [chain.transaction(h) for h in block["transactions"]]}


def _block_by_number(chain: DevChain, params: list[Any]) -> Any:
    try:
        number = _block(chain, [_at(params, 0, "block")], 0)
    except Refused:
        return None
    return _get_block(chain, number, params)


def _block_by_hash(chain: DevChain, params: list[Any]) -> Any:
    return _get_block(chain, chain.block_number(_data(_at(params, 0, "hash"), "hash", 32)), params)


def _transaction_hash(params: list[Any]) -> bytes:
    return _data(_at(params, 0, "hash"), "hash", 32)


def _fee_history(chain: DevChain, params: list[Any]) -> dict[str, Any]:
    last = _block(chain, params, 1)
    first = max(0, last + 1 - min(_quantity(_at(params, 0, "blockCount"), "blockCount"), 1024))
    blocks = [block for number in range(first, last + 1) if (block := chain.block(number)) is not None]
    fees = [block["baseFeePerGas"] for block in blocks]
    history: dict[str, Any] = {"oldestBlock": first, "baseFeePerGas": [*fees, *fees[-1:]]}
    wanted = params[2] if len(params) > 2 else None
    if isinstance(wanted, list) and len(wanted) <= 100:
        history["reward"] = [[chain.tip_wei() for _ in wanted] for _ in blocks]
    return history | {"gasUsedRatio": [block["gasUsed"] / block["gasLimit"] for block in blocks]}


INSTANT: dict[str, Method] = {
    "web3_clientVersion": lambda chain, params: "skynet-devchain/1 (py-evm; development only)",
    "net_version": lambda chain, params: str(chain.chain_id),
    "net_listening": lambda chain, params: True,
    "eth_chainId": lambda chain, params: chain.chain_id,
    "eth_syncing": lambda chain, params: False,
    "eth_accounts": lambda chain, params: [],
    "eth_blockNumber": lambda chain, params: chain.head()["number"],
    "eth_getBlockByNumber": _block_by_number,
    "eth_getBlockByHash": _block_by_hash,
    "eth_getTransactionByHash": lambda chain, params: chain.transaction(_transaction_hash(params)),
    "eth_getTransactionReceipt": lambda chain, params: chain.receipt(_transaction_hash(params)),
    "eth_getLogs": lambda chain, params: chain.logs(_filter(chain, params)),
    "eth_maxPriorityFeePerGas": lambda chain, params: chain.tip_wei(),
    "eth_feeHistory": _fee_history,
}

# -- Methods: ask the EVM --------------------------------------------------------------


def _address(params: list[Any]) -> bytes:
    return _data(_at(params, 0, "address"), "address", 20)


def _storage(chain: DevChain, params: list[Any]) -> bytes:
    slot = _quantity(_at(params, 1, "slot"), "slot")
    return chain.storage(_address(params), slot, _block(chain, params, 2)).to_bytes(32, "big")


def _send(chain: DevChain, params: list[Any]) -> bytes:
    return chain.send(_data(_at(params, 0, "transaction"), "transaction"))


def _increase_time(chain: DevChain, params: list[Any]) -> int:
    seconds = _quantity(_at(params, 0, "seconds"), "seconds")
    if seconds > MAX_TIME_JUMP_S:
        raise BadParams(f"seconds must be at most {MAX_TIME_JUMP_S}")
    return chain.increase_time(seconds)


def _mine(chain: DevChain, params: list[Any]) -> str:
    chain.mine()
    return "0x0"


EXECUTED: dict[str, Method] = {
    "eth_call": lambda chain, params: chain.call(_call(params), _block(chain, params, 1)),
    "eth_estimateGas": lambda chain, params: chain.estimate(_call(params), _block(chain, params, 1)),
    "eth_sendRawTransaction": _send,
    "eth_getTransactionCount": lambda chain, params: chain.nonce(_address(params), _block(chain, params, 1)),
    "eth_getBalance": lambda chain, params: chain.balance(_address(params), _block(chain, params, 1)),
    "eth_getCode": lambda chain, params: chain.code(_address(params), _block(chain, params, 1)),
    "eth_getStorageAt": _storage,
    "eth_gasPrice": lambda chain, params: chain.gas_price(),
    "evm_increaseTime": _increase_time,
    "evm_mine": _mine,
}
