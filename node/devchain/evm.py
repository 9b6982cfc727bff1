"""Which EVM the development chain runs: py-evm with cancun's rules, and a fast BN254 where there is one.

The one rule: rules and gas are py-evm's own; only the arithmetic of three precompiles is exchanged.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from eth import constants
from eth.chains.base import MiningChain
from eth.consensus import ConsensusApplier, NoProofConsensus
from eth.db.atomic import AtomicDB
from eth.exceptions import VMError
from eth.vm.forks.cancun import CancunVM
from eth.vm.forks.cancun.computation import CancunComputation
from eth.vm.forks.istanbul.constants import GAS_ECADD, GAS_ECMUL, GAS_ECPAIRING_BASE, GAS_ECPAIRING_PER_POINT

try:
    # Verifying a proof takes a seventh of the time. Not required: wheels do not exist for every platform.
    import pyrevm
except ImportError:
    pyrevm = None  # type: ignore[assignment]

ECADD, ECMUL, ECPAIRING = 6, 7, 8
PAIR_BYTES = 192

Precompile = Callable[[Any], Any]


def create_chain(chain_id: int, gas_limit: int, timestamp_s: int, balances: dict[bytes, int]) -> Any:
    """A `MiningChain` whose genesis block holds the balances (in wei, by address)."""
    computation = CancunComputation
    if pyrevm is not None:
        fast = {**CancunComputation.get_precompiles(), **_fast_precompiles()}
        computation = type("DevComputation", (CancunComputation,), {"_precompiles": fast})
    state = type("DevState", (CancunVM.get_state_class(),), {"computation_class": computation})
    vm = type("DevVM", (_DevVM,), {"_state_class": state})
    configuration = ConsensusApplier(NoProofConsensus).amend_vm_configuration(((0, vm),))
    chain = _DevChain.configure("DevChain", chain_id=chain_id, vm_configuration=configuration)
    genesis = {"gas_limit": gas_limit, "timestamp": timestamp_s, "difficulty": 0, "nonce": constants.POST_MERGE_NONCE}
    accounts = {a: {"balance": b, "nonce": 0, "code": b"", "storage": {}} for a, b in balances.items()}
    return chain.from_genesis(AtomicDB(), genesis, accounts)


class _DevVM(CancunVM):  # type: ignore[misc]  # py-evm's classes are untyped to us
    def validate_block(self, block: Any) -> None:
        """Take any block: we made it. Two blocks of one second are what a rollup has, and py-evm refuses."""


class _DevChain(MiningChain):  # type: ignore[misc]
    def validate_block(self, block: Any) -> None:
        """As above."""


# -- BN254 -------------------------------------------------------------------------


def _fast_precompiles() -> dict[bytes, Precompile]:
    costs: dict[int, Callable[[int], int]] = {
        ECADD: lambda size: int(GAS_ECADD),
        ECMUL: lambda size: int(GAS_ECMUL),
        ECPAIRING: lambda size: int(GAS_ECPAIRING_BASE + size // PAIR_BYTES * GAS_ECPAIRING_PER_POINT),
    }
    return {number.to_bytes(20, "big"): _precompile(number, cost) for number, cost in costs.items()}


def _precompile(number: int, cost: Callable[[int], int]) -> Precompile:
    evm = pyrevm.EVM()
    caller, to = f"0x{0xFF:040x}", f"0x{number:040x}"

    def run(computation: Any) -> Any:
        data = computation.msg.data_as_bytes
        if number == ECPAIRING and len(data) % PAIR_BYTES:
            raise VMError("pairing input is not a whole number of pairs")
        computation.consume_gas(cost(len(data)), reason="BN254 precompile")
        try:
            computation.output = bytes(evm.message_call(caller=caller, to=to, calldata=data, gas=30_000_000))
        except RuntimeError as error:
            raise VMError("invalid BN254 input") from error
        return computation

    return run
