// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IBeacon} from "../src/interfaces/IBeacon.sol";
import {Jobs} from "../src/Jobs.sol";
import {Job} from "../src/libraries/Job.sol";
import {Statement} from "../src/libraries/Statement.sol";
import {TestBeacon} from "../src/TestBeacon.sol";
import {Certificate} from "../src/types/Certificate.sol";
import {Evidence} from "../src/types/Evidence.sol";
import {JobState} from "../src/types/JobState.sol";
import {SeatSet} from "../src/types/SeatSet.sol";
import {ProofPolicy, Terms} from "../src/types/Terms.sol";
import {Workers} from "../src/Workers.sol";
import {VerifiersDouble} from "./doubles/VerifiersDouble.sol";
import {signBinding, signTyped, vm} from "./Vm.sol";

/// @dev Encodes what is signed from memory, as the contract does from calldata.
contract Encoder {
    function vote(bytes32 job, Certificate calldata certificate) external pure returns (bytes32) {
        return Statement.hashVote(job, certificate);
    }
}

/// @dev A requester, four workers, strangers who move jobs on, and time; each call at random, and what the rules forbid
/// is tried as well: it may be refused, but it must not move money.
contract JobsHandler {
    uint256 private constant _WORKERS = 4;
    uint256 private constant _SEATS = 3;
    uint128 private constant _STAKE = 5 ether;
    bytes32 private constant _VALUES = bytes32(uint256(7));

    Jobs public immutable jobs = new Jobs(new VerifiersDouble(true), IBeacon(address(new TestBeacon())));
    Workers public immutable workers = Workers(address(jobs.workers()));
    Encoder private immutable _ENCODER = new Encoder();
    bytes32[] public posted;
    uint256 public paidIn;
    uint256 public takenOut;

    constructor() {
        for (uint256 i = 0; i < _WORKERS; ++i) {
            address worker = person(i);
            vm.deal(worker, 100 ether);
            bytes memory binding = signBinding(i + 1, address(workers));
            vm.prank(worker);
            workers.register{value: 50 ether}(bytes32(uint256(1)), bytes32(uint256(2)), 0, binding);
            paidIn += 50 ether;
        }
    }

    // -- What people do ----------------------------------------------------------

    function post(uint64 budget, uint32 fee, uint256 rounds) external {
        Terms memory terms = _terms(budget, fee, uint32(1 + rounds % 3));
        uint256 price = uint256(budget) + 2 * uint256(fee);
        address requester = person(_WORKERS);
        vm.deal(requester, requester.balance + price);
        vm.prank(requester);
        posted.push(jobs.post{value: price}(terms, bytes32(posted.length)));
        paidIn += price;
    }

    function apply_(uint256 who, uint256 which) public {
        vm.prank(person(who % _WORKERS));
        try jobs.applyFor(_job(which)) {} catch {}
    }

    /// @dev The next thing that somebody honest would do.
    function move(uint256 who, uint256 which) public {
        if (posted.length == 0) return;
        who %= _WORKERS + 2;
        bytes32 job = _job(which);
        Jobs.Summary memory summary = jobs.summaryOf(job);
        if (summary.state == JobState.OPEN) {
            for (uint256 i = 0; i < _SEATS; ++i) {
                apply_(who + i, which);
            }
            vm.warp(block.timestamp + 12);
            vm.prank(person(who));
            try jobs.assign(job) {} catch {}
        } else if (summary.state == JobState.ASSIGNED) {
            _makeReady(job);
        } else if (summary.state == JobState.TRAINING) {
            _commit(job, summary, who % _SEATS);
        } else if (summary.state == JobState.PROVING) {
            vm.warp(block.timestamp + 3);
            _prove(job, who);
        }
    }

    function end(uint256 who, uint256 which, uint256 how) public {
        bytes32 job = _job(which);
        vm.prank(person(who));
        if (how % 4 == 0) try jobs.settle(job) {} catch {}
        else if (how % 4 == 1) try jobs.expire(job) {} catch {}
        else if (how % 4 == 2) try jobs.cancel(job) {} catch {}
        else try jobs.nullRound(job, jobs.summaryOf(job).round) {} catch {}
    }

    function dissent(uint256 who, uint256 which, uint32 round) external {
        vm.prank(person(who));
        try jobs.dissent(_job(which), round % 3, 0) {} catch {}
    }

    function release(uint256 who, uint256 which) public {
        try jobs.release(_job(which), person(who)) {} catch {}
    }

    function unbond(uint256 who, uint64 amount) external {
        vm.prank(person(who));
        try workers.unbond(amount) {} catch {}
    }

    function unbondAll(uint256 who) external {
        address account = person(who);
        uint256 free = workers.freeStake(account);
        if (free == 0) return;
        vm.prank(account);
        workers.unbond(uint128(free));
    }

    function withdraw(uint256 who) public {
        address account = person(who);
        uint256 before = account.balance;
        vm.prank(account);
        try jobs.withdraw() {} catch {}
        vm.prank(account);
        try workers.withdraw() {} catch {}
        takenOut += account.balance - before;
    }

    /// @dev Mostly less than a deadline, now and then longer than any of them.
    function pass(uint16 time) external {
        vm.warp(block.timestamp + (time < 64 ? 2 days : time % 60));
    }

    // -- What there is -----------------------------------------------------------

    /// @return A worker, then the requester, then a stranger.
    function person(uint256 who) public pure returns (address) {
        return vm.addr(1 + who % (_WORKERS + 2));
    }

    function count() external view returns (uint256) {
        return posted.length;
    }

    function owedByJobs() external view returns (uint256 sum) {
        for (uint256 i = 0; i < _WORKERS + 2; ++i) {
            sum += jobs.credit(person(i));
        }
        for (uint256 i = 0; i < posted.length; ++i) {
            sum += jobs.summaryOf(posted[i]).escrow;
        }
    }

    function owedByWorkers() external view returns (uint256 sum) {
        for (uint256 i = 0; i < _WORKERS + 2; ++i) {
            (uint256 unbonding,) = workers.unbondingStake(person(i));
            sum += workers.freeStake(person(i)) + workers.lockedStake(person(i)) + unbonding;
        }
    }

    // -- Private -----------------------------------------------------------------

    function _job(uint256 which) private view returns (bytes32) {
        return posted.length == 0 ? bytes32(0) : posted[which % posted.length];
    }

    function _makeReady(bytes32 job) private {
        bytes[] memory wraps = new bytes[](_SEATS);
        vm.prank(person(_WORKERS));
        try jobs.deliverKeys(job, wraps) {} catch {}
        Job.Seat[] memory seated = jobs.seatsOf(job);
        for (uint256 i = 0; i < seated.length; ++i) {
            vm.prank(seated[i].worker);
            try jobs.ready(job) {} catch {}
        }
    }

    /// @dev Two of three sign a round in which one took part.
    function _commit(bytes32 job, Jobs.Summary memory summary, uint256 seat) private {
        Job.Seat[] memory seated = jobs.seatsOf(job);
        Certificate memory certificate;
        certificate.round = summary.round;
        certificate.parent = summary.certificate;
        certificate.setRoot = _leaf(
            abi.encode(job, summary.round, seated[seat].worker, bytes32(0), _receipt(job, seated[seat].worker, summary.round))
        );
        certificate.commitment = _point();
        certificate.participants = SeatSet.wrap(uint64(1 << seat));
        certificate.signers = SeatSet.wrap(3);
        certificate.signatures = new bytes[](2);
        bytes32 vote = _ENCODER.vote(job, certificate);
        for (uint256 i = 0; i < 2; ++i) {
            certificate.signatures[i] = signTyped(_keyOf(seated[i].worker), address(jobs), vote);
        }
        jobs.commitRound(job, certificate);
    }

    function _prove(bytes32 job, uint256 who) private {
        address worker = person(who);
        try jobs.sampleOf(job, worker, 0) returns (uint32 round, uint32 step, uint32 page) {
            Evidence memory evidence;
            evidence.round = round;
            evidence.leaves = _receipt(job, worker, round);
            evidence.step = step;
            evidence.page = page;
            uint256[] memory instances = new uint256[](1);
            bytes memory proof = bytes.concat(_point(), _point(), _point(), hex"01");
            try jobs.submitProof(job, worker, 0, evidence, proof, instances, new bytes32[](0)) {} catch {}
        } catch {}
    }

    function _receipt(bytes32 job, address worker, uint32 round) private pure returns (bytes32) {
        return _leaf(abi.encode(job, worker, round, uint256(4), keccak256(_point())));
    }

    function _leaf(bytes memory data) private pure returns (bytes32) {
        return keccak256(bytes.concat(bytes1(0x00), data));
    }

    function _point() private pure returns (bytes memory) {
        return bytes.concat(_VALUES, _VALUES);
    }

    function _keyOf(address worker) private pure returns (uint256 key) {
        for (key = 1; vm.addr(key) != worker; ++key) {}
    }

    function _terms(uint64 budget, uint32 fee, uint32 rounds) private pure returns (Terms memory terms) {
        terms.pagesRoot = _leaf(abi.encode(uint32(0), keccak256(_point()), keccak256(_point())));
        terms.vkDigest = bytes32(uint256(1));
        terms.pages = 1;
        terms.seats = uint32(_SEATS);
        terms.maxApplicants = uint32(_WORKERS);
        terms.rounds = rounds;
        terms.steps = 4;
        terms.samples = 1;
        terms.proofPolicy = ProofPolicy.EVALUATION;
        terms.joinWindow = 10;
        terms.readyWindow = 60;
        terms.roundTimeout = 60;
        terms.proofWindow = 60;
        terms.stake = _STAKE;
        terms.budget = budget;
        terms.moveFee = fee;
    }
}

contract JobsTest {
    address private constant _BURN = 0x000000000000000000000000000000000000dEaD;

    JobsHandler private immutable _HANDLER = new JobsHandler();

    function targetContracts() external view returns (address[] memory targets) {
        targets = new address[](1);
        targets[0] = address(_HANDLER);
    }

    /// @dev A job is settled, paid and taken out on the way that honest people take.
    function test_anHonestJobPaysWhoTookPart() external {
        _HANDLER.post(3 ether / 10, 1000, 2);
        for (uint256 i = 0; i < 5; ++i) {
            _HANDLER.move(i, 0);
        }
        bytes32 job = _HANDLER.posted(0);
        assert(_HANDLER.jobs().summaryOf(job).state == JobState.PROVING);
        for (uint256 i = 0; i < 4; ++i) {
            _HANDLER.move(i, 0);
        }
        _HANDLER.end(5, 0, 0);
        assert(_HANDLER.jobs().summaryOf(job).state == JobState.SETTLED);
        uint256 earned;
        for (uint256 i = 0; i < 4; ++i) {
            earned += _HANDLER.jobs().credit(_HANDLER.person(i));
            assert(_HANDLER.workers().lockedStake(_HANDLER.person(i)) <= 5 ether);
        }
        assert(earned >= uint256(3 ether / 10) / 3); // three entries of nine, and what moving it earned
        assert(_BURN.balance == 0);
    }

    function invariant_jobsHoldsExactlyWhatItOwes() external view {
        assert(address(_HANDLER.jobs()).balance == _HANDLER.owedByJobs());
    }

    function invariant_workersHoldsExactlyTheStakes() external view {
        assert(address(_HANDLER.workers()).balance == _HANDLER.owedByWorkers());
    }

    function invariant_whatCameInIsHereBurntOrWentOutOnce() external view {
        uint256 here = address(_HANDLER.jobs()).balance + address(_HANDLER.workers()).balance;
        assert(_HANDLER.paidIn() == _HANDLER.takenOut() + _BURN.balance + here);
    }

    /// @dev From wherever a run ended, all money comes out within the deadlines.
    function afterInvariant() external {
        for (uint256 i = 0; i < _HANDLER.count(); ++i) {
            for (uint256 round = 0; round < 4; ++round) {
                _HANDLER.pass(0);
                _HANDLER.end(0, i, 3);
            }
            _HANDLER.pass(0);
            _HANDLER.end(0, i, 0);
            _HANDLER.end(0, i, 1);
            for (uint256 who = 0; who < 4; ++who) {
                _HANDLER.release(who, i);
            }
        }
        for (uint256 who = 0; who < 6; ++who) {
            _HANDLER.unbondAll(who);
        }
        _HANDLER.pass(0);
        for (uint256 who = 0; who < 6; ++who) {
            _HANDLER.withdraw(who);
        }
        assert(address(_HANDLER.jobs()).balance == 0);
        assert(address(_HANDLER.workers()).balance == 0);
    }
}
