// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IBeacon} from "../interfaces/IBeacon.sol";
import {IJobs} from "../interfaces/IJobs.sol";
import {Certificate} from "../types/Certificate.sol";
import {Equivocation} from "../types/Equivocation.sol";
import {Evidence} from "../types/Evidence.sol";
import {JobState} from "../types/JobState.sol";
import {SeatSet} from "../types/SeatSet.sol";
import {Tally} from "../types/Tally.sol";
import {ProofPolicy, Terms} from "../types/Terms.sol";
import {Assignment} from "./Assignment.sol";
import {Draw} from "./Draw.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Statement} from "./Statement.sol";

/// @title One job: its state and its transitions, the same as `protocols/job`.
/// @dev    OPEN ─assign→ ASSIGNED ─quorum ready→ TRAINING ─last round→ PROVING ─settle→ SETTLED
///         OPEN ─cancel→ CANCELLED      OPEN, ASSIGNED ─expire→ EXPIRED
/// Nothing here moves money or logs: `Jobs` does, from what the transitions return.
library Job {
    using Job for State;

    /// @dev Participants of a round are a 64-bit set.
    uint256 internal constant MAX_SEATS = 64;
    /// @dev Bounds what `submitProof` reads to find the drawn round: 256 slots.
    uint256 internal constant MAX_ROUNDS = 1024;
    uint256 internal constant MAX_SAMPLES = 32;
    /// @dev Bounds the memory and reads of the seat draw.
    uint256 internal constant MAX_APPLICANTS = 256;
    /// @dev So many rounds in a row without a certificate end the training: nobody has to null a dead job to its end.
    uint256 internal constant MAX_NULLED = 8;
    /// @dev Seconds after a job's end in which its workers answer for double votes; unbonding takes longer.
    uint64 internal constant AUDIT_WINDOW = 1 days;
    /// @dev Seconds between the last commitment and the beacon that may challenge it.
    uint64 internal constant BEACON_MARGIN = 1;

    /// @dev Order of BN254's scalar field: instances are its elements.
    uint256 private constant _FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    /// @dev Bytes of the commitments that a proof starts with.
    uint256 private constant _EVALUATION_PREFIX = 192;
    uint256 private constant _STEP_PREFIX = 320;

    enum Bond {
        NONE,
        LOCKED,
        OVER,
        SLASHED
    }

    enum Verdict {
        NOTHING,
        PAY,
        SLASH
    }

    /// @dev One slot.
    struct Applicant {
        Bond bond;
        bool seated;
        uint8 seat;
    }

    /// @dev One slot, exactly.
    struct Seat {
        address worker;
        /// Bit k: sample k is proved.
        uint32 accepted;
        bool ready;
        /// Some proved loss exceeded the bound.
        bool forfeits;
        /// Has computed another state than a certificate says.
        bool dissents;
        /// Has voted twice: has neither pay nor anything to prove.
        bool punished;
    }

    struct State {
        // Terms that later transitions need; the rest is in the `JobPosted` event.
        bytes32 pagesRoot;
        bytes32 vkDigest;
        uint256 maxLoss;
        uint128 stake;
        uint128 budget;
        uint128 moveFee;
        address token;
        uint32 readyWindow;
        uint32 roundTimeout;
        uint32 proofWindow;
        uint32 pages;
        address delegate;
        uint32 steps;
        uint16 rounds;
        uint8 seats;
        uint16 maxApplicants;
        uint8 samples;
        ProofPolicy proofPolicy;
        // What happened.
        address requester;
        JobState state;
        bool keysDelivered;
        uint8 readies;
        uint8 dissents;
        /// Rounds in a row without a certificate.
        uint8 nulled;
        /// The next round to be committed or nulled.
        uint16 round;
        /// Of the state: join, ready, round or proof; at the end, of what can still be reported.
        uint64 deadline;
        uint64 beaconRound;
        uint128 escrow;
        /// Digest of the last certificate.
        bytes32 certificate;
        /// keccak of C(θ) of the state that the next round begins with; zero in evaluation jobs.
        bytes32 start;
        address[] applicants;
        mapping(address worker => Applicant) applicantOf;
        Seat[] seated;
        Tally participations;
        /// `Statement.hashRound` of each certified round: one word for the set and where it began.
        mapping(uint256 round => bytes32) records;
        SeatSet[MAX_ROUNDS] participants;
    }

    // -- Posting and applying ----------------------------------------------------

    function open(State storage self, Terms calldata terms, address requester) internal {
        _validate(terms);
        if (self.state != JobState.NONE) revert IJobs.JobExists();
        self.state = JobState.OPEN;
        self.requester = requester;
        self.deadline = uint64(block.timestamp) + terms.joinWindow;
        self.escrow = escrowOf(terms);
        _keep(self, terms);
    }

    /// @return What posting costs: the budget, and a fee each for `assign` and `settle`.
    function escrowOf(Terms calldata terms) internal pure returns (uint128) {
        return terms.budget + 2 * terms.moveFee;
    }

    /// @return closed Whether this was the last one that the terms allow: the window ends with it.
    function enlist(State storage self, address worker) internal returns (bool closed) {
        self.mustBe(JobState.OPEN);
        _mustBeBefore(self.deadline);
        if (self.applicantOf[worker].bond != Bond.NONE) revert IJobs.AlreadyApplied();
        self.applicantOf[worker].bond = Bond.LOCKED;
        self.applicants.push(worker);
        closed = self.applicants.length == self.maxApplicants;
        if (closed) self.deadline = uint64(block.timestamp);
    }

    /// @return workers In seat order.
    function assign(State storage self, bytes32 id, IBeacon beacon) internal returns (address[] memory workers) {
        self.mustBe(JobState.OPEN);
        _mustBeAfter(self.deadline);
        workers = self.applicants;
        uint256 seats = self.seats;
        if (workers.length < seats) revert IJobs.TooFewApplicants(workers.length);
        Draw.shuffle(id, beacon.randomness(beacon.roundAt(self.deadline)), workers, seats);
        assembly ("memory-safe") {
            mstore(workers, seats) // the drawn ones are in front: drop the others
        }
        for (uint256 i = 0; i < seats; ++i) {
            self.applicantOf[workers[i]] = Applicant(Bond.LOCKED, true, uint8(i));
            self.seated.push().worker = workers[i];
        }
        self.state = JobState.ASSIGNED;
        self.deadline = uint64(block.timestamp) + self.readyWindow;
    }

    // -- Getting ready -----------------------------------------------------------

    function deliverKeys(State storage self, address sender, uint256 wraps) internal {
        self.mustBe(JobState.ASSIGNED);
        if (sender != self.requester && sender != self.delegate) revert IJobs.NotRequester();
        if (self.keysDelivered) revert IJobs.KeysAlreadyDelivered();
        if (wraps != self.seats) revert IJobs.WrongWraps(self.seats);
        self.keysDelivered = true;
    }

    /// @return Whether this was the vote that starts training.
    function markReady(State storage self, address worker) internal returns (bool) {
        self.mustBe(JobState.ASSIGNED);
        Seat storage seat = self.seatOf(worker);
        if (!self.keysDelivered) revert IJobs.KeysMissing();
        if (seat.ready) revert IJobs.AlreadyReady();
        seat.ready = true;
        if (++self.readies < quorum(self.seats)) return false;
        self.state = JobState.TRAINING;
        self.deadline = uint64(block.timestamp) + self.roundTimeout;
        return true;
    }

    // -- Rounds ------------------------------------------------------------------

    /// @param vote EIP-712 digest that the signers signed.
    function commit(State storage self, bytes32 id, Certificate calldata certificate, bytes32 vote, IBeacon beacon)
        internal
    {
        _mustBeNext(self, certificate.round);
        if (certificate.parent != self.certificate) revert IJobs.WrongParent(self.certificate);
        if (certificate.commitment.length != 64) revert IJobs.BadCommitment();
        uint256 seats = self.seats;
        SeatSet participants = certificate.participants;
        if (participants.isEmpty() || !participants.isWithin(seats)) revert IJobs.WrongParticipants();
        _checkSignatures(self, certificate, vote);
        self.participations.add(participants);
        self.participants[certificate.round] = participants;
        bytes32 start; // stays zero in an evaluation job
        if (self.proofPolicy == ProofPolicy.TRAINING) {
            start = self.start;
            self.start = keccak256(certificate.commitment);
        }
        self.records[certificate.round] = Statement.hashRound(certificate.setRoot, start);
        self.certificate = Statement.hashCertificate(id, certificate);
        self.nulled = 0;
        _advance(self, beacon);
    }

    function nullify(State storage self, uint32 round, IBeacon beacon) internal {
        _mustBeNext(self, round);
        _mustBeAfter(self.deadline);
        ++self.nulled;
        _advance(self, beacon);
    }

    /// @return halted Whether so many dissent that nothing certified can be relied on: what is uncommitted is freed.
    function dissent(State storage self, address worker, uint32 round, IBeacon beacon) internal returns (bool halted) {
        self.mustBe(JobState.TRAINING);
        Seat storage seat = self.seatOf(worker);
        if (round >= self.round || self.participants[round].isEmpty()) revert IJobs.WrongRound(self.round);
        if (seat.dissents) revert IJobs.AlreadyDissented();
        seat.dissents = true;
        halted = uint256(++self.dissents) * 3 >= self.seats;
        if (halted) _startProving(self, beacon);
    }

    // -- Double votes ------------------------------------------------------------

    /// @param first EIP-712 digest of the first ballot.
    /// @param second EIP-712 digest of the second ballot.
    /// @return locked Whether the stake is still locked for this job.
    function convict(
        State storage self,
        address worker,
        Equivocation calldata votes,
        bytes32 first,
        bytes32 second
    ) internal returns (bool locked) {
        Seat storage seat = self.seatOf(worker);
        if (self.state >= JobState.SETTLED) _mustBeBefore(self.deadline);
        Applicant storage applicant = self.applicantOf[worker];
        if (seat.punished || applicant.bond == Bond.SLASHED) revert IJobs.AlreadyPunished();
        if (Statement.hashChoice(votes.first) == Statement.hashChoice(votes.second)) revert IJobs.SameVote();
        if (_recover(first, votes.first.signature) != worker) revert IJobs.BadSignature(applicant.seat);
        if (_recover(second, votes.second.signature) != worker) revert IJobs.BadSignature(applicant.seat);
        locked = applicant.bond == Bond.LOCKED;
        seat.punished = true;
        applicant.bond = Bond.SLASHED;
    }

    // -- Proofs ------------------------------------------------------------------

    /// @notice Checks everything about a submitted proof but the proof.
    function checkEvidence(
        State storage self,
        bytes32 id,
        address worker,
        uint32 sample,
        Evidence calldata evidence,
        bytes calldata proof,
        IBeacon beacon
    ) internal view {
        if (sample >= self.samples) revert IJobs.WrongSample(self.samples);
        Seat storage seat = self.seatOf(worker);
        if ((seat.accepted >> sample) & 1 == 1) revert IJobs.AlreadyAccepted();
        (uint32 round, uint32 step, uint32 page) = self.drawSample(id, worker, sample, beacon);
        if (evidence.round != round || evidence.step != step || evidence.page != page) {
            revert IJobs.WrongDraw(round, step, page);
        }
        bool isStep = self.proofPolicy == ProofPolicy.TRAINING;
        if (proof.length < (isStep ? _STEP_PREFIX : _EVALUATION_PREFIX)) revert IJobs.ProofTooShort();
        _checkSet(self, id, worker, evidence);
        if (isStep) _checkStep(self, id, worker, evidence, proof);
        else _checkEvaluation(self, id, worker, evidence, proof);
        _checkPage(self, evidence, proof);
    }

    /// @return loss What an evaluation proof says; zero for a step, which says nothing but that it was done.
    function readInstances(State storage self, uint256[] calldata instances) internal view returns (uint256 loss) {
        if (self.proofPolicy == ProofPolicy.EVALUATION) {
            if (instances.length != 1 || instances[0] >= _FIELD) revert IJobs.BadInstances();
            return instances[0];
        }
        if (instances.length == 0) revert IJobs.StepUnproved();
        for (uint256 i = 0; i < instances.length; ++i) {
            if (instances[i] != 0) revert IJobs.StepUnproved();
        }
    }

    /// @return earns Whether `loss` is within the bound.
    function accept(State storage self, address worker, uint32 sample, uint256 loss) internal returns (bool earns) {
        Seat storage seat = self.seatOf(worker);
        earns = self.maxLoss == 0 || loss <= self.maxLoss;
        seat.accepted |= uint32(1) << sample;
        if (!earns) seat.forfeits = true;
    }

    /// @notice Reverts before the job's beacon round is out, and for who took no part.
    /// @return round One of the rounds in which the worker took part.
    /// @return step The inner step to prove; in evaluation jobs the number of steps.
    /// @return page What that step trained on; in evaluation jobs one of the challenge pages.
    function drawSample(State storage self, bytes32 id, address worker, uint32 sample, IBeacon beacon)
        internal
        view
        returns (uint32 round, uint32 step, uint32 page)
    {
        if (!self.applicantOf[worker].seated) revert IJobs.NotSeated();
        uint256 index = self.applicantOf[worker].seat;
        uint256 participations = self.participations.count(index);
        if (participations == 0) revert IJobs.NotSeated();
        bytes32 seed = Draw.challengeSeed(id, worker, self.certificate, beacon.randomness(self.beaconRound));
        uint256 left = Draw.participation(seed, sample, participations);
        while (true) {
            if (self.participants[round].has(index)) {
                if (left == 0) break;
                --left;
            }
            ++round;
        }
        if (self.proofPolicy == ProofPolicy.EVALUATION) return (round, self.steps, Draw.below(seed, sample, self.pages));
        step = Draw.below(seed, sample, self.steps);
        page = uint32(Assignment.page(id, self.pages, self.seats, index, round, step));
    }

    // -- Ends --------------------------------------------------------------------

    function cancel(State storage self, address sender) internal returns (uint128 refund) {
        self.mustBe(JobState.OPEN);
        if (sender != self.requester) revert IJobs.NotRequester();
        return _end(self, JobState.CANCELLED);
    }

    function mustBeExpirable(State storage self) internal view {
        JobState state = self.state;
        if (state == JobState.OPEN) {
            // With enough applicants there is time for somebody to assign them.
            bool complete = self.applicants.length >= self.seats;
            _mustBeAfter(complete ? self.deadline + self.readyWindow : self.deadline);
        } else {
            self.mustBe(JobState.ASSIGNED);
            _mustBeAfter(self.deadline);
        }
    }

    function expire(State storage self) internal returns (uint128 refund) {
        return _end(self, JobState.EXPIRED);
    }

    function mustBeSettleable(State storage self) internal view {
        self.mustBe(JobState.PROVING);
        if (block.timestamp >= self.deadline) return;
        for (uint256 i = 0; i < self.seats; ++i) {
            Seat storage seat = self.seated[i];
            if (self.participations.count(i) > 0 && !seat.punished && !self.isProved(seat)) revert IJobs.TooEarly(self.deadline);
        }
    }

    /// @notice Judges one seat at settlement.
    /// @return verdict What it deserves.
    /// @return pay What it has earned, taken out of the escrow.
    function judge(State storage self, uint256 index) internal returns (Verdict verdict, uint128 pay) {
        Seat storage seat = self.seated[index];
        uint256 participations = self.participations.count(index);
        if (participations == 0 || seat.punished) return (Verdict.NOTHING, 0);
        if (!self.isProved(seat)) {
            self.applicantOf[seat.worker].bond = Bond.SLASHED;
            return (Verdict.SLASH, 0);
        }
        if (seat.forfeits) return (Verdict.NOTHING, 0);
        verdict = Verdict.PAY;
        pay = uint128(uint256(self.budget) * participations / (uint256(self.seats) * self.rounds));
        self.escrow -= pay;
    }

    function settle(State storage self) internal returns (uint128 refund) {
        return _end(self, JobState.SETTLED);
    }

    /// @return fee Taken out of the escrow for whoever moved the job on.
    function payMove(State storage self) internal returns (uint128 fee) {
        fee = self.moveFee;
        self.escrow -= fee;
    }

    /// @return stake To be unlocked.
    function release(State storage self, address worker) internal returns (uint128 stake) {
        if (self.state == JobState.NONE) revert IJobs.WrongState(JobState.NONE);
        Applicant storage applicant = self.applicantOf[worker];
        // Before the draw anybody may still get a seat; a seat holds its stake until the end.
        bool over = self.state >= JobState.SETTLED;
        bool unseated = self.state >= JobState.ASSIGNED && !applicant.seated;
        if (!over && !unseated) revert IJobs.TooEarly(self.deadline);
        if (applicant.bond != Bond.LOCKED) revert IJobs.NothingLocked();
        applicant.bond = Bond.OVER;
        return self.stake;
    }

    // -- Reading -----------------------------------------------------------------

    function mustBe(State storage self, JobState state) internal view {
        if (self.state != state) revert IJobs.WrongState(self.state);
    }

    function mustBeProving(State storage self) internal view {
        self.mustBe(JobState.PROVING);
        _mustBeBefore(self.deadline);
    }

    function seatOf(State storage self, address worker) internal view returns (Seat storage) {
        Applicant storage applicant = self.applicantOf[worker];
        if (!applicant.seated) revert IJobs.NotSeated();
        return self.seated[applicant.seat];
    }

    function isProved(State storage self, Seat storage seat) internal view returns (bool) {
        return seat.accepted == (uint256(1) << self.samples) - 1;
    }

    /// @return ⌈2n/3⌉: two quorums share an honest seat while fewer than a third lie.
    function quorum(uint256 seats) internal pure returns (uint256) {
        return (2 * seats + 2) / 3;
    }

    // -- Private -----------------------------------------------------------------

    function _validate(Terms calldata terms) private pure {
        if (terms.pages == 0) revert IJobs.BadTerms("pages");
        if (terms.seats == 0 || terms.seats > MAX_SEATS) revert IJobs.BadTerms("seats");
        if (terms.maxApplicants < terms.seats || terms.maxApplicants > MAX_APPLICANTS) {
            revert IJobs.BadTerms("max_applicants");
        }
        if (terms.rounds == 0 || terms.rounds > MAX_ROUNDS) revert IJobs.BadTerms("rounds");
        if (terms.steps == 0) revert IJobs.BadTerms("steps");
        if (terms.samples == 0 || terms.samples > MAX_SAMPLES) revert IJobs.BadTerms("samples");
        if (terms.joinWindow == 0) revert IJobs.BadTerms("join_window_s");
        if (terms.readyWindow == 0) revert IJobs.BadTerms("ready_window_s");
        if (terms.roundTimeout == 0) revert IJobs.BadTerms("round_timeout_s");
        if (terms.proofWindow == 0) revert IJobs.BadTerms("proof_window_s");
        bool trains = terms.proofPolicy == ProofPolicy.TRAINING;
        if (trains && terms.pages < terms.seats) revert IJobs.BadTerms("pages");
        if (trains == (terms.initialCommitment == 0)) revert IJobs.BadTerms("initial_commitment");
    }

    function _keep(State storage self, Terms calldata terms) private {
        self.pagesRoot = terms.pagesRoot;
        self.vkDigest = terms.vkDigest;
        if (terms.initialCommitment != 0) self.start = terms.initialCommitment;
        self.maxLoss = terms.maxLoss;
        self.stake = terms.stake;
        self.budget = terms.budget;
        self.moveFee = terms.moveFee;
        self.token = terms.token;
        self.readyWindow = terms.readyWindow;
        self.roundTimeout = terms.roundTimeout;
        self.proofWindow = terms.proofWindow;
        self.pages = terms.pages;
        self.delegate = terms.delegate;
        self.steps = terms.steps;
        self.rounds = uint16(terms.rounds);
        self.seats = uint8(terms.seats);
        self.maxApplicants = uint16(terms.maxApplicants);
        self.samples = uint8(terms.samples);
        self.proofPolicy = terms.proofPolicy;
    }

    function _mustBeBefore(uint64 deadline) private view {
        if (block.timestamp >= deadline) revert IJobs.TooLate(deadline);
    }

    function _mustBeAfter(uint64 deadline) private view {
        if (block.timestamp < deadline) revert IJobs.TooEarly(deadline);
    }

    function _mustBeNext(State storage self, uint32 round) private view {
        self.mustBe(JobState.TRAINING);
        if (round != self.round) revert IJobs.WrongRound(self.round);
    }

    function _checkSignatures(State storage self, Certificate calldata certificate, bytes32 vote) private view {
        uint256 seats = self.seats;
        SeatSet signers = certificate.signers;
        uint256 signed = signers.count();
        if (!signers.isWithin(seats) || signed != certificate.signatures.length) revert IJobs.WrongSigners();
        if (signed < quorum(seats)) revert IJobs.NoQuorum(quorum(seats));
        uint256 next = 0;
        for (uint256 i = 0; i < seats; ++i) {
            if (!signers.has(i)) continue;
            if (_recover(vote, certificate.signatures[next++]) != self.seated[i].worker) revert IJobs.BadSignature(i);
        }
    }

    /// @return signer The zero address, which has no seat, where this is no signature.
    function _recover(bytes32 digest, bytes calldata signature) private pure returns (address signer) {
        (signer,,) = ECDSA.tryRecoverCalldata(digest, signature);
    }

    function _advance(State storage self, IBeacon beacon) private {
        if (++self.round < self.rounds && self.nulled < MAX_NULLED) {
            self.deadline = uint64(block.timestamp) + self.roundTimeout;
        } else {
            _startProving(self, beacon);
        }
    }

    function _startProving(State storage self, IBeacon beacon) private {
        self.state = JobState.PROVING;
        self.beaconRound = beacon.roundAt(uint64(block.timestamp) + BEACON_MARGIN);
        self.deadline = beacon.timeOf(self.beaconRound) + self.proofWindow;
    }

    function _checkSet(State storage self, bytes32 id, address worker, Evidence calldata evidence) private view {
        SeatSet participants = self.participants[evidence.round];
        bytes memory entry = Statement.encodeSetLeaf(id, evidence.round, worker, evidence.update, evidence.leaves);
        uint256 rank = participants.rank(self.applicantOf[worker].seat);
        if (evidence.setPath.length != MerkleTree.depth(participants.count())) revert IJobs.NotInSet();
        bytes32 setRoot = MerkleTree.rootOf(entry, rank, evidence.setPath);
        if (Statement.hashRound(setRoot, evidence.start) != self.records[evidence.round]) revert IJobs.NotInSet();
    }

    /// @dev An evaluation proof starts with C(θ), C(x), C(y), and the receipt has one leaf: the weights after all steps.
    function _checkEvaluation(
        State storage self,
        bytes32 id,
        address worker,
        Evidence calldata evidence,
        bytes calldata proof
    ) private view {
        bytes memory leaf = Statement.encodeStepLeaf(id, worker, evidence.round, self.steps, proof[0:64]);
        if (!MerkleTree.contains(evidence.leaves, leaf, 0, 1, evidence.leafPath)) revert IJobs.NotInReceipt();
    }

    /// @dev A proof of a step starts with C(state), C(x), C(y), C(next state), C(hints). The receipt has a leaf for the
    /// state before each step and one for the last; both neighbours are compared, since next is what the step makes of
    /// state. A worker could begin anywhere, so its first state is compared with where the round began; optimizer state
    /// begins with zeros, which add nothing to a commitment.
    function _checkStep(
        State storage self,
        bytes32 id,
        address worker,
        Evidence calldata evidence,
        bytes calldata proof
    ) private view {
        uint256 step = evidence.step;
        if (step == 0 && keccak256(proof[0:64]) != evidence.start) revert IJobs.WrongStart();
        bytes memory leaf = Statement.encodeStepLeaf(id, worker, evidence.round, step, proof[0:64]);
        bytes memory next = Statement.encodeStepLeaf(id, worker, evidence.round, step + 1, proof[192:256]);
        uint256 width = uint256(self.steps) + 1;
        if (!MerkleTree.containsPair(evidence.leaves, leaf, next, step, width, evidence.leafPath, evidence.nextPath)) {
            revert IJobs.NotInReceipt();
        }
    }

    function _checkPage(State storage self, Evidence calldata evidence, bytes calldata proof) private view {
        bytes memory page = Statement.encodePageLeaf(evidence.page, proof[64:128], proof[128:192]);
        if (!MerkleTree.contains(self.pagesRoot, page, evidence.page, self.pages, evidence.pagePath)) {
            revert IJobs.NotInPages();
        }
    }

    function _end(State storage self, JobState state) private returns (uint128 refund) {
        refund = self.escrow;
        self.escrow = 0;
        self.state = state;
        self.deadline = uint64(block.timestamp) + AUDIT_WINDOW;
    }
}
