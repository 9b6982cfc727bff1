// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

/// @title Which page a worker trains on at each inner step, as in `protocols/assignment.py`.
library Assignment {
    /// @dev perm(k) = (slope · k + offset) mod pages with gcd(slope, pages) = 1: seat i of n owns perm(i + n·k).
    /// @param seed The job's id.
    /// @param pages Below 2**32, and at least `seats`.
    /// @return Index of the page of inner step `step`.
    function page(bytes32 seed, uint256 pages, uint256 seats, uint256 seat, uint256 round, uint256 step)
        internal
        pure
        returns (uint256)
    {
        uint256 drawn = uint256(keccak256(abi.encode(seed, bytes32("step"), seat, round, step))) % (pages / seats);
        uint256 offset = uint256(keccak256(abi.encode(seed, bytes32("offset"))));
        return addmod(slope(seed, pages) * (seat + seats * drawn), offset, pages);
    }

    /// @dev The first number from a drawn one on that has no factor in common with `pages`. Below 2**32 no stretch of 40
    /// numbers is without one, and at most 47 divisions find a common divisor.
    function slope(bytes32 seed, uint256 pages) internal pure returns (uint256 candidate) {
        candidate = 1 + uint256(keccak256(abi.encode(seed, bytes32("slope")))) % pages;
        while (!_coprime(candidate, pages)) ++candidate;
    }

    function _coprime(uint256 a, uint256 b) private pure returns (bool) {
        // In assembly it costs half: Solidity would look for a division by zero each time.
        assembly ("memory-safe") {
            for {} b {} {
                let left := mod(a, b)
                a := b
                b := left
            }
        }
        return a == 1;
    }
}
