// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IWorkers} from "../interfaces/IWorkers.sol";

/// @title One worker's stake: free, locked or on its way out, never two of these.
library Stake {
    /// @dev Seconds between asking for stake and getting it: longer than any job's misdeeds can come to light after it.
    uint64 internal constant UNBONDING = 2 days;

    struct State {
        uint128 free;
        uint128 locked;
        uint128 unbonding;
        /// When `unbonding` may be taken out.
        uint64 unbondedAt;
    }

    function add(State storage self, uint256 amount) internal {
        // casting to 'uint128' is safe because no chain has 2**128 wei
        // forge-lint: disable-next-line(unsafe-typecast)
        self.free += uint128(amount);
    }

    /// @dev All that is on its way out waits for what joined it last.
    function unbond(State storage self, uint128 amount) internal returns (uint64 due) {
        _remove(self, amount);
        due = uint64(block.timestamp) + UNBONDING;
        self.unbonding += amount;
        self.unbondedAt = due;
    }

    function withdraw(State storage self) internal returns (uint128 amount) {
        amount = self.unbonding;
        if (amount == 0) revert IWorkers.NothingUnbonding();
        if (block.timestamp < self.unbondedAt) revert IWorkers.StillUnbonding(self.unbondedAt);
        self.unbonding = 0;
    }

    function lock(State storage self, uint128 amount) internal {
        _remove(self, amount);
        self.locked += amount;
    }

    /// @dev `Jobs` unlocks and slashes only what it locked before; if it ever did otherwise, the subtraction reverts.
    function unlock(State storage self, uint128 amount) internal {
        self.locked -= amount;
        self.free += amount;
    }

    function slash(State storage self, uint128 amount) internal {
        self.locked -= amount;
    }

    /// @notice Takes what is no longer locked, as far as it is still here.
    function seize(State storage self, uint128 most) internal returns (uint128 taken) {
        uint128 leaving = most < self.unbonding ? most : self.unbonding;
        uint128 resting = most - leaving < self.free ? most - leaving : self.free;
        self.unbonding -= leaving;
        self.free -= resting;
        return leaving + resting;
    }

    function _remove(State storage self, uint128 amount) private {
        if (amount > self.free) revert IWorkers.StakeTooLow(self.free, amount);
        self.free -= amount;
    }
}
