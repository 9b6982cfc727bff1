// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Certificate} from "../types/Certificate.sol";
import {Ballot} from "../types/Equivocation.sol";

/// @title What is signed and what lies under the roots, encoded as in `protocols/evidence.py` and `eip712.py`.
library Statement {
    bytes32 private constant _VOTE = keccak256(
        "Vote(bytes32 job,uint32 epoch,uint32 round,uint32 view,bytes32 parent,bytes32 set,uint64 participants,bytes32 state,bytes32 commitment)"
    );

    /// @dev The set of workers is fixed for now: membership epochs come with churn.
    uint32 private constant _EPOCH = 1;

    /// @dev Were the participants not signed, a relayer could misname them and so get honest workers slashed.
    /// @return EIP-712 struct hash of the vote that a certificate's signers signed.
    function hashVote(bytes32 job, Certificate calldata certificate) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                _VOTE,
                job,
                _EPOCH,
                certificate.round,
                certificate.view_,
                certificate.parent,
                certificate.setRoot,
                certificate.participants,
                certificate.state,
                keccak256(certificate.commitment)
            )
        );
    }

    /// @return EIP-712 struct hash of one of two votes that contradict each other.
    function hashBallot(bytes32 job, uint32 round, bytes32 parent, Ballot calldata ballot)
        internal
        pure
        returns (bytes32)
    {
        return keccak256(
            abi.encode(
                _VOTE,
                job,
                _EPOCH,
                round,
                ballot.view_,
                parent,
                ballot.setRoot,
                ballot.participants,
                ballot.state,
                keccak256(ballot.commitment)
            )
        );
    }

    /// @return What a ballot votes for: the same in every view.
    function hashChoice(Ballot calldata ballot) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(ballot.setRoot, ballot.participants, ballot.state, keccak256(ballot.commitment))
        );
    }

    /// @return The parent of the next certificate.
    function hashCertificate(bytes32 job, Certificate calldata certificate) internal pure returns (bytes32) {
        return keccak256(
            abi.encode(
                job, certificate.round, certificate.setRoot, certificate.state, keccak256(certificate.commitment)
            )
        );
    }

    function encodeSetLeaf(bytes32 job, uint32 round, address worker, bytes32 update, bytes32 leaves)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encode(job, round, worker, update, leaves);
    }

    /// @param state C(w_t ‖ s_t), 64 bytes: weights and optimizer state after `step` inner steps.
    function encodeStepLeaf(bytes32 job, address worker, uint32 round, uint256 step, bytes calldata state)
        internal
        pure
        returns (bytes memory)
    {
        return abi.encode(job, worker, round, step, keccak256(state));
    }

    /// @param start keccak of C(θ) of the state that the round began with; zero in evaluation jobs.
    /// @return What is kept of a certified round.
    function hashRound(bytes32 setRoot, bytes32 start) internal pure returns (bytes32) {
        return keccak256(abi.encode(setRoot, start));
    }

    /// @param x C(x), 64 bytes.
    /// @param y C(y), 64 bytes.
    function encodePageLeaf(uint32 index, bytes calldata x, bytes calldata y) internal pure returns (bytes memory) {
        return abi.encode(index, keccak256(x), keccak256(y));
    }
}
