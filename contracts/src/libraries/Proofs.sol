// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBeacon} from "../interfaces/IBeacon.sol";
import {IJobs} from "../interfaces/IJobs.sol";
import {Evidence} from "../types/Evidence.sol";
import {SeatSet} from "../types/SeatSet.sol";
import {ProofPolicy} from "../types/Terms.sol";
import {Assignment} from "./Assignment.sol";
import {Draw} from "./Draw.sol";
import {Job} from "./Job.sol";
import {MerkleTree} from "./MerkleTree.sol";
import {Statement} from "./Statement.sol";

/// @title Proofs of a job: of what the beacon drew, about what was committed before.
library Proofs {
    using Job for Job.State;
    using Proofs for Job.State;

    /// @dev Order of BN254's scalar field: instances are its elements.
    uint256 private constant _FIELD = 21888242871839275222246405745257275088548364400416034343698204186575808495617;
    /// @dev Bytes of the commitments that a proof starts with.
    uint256 private constant _EVALUATION_PREFIX = 192;
    uint256 private constant _STEP_PREFIX = 320;

    /// @notice Checks everything about a submitted proof but the proof.
    function checkEvidence(
        Job.State storage self,
        bytes32 id,
        address worker,
        uint32 sample,
        Evidence calldata evidence,
        bytes calldata proof,
        IBeacon beacon
    ) internal view {
        if (sample >= self.samples) revert IJobs.WrongSample(self.samples);
        Job.Seat storage seat = self.seatOf(worker);
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
    function readInstances(Job.State storage self, uint256[] calldata instances) internal view returns (uint256 loss) {
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
    function accept(Job.State storage self, address worker, uint32 sample, uint256 loss) internal returns (bool earns) {
        Job.Seat storage seat = self.seatOf(worker);
        earns = self.maxLoss == 0 || loss <= self.maxLoss;
        seat.accepted |= uint32(1) << sample;
        if (!earns) seat.forfeits = true;
    }

    /// @notice Reverts before the job's beacon round is out, and for who took no part.
    /// @return round One of the rounds in which the worker took part.
    /// @return step The inner step to prove; in evaluation jobs the number of steps.
    /// @return page What that step trained on; in evaluation jobs one of the challenge pages.
    function drawSample(Job.State storage self, bytes32 id, address worker, uint32 sample, IBeacon beacon)
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
        if (self.proofPolicy == ProofPolicy.EVALUATION) {
            return (round, self.steps, Draw.below(seed, sample, self.pages));
        }
        step = Draw.below(seed, sample, self.steps);
        page = uint32(Assignment.page(id, self.pages, self.seats, index, round, step));
    }

    // -- Private -----------------------------------------------------------------

    function _checkSet(Job.State storage self, bytes32 id, address worker, Evidence calldata evidence) private view {
        SeatSet participants = self.participants[evidence.round];
        bytes memory entry = Statement.encodeSetLeaf(id, evidence.round, worker, evidence.update, evidence.leaves);
        uint256 rank = participants.rank(self.applicantOf[worker].seat);
        if (evidence.setPath.length != MerkleTree.depth(participants.count())) revert IJobs.NotInSet();
        bytes32 setRoot = MerkleTree.rootOf(entry, rank, evidence.setPath);
        if (Statement.hashRound(setRoot, evidence.start) != self.records[evidence.round]) revert IJobs.NotInSet();
    }

    /// @dev An evaluation proof starts with C(θ), C(x), C(y), and the receipt has one leaf: the weights after all steps.
    function _checkEvaluation(
        Job.State storage self,
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
        Job.State storage self,
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

    function _checkPage(Job.State storage self, Evidence calldata evidence, bytes calldata proof) private view {
        bytes memory page = Statement.encodePageLeaf(evidence.page, proof[64:128], proof[128:192]);
        if (!MerkleTree.contains(self.pagesRoot, page, evidence.page, self.pages, evidence.pagePath)) {
            revert IJobs.NotInPages();
        }
    }
}
