// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBeacon} from "../interfaces/IBeacon.sol";
import {IJobs} from "../interfaces/IJobs.sol";
import {JobState} from "../types/JobState.sol";
import {SeatSet} from "../types/SeatSet.sol";
import {Tally} from "../types/Tally.sol";
import {ProofPolicy, Terms} from "../types/Terms.sol";
import {Draw} from "./Draw.sol";

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
        mustBeBefore(self.deadline);
        if (self.applicantOf[worker].bond != Bond.NONE) revert IJobs.AlreadyApplied();
        self.applicantOf[worker].bond = Bond.LOCKED;
        self.applicants.push(worker);
        closed = self.applicants.length == self.maxApplicants;
        if (closed) self.deadline = uint64(block.timestamp);
    }

    /// @return workers In seat order.
    function assign(State storage self, bytes32 id, IBeacon beacon) internal returns (address[] memory workers) {
        self.mustBe(JobState.OPEN);
        mustBeAfter(self.deadline);
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
            mustBeAfter(complete ? self.deadline + self.readyWindow : self.deadline);
        } else {
            self.mustBe(JobState.ASSIGNED);
            mustBeAfter(self.deadline);
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
        mustBeBefore(self.deadline);
    }

    function mustBeBefore(uint64 deadline) internal view {
        if (block.timestamp >= deadline) revert IJobs.TooLate(deadline);
    }

    function mustBeAfter(uint64 deadline) internal view {
        if (block.timestamp < deadline) revert IJobs.TooEarly(deadline);
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

    function _end(State storage self, JobState state) private returns (uint128 refund) {
        refund = self.escrow;
        self.escrow = 0;
        self.state = state;
        self.deadline = uint64(block.timestamp) + AUDIT_WINDOW;
    }
}
