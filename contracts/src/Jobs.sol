// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IERC20Permit} from "@openzeppelin/contracts/token/ERC20/extensions/IERC20Permit.sol";
import {EIP712} from "@openzeppelin/contracts/utils/cryptography/EIP712.sol";

import {IBeacon} from "./interfaces/IBeacon.sol";
import {IJobs} from "./interfaces/IJobs.sol";
import {IVerifiers} from "./interfaces/IVerifiers.sol";
import {IWorkers} from "./interfaces/IWorkers.sol";
import {Job} from "./libraries/Job.sol";
import {Proofs} from "./libraries/Proofs.sol";
import {Rounds} from "./libraries/Rounds.sol";
import {Statement} from "./libraries/Statement.sol";
import {Purse} from "./Purse.sol";
import {Certificate} from "./types/Certificate.sol";
import {Equivocation} from "./types/Equivocation.sol";
import {Evidence} from "./types/Evidence.sol";
import {JobState} from "./types/JobState.sol";
import {Permit} from "./types/Permit.sol";
import {SeatSet} from "./types/SeatSet.sol";
import {ProofPolicy, Terms} from "./types/Terms.sol";
import {Workers} from "./Workers.sol";

/// @title Jobs: escrow, seats, certified rounds, verified proofs, settlement.
/// @notice Has no owner. Money comes in by `post` only and goes out by `withdraw` only; stakes stay in `Workers`, which
/// this contract creates.
/// @dev The rules are in the libraries `Job`, `Rounds` and `Proofs`; this contract keeps the money, calls the other contracts and logs.
contract Jobs is IJobs, EIP712, Purse {
    using Job for Job.State;
    using Proofs for Job.State;
    using Rounds for Job.State;

    /// @notice A job as it stands.
    struct Summary {
        JobState state;
        address requester;
        bool keysDelivered;
        uint32 readies;
        uint32 round;
        uint64 deadline;
        uint64 beaconRound;
        uint256 escrow;
        bytes32 certificate;
    }

    IWorkers public immutable workers;
    IVerifiers public immutable verifiers;
    IBeacon public immutable beacon;

    mapping(bytes32 job => Job.State) private _jobs;

    constructor(IVerifiers verifiers_, IBeacon beacon_) EIP712("SkyNet", "1") {
        if (beacon_.isTest() && !verifiers_.development()) revert PredictableBeacon();
        workers = new Workers();
        verifiers = verifiers_;
        beacon = beacon_;
    }

    // -- Posting and applying ----------------------------------------------------

    /// @inheritdoc IJobs
    function post(Terms calldata terms, bytes32 nonce) public payable nonReentrant returns (bytes32 job) {
        job = keccak256(abi.encode(block.chainid, address(this), msg.sender, nonce));
        _jobs[job].open(terms, msg.sender);
        if (terms.proofPolicy == ProofPolicy.EVALUATION && !verifiers.development()) revert UnprovedTraining();
        if (!verifiers.isRegistered(terms.vkDigest)) revert UnknownKey(terms.vkDigest);
        emit JobPosted(job, msg.sender, terms, _jobs[job].deadline);
        _take(terms.token, Job.escrowOf(terms));
    }

    /// @inheritdoc IJobs
    /// @dev Whoever sees the permit may use it first; then the allowance is there all the same.
    function postWithPermit(Terms calldata terms, bytes32 nonce, Permit calldata permit) external returns (bytes32) {
        try IERC20Permit(terms.token)
            .permit(
                msg.sender, address(this), Job.escrowOf(terms), permit.deadline, permit.v, permit.r, permit.s
            ) {} catch {}
        return post(terms, nonce);
    }

    /// @inheritdoc IJobs
    function applyFor(bytes32 job) external {
        bool closed = _jobs[job].enlist(msg.sender);
        workers.lock(msg.sender, _jobs[job].stake);
        emit Applied(job, msg.sender);
        if (closed) emit JoinClosed(job, _jobs[job].deadline);
    }

    /// @inheritdoc IJobs
    function assign(bytes32 job) external {
        address[] memory seated = _jobs[job].assign(job, beacon);
        emit Assigned(job, seated, _jobs[job].deadline);
        _payMove(job);
    }

    // -- Getting ready -----------------------------------------------------------

    /// @inheritdoc IJobs
    function deliverKeys(bytes32 job, bytes[] calldata wraps) external {
        _jobs[job].deliverKeys(msg.sender, wraps.length);
        emit KeysDelivered(job, wraps);
    }

    /// @inheritdoc IJobs
    function ready(bytes32 job) external {
        bool started = _jobs[job].markReady(msg.sender);
        emit WorkerReady(job, msg.sender);
        if (started) emit TrainingStarted(job, _jobs[job].deadline);
    }

    // -- Rounds ------------------------------------------------------------------

    /// @inheritdoc IJobs
    function commitRound(bytes32 job, Certificate calldata certificate) external {
        bytes32 vote = _hashTypedDataV4(Statement.hashVote(job, certificate));
        _jobs[job].commit(job, certificate, vote, beacon);
        emit RoundCommitted(
            job,
            certificate.round,
            certificate.view_,
            certificate.setRoot,
            certificate.state,
            certificate.commitment,
            certificate.participants,
            _jobs[job].certificate,
            _nextRoundDeadline(job)
        );
        _announceProving(job);
    }

    /// @inheritdoc IJobs
    function nullRound(bytes32 job, uint32 round) external {
        _jobs[job].nullify(round, beacon);
        emit RoundNulled(job, round, _nextRoundDeadline(job));
        _announceProving(job);
    }

    // -- Liars -------------------------------------------------------------------

    /// @inheritdoc IJobs
    function dissent(bytes32 job, uint32 round, bytes32 state) external {
        _jobs[job].dissent(msg.sender, round, beacon);
        emit Dissented(job, msg.sender, round, state);
        _announceProving(job);
    }

    /// @inheritdoc IJobs
    function reportEquivocation(bytes32 job, address worker, Equivocation calldata votes) external {
        bytes32 first = _hashTypedDataV4(Statement.hashBallot(job, votes.round, votes.parent, votes.first));
        bytes32 second = _hashTypedDataV4(Statement.hashBallot(job, votes.round, votes.parent, votes.second));
        bool locked = _jobs[job].convict(worker, votes, first, second);
        emit EquivocationProved(job, worker, votes.round, msg.sender);
        emit WorkerSlashed(job, worker, workers.punish(worker, _jobs[job].stake, locked, msg.sender));
    }

    // -- Proofs ------------------------------------------------------------------

    /// @inheritdoc IJobs
    function submitProof(
        bytes32 job,
        address worker,
        uint32 sample,
        Evidence calldata evidence,
        bytes calldata proof,
        uint256[] calldata instances,
        bytes32[] calldata keyWords
    ) external {
        Job.State storage state = _jobs[job];
        state.mustBeProving();
        state.checkEvidence(job, worker, sample, evidence, proof, beacon);
        uint256 loss = state.readInstances(instances);
        if (!verifiers.verify(state.vkDigest, proof, instances, keyWords)) revert ProofInvalid();
        bool earns = state.accept(worker, sample, loss);
        emit ProofAccepted(job, worker, sample, evidence.round, evidence.step, evidence.page, loss, earns);
    }

    // -- Ends --------------------------------------------------------------------

    /// @inheritdoc IJobs
    function settle(bytes32 job) external {
        Job.State storage state = _jobs[job];
        state.mustBeSettleable();
        for (uint256 i = 0; i < state.seats; ++i) {
            _settleSeat(job, i);
        }
        _payMove(job);
        _end(job, state.settle());
    }

    /// @inheritdoc IJobs
    function cancel(bytes32 job) external {
        _end(job, _jobs[job].cancel(msg.sender));
    }

    /// @inheritdoc IJobs
    function expire(bytes32 job) external {
        _jobs[job].mustBeExpirable();
        _payMove(job);
        _end(job, _jobs[job].expire());
    }

    /// @inheritdoc IJobs
    function release(bytes32 job, address worker) external {
        workers.unlock(worker, _jobs[job].release(worker));
    }

    // -- Reading -----------------------------------------------------------------

    function summaryOf(bytes32 job) external view returns (Summary memory) {
        Job.State storage state = _jobs[job];
        return Summary(
            state.state,
            state.requester,
            state.keysDelivered,
            state.readies,
            state.round,
            state.deadline,
            state.beaconRound,
            state.escrow,
            state.certificate
        );
    }

    /// @return In order of application.
    function applicantsOf(bytes32 job) external view returns (address[] memory) {
        return _jobs[job].applicants;
    }

    /// @return In seat order; empty before the seats are drawn.
    function seatsOf(bytes32 job) external view returns (Job.Seat[] memory) {
        return _jobs[job].seated;
    }

    /// @return In how many certified rounds each seat took part, in seat order.
    function participationsOf(bytes32 job) external view returns (uint256[] memory) {
        Job.State storage state = _jobs[job];
        uint256[] memory counts = new uint256[](state.seated.length);
        for (uint256 i = 0; i < counts.length; ++i) {
            counts[i] = state.participations.count(i);
        }
        return counts;
    }

    /// @return What became of the worker's stake in this job.
    function bondOf(bytes32 job, address worker) external view returns (Job.Bond) {
        return _jobs[job].applicantOf[worker].bond;
    }

    /// @return record `Statement.hashRound`; zero where the round was nulled or is yet to come.
    /// @return participants Empty likewise.
    function roundOf(bytes32 job, uint32 round) external view returns (bytes32 record, SeatSet participants) {
        return (_jobs[job].records[round], _jobs[job].participants[round]);
    }

    /// @notice What `worker` has to prove; reverts before the job's beacon round is out.
    function sampleOf(bytes32 job, address worker, uint32 sample)
        external
        view
        returns (uint32 round, uint32 step, uint32 page)
    {
        Job.State storage state = _jobs[job];
        state.mustBe(JobState.PROVING);
        return state.drawSample(job, worker, sample, beacon);
    }

    // -- Private -----------------------------------------------------------------

    function _nextRoundDeadline(bytes32 job) private view returns (uint64) {
        return _jobs[job].state == JobState.TRAINING ? _jobs[job].deadline : 0;
    }

    function _announceProving(bytes32 job) private {
        Job.State storage state = _jobs[job];
        if (state.state == JobState.PROVING) emit ProvingStarted(job, state.beaconRound, state.deadline);
    }

    function _settleSeat(bytes32 job, uint256 index) private {
        Job.State storage state = _jobs[job];
        Job.Seat storage seat = state.seated[index];
        (Job.Verdict verdict, uint128 pay) = state.judge(index);
        if (verdict == Job.Verdict.PAY) {
            _owe(state.token, seat.worker, pay);
            emit WorkerPaid(job, seat.worker, pay);
        } else if (verdict == Job.Verdict.SLASH) {
            workers.slash(seat.worker, state.stake);
            emit WorkerSlashed(job, seat.worker, state.stake);
        }
    }

    function _payMove(bytes32 job) private {
        uint128 fee = _jobs[job].payMove();
        _owe(_jobs[job].token, msg.sender, fee);
        emit FeePaid(job, msg.sender, fee);
    }

    function _end(bytes32 job, uint128 refund) private {
        Job.State storage state = _jobs[job];
        _owe(state.token, state.requester, refund);
        emit JobEnded(job, state.state, refund);
    }
}
