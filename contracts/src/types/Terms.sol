// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

enum ProofPolicy {
    /// Statement E: quality of drawn weights. Says nothing about the work: `training: unproved`.
    EVALUATION,
    /// Statement T: drawn inner steps of the worker's own training. `training: proved`.
    TRAINING
}

/// @notice What a requester fixes when it posts; the same fields in the same order as `protocols/chain.py`.
struct Terms {
    /// The model package's manifest (blake3).
    bytes32 package;
    /// The dataset's manifest; its pages are sealed to the job.
    bytes32 data;
    /// θ_0, int32 little-endian.
    bytes32 initialState;
    bytes32 srs;
    /// X25519 public key: results are sealed to it.
    bytes32 requesterKey;
    /// keccak of C(θ_0), 64 bytes; zero in evaluation jobs.
    bytes32 initialCommitment;
    /// Merkle root over pages (index, C(x), C(y)): challenge pages, in training jobs those that are trained on.
    bytes32 pagesRoot;
    /// Verifying key as registered in `Verifiers`.
    bytes32 vkDigest;
    /// May deliver keys besides the requester; the zero address for nobody.
    address delegate;
    /// Number of pages under `pagesRoot`; in training jobs at least one a seat.
    uint32 pages;
    uint32 seats;
    /// The join window closes early when so many have applied; at least `seats`.
    uint32 maxApplicants;
    uint32 rounds;
    /// Inner steps of a round: the weights after the last are step leaf `steps`.
    uint32 steps;
    /// Proofs asked of each worker.
    uint32 samples;
    ProofPolicy proofPolicy;
    uint32 joinWindow;
    uint32 readyWindow;
    uint32 roundTimeout;
    uint32 proofWindow;
    uint128 stake;
    uint128 budget;
    /// Paid from the reserve to whoever performs `assign` and `settle`.
    uint128 moveFee;
    /// A proof with a larger public loss earns nothing; 0 is no bound. No step has a loss.
    uint256 maxLoss;
    /// What budget and move fees are paid in; the zero address is the native token. Stakes are always native.
    address token;
}
