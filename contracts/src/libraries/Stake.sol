// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IWorkers} from "../interfaces/IWorkers.sol";

/// @title One worker's stake: free or locked, never both.
library Stake {
    struct State {
        uint128 free;
        uint128 locked;
    }

    function add(State storage self, uint256 amount) internal {
        // casting to 'uint128' is safe because no chain has 2**128 wei
        // forge-lint: disable-next-line(unsafe-typecast)
        self.free += uint128(amount);
    }

    function remove(State storage self, uint256 amount) internal {
        if (amount > self.free) revert IWorkers.StakeTooLow(self.free, amount);
        // casting to 'uint128' is safe because of the line before
        // forge-lint: disable-next-line(unsafe-typecast)
        self.free -= uint128(amount);
    }

    function lock(State storage self, uint128 amount) internal {
        remove(self, amount);
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
}
