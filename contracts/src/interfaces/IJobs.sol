// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {Certificate} from "../types/Certificate.sol";
import {Equivocation} from "../types/Equivocation.sol";
import {Evidence} from "../types/Evidence.sol";
import {JobState} from "../types/JobState.sol";
import {Permit} from "../types/Permit.sol";
import {SeatSet} from "../types/SeatSet.sol";
import {Terms} from "../types/Terms.sol";

/// @title Jobs: from a posted budget to paid workers.
/// @dev Events mirror `ChainEvent` of `protocols/chain.py`, name by name and field by field.
/// "Before" a deadline is block.timestamp < deadline, "after" is block.timestamp ≥ deadline.
interface IJobs {
    // -- Events ------------------------------------------------------------------

    event JobPosted(bytes32 indexed job, address indexed requester, Terms terms, uint64 joinDeadline);
    event Applied(bytes32 indexed job, address indexed worker);
    /// @notice As many have applied as the terms allow: the window ends now.
    event JoinClosed(bytes32 indexed job, uint64 joinDeadline);
    event Assigned(bytes32 indexed job, address[] workers, uint64 readyDeadline);
    event KeysDelivered(bytes32 indexed job, bytes[] wraps);
    event WorkerReady(bytes32 indexed job, address indexed worker);
    event TrainingStarted(bytes32 indexed job, uint64 roundDeadline);
    /// @param roundDeadline Of the next round; zero where this was the last.
    event RoundCommitted(
        bytes32 indexed job,
        uint32 round,
        uint32 view_,
        bytes32 setRoot,
        bytes32 state,
        bytes commitment,
        SeatSet participants,
        bytes32 certificate,
        uint64 roundDeadline
    );
    /// @notice A seat computed `state` where the round's certificate says another.
    event Dissented(bytes32 indexed job, address indexed worker, uint32 round, bytes32 state);
    event EquivocationProved(bytes32 indexed job, address indexed worker, uint32 round, address reporter);
    event RoundNulled(bytes32 indexed job, uint32 round, uint64 roundDeadline);
    event ProvingStarted(bytes32 indexed job, uint64 beaconRound, uint64 proofDeadline);
    /// @param loss Zero in training jobs.
    /// @param earns Whether `loss` is within the terms' bound.
    event ProofAccepted(
        bytes32 indexed job,
        address indexed worker,
        uint32 sample,
        uint32 round,
        uint32 step,
        uint32 page,
        uint256 loss,
        bool earns
    );
    event WorkerPaid(bytes32 indexed job, address indexed worker, uint256 amount);
    event WorkerSlashed(bytes32 indexed job, address indexed worker, uint256 amount);
    event FeePaid(bytes32 indexed job, address indexed to, uint256 amount);
    /// @param refund Credited to the requester.
    event JobEnded(bytes32 indexed job, JobState state, uint256 refund);

    // -- Errors ------------------------------------------------------------------

    /// Anybody can compute the beacon beforehand: for development networks only.
    error PredictableBeacon();
    /// The job is in another state than the call needs; NONE where there is no such job.
    error WrongState(JobState state);
    error TooEarly(uint64 deadline);
    error TooLate(uint64 deadline);

    /// @param field The first of the terms that is out of bounds, as `protocols/chain.py` names it.
    error BadTerms(string field);
    /// Evaluation proofs say nothing about the work: only development networks take such jobs.
    error UnprovedTraining();
    error UnknownKey(bytes32 vkDigest);
    error JobExists();
    error NotRequester();

    error AlreadyApplied();
    error TooFewApplicants(uint256 applicants);

    error KeysAlreadyDelivered();
    error WrongWraps(uint256 expected);
    error KeysMissing();
    /// No seat drawn, or no certified round in which it took part.
    error NotSeated();
    error AlreadyReady();

    error WrongRound(uint32 expected);
    error WrongParent(bytes32 expected);
    error BadCommitment();
    error WrongParticipants();
    error WrongSigners();
    error NoQuorum(uint256 needed);
    error BadSignature(uint256 seat);

    error WrongSample(uint32 samples);
    error AlreadyAccepted();
    /// The beacon drew another round, step or page.
    error WrongDraw(uint32 round, uint32 step, uint32 page);
    error ProofTooShort();
    error NotInSet();
    /// The state before the first step is not the one that the round began with.
    error WrongStart();
    error NotInReceipt();
    error NotInPages();
    error BadInstances();
    /// Instances say by how much the step's equations fail: there are some, and all are zero.
    error StepUnproved();
    error ProofInvalid();

    error NothingLocked();

    error AlreadyDissented();
    error SameVote();
    error AlreadyPunished();

    // -- Calls -------------------------------------------------------------------

    /// @notice Posts a job; pays exactly budget + 2 · move fee into escrow, in the terms' token.
    /// @param nonce Any; a requester uses one only once.
    /// @return job keccak of (chain, contract, requester, nonce).
    function post(Terms calldata terms, bytes32 nonce) external payable returns (bytes32 job);

    /// @notice Posts a job in a token that takes signed allowances (EIP-2612).
    function postWithPermit(Terms calldata terms, bytes32 nonce, Permit calldata permit) external returns (bytes32 job);

    /// @notice Applies for a seat before the join deadline and locks the stake. (`apply` is a reserved word.)
    function applyFor(bytes32 job) external;

    /// @notice Draws the seats after the join deadline. Anybody; earns the move fee.
    function assign(bytes32 job) external;

    /// @notice Publishes the job key wrapped to each seated worker, in seat order. Requester or delegate, once.
    function deliverKeys(bytes32 job, bytes[] calldata wraps) external;

    /// @notice Says that the sender, seated, holds everything it needs. A quorum of these starts training.
    function ready(bytes32 job) external;

    /// @notice Fixes the next round by a quorum's certificate. Anybody; the first valid one is the round.
    function commitRound(bytes32 job, Certificate calldata certificate) external;

    /// @notice Counts the next round as void after its deadline. Anybody. The eighth in a row ends the training.
    function nullRound(bytes32 job, uint32 round) external;

    /// @notice Says that the sender, seated, computed `state` where the certificate of `round` says another. With a third
    /// of the seats the training ends: what was certified is proved and paid, the rest of the budget goes back.
    function dissent(bytes32 job, uint32 round, bytes32 state) external;

    /// @notice Takes the stake of a seat that signed two votes for one round on one parent, until a day after the job's
    /// end. Anybody; earns a tenth of it, as stake.
    function reportEquivocation(bytes32 job, address worker, Equivocation calldata votes) external;

    /// @notice Credits `worker` with a proof of its drawn sample. Anybody may submit.
    /// @param keyWords The verifying key that the terms name by its digest.
    function submitProof(
        bytes32 job,
        address worker,
        uint32 sample,
        Evidence calldata evidence,
        bytes calldata proof,
        uint256[] calldata instances,
        bytes32[] calldata keyWords
    ) external;

    /// @notice Pays, slashes and refunds, once all proofs are in or their deadline has passed. Anybody; earns the fee.
    function settle(bytes32 job) external;

    /// @notice Takes an open job back. Requester only.
    function cancel(bytes32 job) external;

    /// @notice Ends a job that can't start. Anybody; earns the move fee.
    function expire(bytes32 job) external;

    /// @notice Unlocks the stake of an applicant who drew no seat, or of anybody unslashed once the job is over.
    function release(bytes32 job, address worker) external;
}
