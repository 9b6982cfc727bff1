// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ECDSA} from "@openzeppelin/contracts/utils/cryptography/ECDSA.sol";

import {IBeacon} from "../interfaces/IBeacon.sol";
import {IJobs} from "../interfaces/IJobs.sol";
import {Certificate} from "../types/Certificate.sol";
import {Equivocation} from "../types/Equivocation.sol";
import {JobState} from "../types/JobState.sol";
import {SeatSet} from "../types/SeatSet.sol";
import {ProofPolicy} from "../types/Terms.sol";
import {Job} from "./Job.sol";
import {Statement} from "./Statement.sol";

/// @title Rounds of a job, by certificate or by time, and what is done about those who lie in them.
library Rounds {
    using Job for Job.State;

    // -- Rounds ------------------------------------------------------------------

    /// @param vote EIP-712 digest that the signers signed.
    function commit(Job.State storage self, bytes32 id, Certificate calldata certificate, bytes32 vote, IBeacon beacon)
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

    function nullify(Job.State storage self, uint32 round, IBeacon beacon) internal {
        _mustBeNext(self, round);
        Job.mustBeAfter(self.deadline);
        ++self.nulled;
        _advance(self, beacon);
    }

    /// @return halted Whether so many dissent that nothing certified can be relied on: what is uncommitted is freed.
    function dissent(Job.State storage self, address worker, uint32 round, IBeacon beacon)
        internal
        returns (bool halted)
    {
        self.mustBe(JobState.TRAINING);
        Job.Seat storage seat = self.seatOf(worker);
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
        Job.State storage self,
        address worker,
        Equivocation calldata votes,
        bytes32 first,
        bytes32 second
    ) internal returns (bool locked) {
        Job.Seat storage seat = self.seatOf(worker);
        if (self.state >= JobState.SETTLED) Job.mustBeBefore(self.deadline);
        Job.Applicant storage applicant = self.applicantOf[worker];
        if (seat.punished || applicant.bond == Job.Bond.SLASHED) revert IJobs.AlreadyPunished();
        if (Statement.hashChoice(votes.first) == Statement.hashChoice(votes.second)) revert IJobs.SameVote();
        if (_recover(first, votes.first.signature) != worker) revert IJobs.BadSignature(applicant.seat);
        if (_recover(second, votes.second.signature) != worker) revert IJobs.BadSignature(applicant.seat);
        locked = applicant.bond == Job.Bond.LOCKED;
        seat.punished = true;
        applicant.bond = Job.Bond.SLASHED;
    }

    // -- Private -----------------------------------------------------------------

    function _mustBeNext(Job.State storage self, uint32 round) private view {
        self.mustBe(JobState.TRAINING);
        if (round != self.round) revert IJobs.WrongRound(self.round);
    }

    function _checkSignatures(Job.State storage self, Certificate calldata certificate, bytes32 vote) private view {
        uint256 seats = self.seats;
        SeatSet signers = certificate.signers;
        uint256 signed = signers.count();
        if (!signers.isWithin(seats) || signed != certificate.signatures.length) revert IJobs.WrongSigners();
        if (signed < Job.quorum(seats)) revert IJobs.NoQuorum(Job.quorum(seats));
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

    function _advance(Job.State storage self, IBeacon beacon) private {
        if (++self.round < self.rounds && self.nulled < Job.MAX_NULLED) {
            self.deadline = uint64(block.timestamp) + self.roundTimeout;
        } else {
            _startProving(self, beacon);
        }
    }

    function _startProving(Job.State storage self, IBeacon beacon) private {
        self.state = JobState.PROVING;
        self.beaconRound = beacon.roundAt(uint64(block.timestamp) + Job.BEACON_MARGIN);
        self.deadline = beacon.timeOf(self.beaconRound) + self.proofWindow;
    }
}
