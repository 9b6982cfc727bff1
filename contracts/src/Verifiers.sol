// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {IReusableVerifier} from "./interfaces/IReusableVerifier.sol";
import {IVerifiers} from "./interfaces/IVerifiers.sol";

/// @title Verifiers: verifying keys for ezkl's reusable verifier.
/// @notice One verifier contract, whose code is fixed here, checks every circuit's proofs; a key is data. Anybody may
/// register a key, so a key's name says nothing about what it proves: workers and buyers rebuild it from the circuit.
contract Verifiers is IVerifiers {
    /// @dev Hash of the runtime code in node/artifacts/Halo2VerifierReusable.json.
    bytes32 private constant _CODE_HASH = 0x62c6db994caf2335f36395bb45a35d57a71865664313fd1080ae9d348eac8986;

    /// @dev The verifier's code reads [1]₁, [1]₂ and −[τ]₂ from these words of a key.
    uint256 private constant _PAIRING_WORD = 14;
    uint256 private constant _PAIRING_WORDS = 10;

    /// @dev keccak of those words for the ceremony whose [τ]₂ ezkl downloads.
    bytes32 private constant _CEREMONY = keccak256(
        abi.encode(
            // [1]₁
            uint256(1),
            uint256(2),
            // [1]₂
            0x198e9393920d483a7260bfb731fb5d25f1aa493335a9e71297e485b7aef312c2,
            0x1800deef121f1e76426a00665e5c4479674322d4f75edadd46debd5cd992f6ed,
            0x090689d0585ff075ec9e99ad690c3395bc4b313370b38ef355acdadcd122975b,
            0x12c85ea5db8c6deb4aab71808dcb408fe3d1e7690c43d37b4ce6cc0166fa7daa,
            // −[τ]₂
            0x186282957db913abd99f91db59fe69922e95040603ef44c0bd7aa3adeef8f5ac,
            0x17944351223333f260ddc3b4af45191b856689eda9eab5cbcddbbe570ce860d2,
            0x06d971ff4a7467c3ec596ed6efc674572e32fd6f52b721f97e35b0b3d3546753,
            0x06ecdb9f9567f59ed2eee36e1e1d58797fd13cc97fafc2910f5e8a12f202fa9a
        )
    );

    IReusableVerifier public immutable reusable;

    /// @inheritdoc IVerifiers
    bool public immutable development;

    /// @inheritdoc IVerifiers
    mapping(bytes32 digest => bool) public isRegistered;

    /// @param development_ Accept keys of any structured reference string. For ever: there is no switch.
    constructor(IReusableVerifier reusable_, bool development_) {
        bytes32 codeHash = address(reusable_).codehash;
        if (codeHash != _CODE_HASH) revert UnknownVerifier(codeHash);
        reusable = reusable_;
        development = development_;
    }

    /// @inheritdoc IVerifiers
    function register(bytes32[] calldata words) external returns (bytes32 digest) {
        if (words.length < _PAIRING_WORD + _PAIRING_WORDS) revert MalformedKey();
        if (!development && _hashPairingWords(words) != _CEREMONY) revert ForeignSrs();
        digest = reusable.registerVka(words);
        isRegistered[digest] = true;
    }

    /// @inheritdoc IVerifiers
    /// @dev Typed calls don't work here: the verifier reverts on most bad proofs, and its third return value can't be
    /// decoded. A successful call returns at least (1, digest); everything else is a proof that doesn't hold.
    function verify(bytes32 digest, bytes calldata proof, uint256[] calldata instances, bytes32[] calldata words)
        external
        view
        returns (bool)
    {
        if (!isRegistered[digest]) return false;
        bytes memory call = abi.encodeCall(IReusableVerifier.verifyProof, (proof, instances, words));
        (bool success, bytes memory answer) = address(reusable).staticcall(call);
        if (!success || answer.length < 64) return false;
        (bool holds, bytes32 verified) = abi.decode(answer, (bool, bytes32));
        return holds && verified == digest;
    }

    function _hashPairingWords(bytes32[] calldata words) private pure returns (bytes32) {
        return keccak256(abi.encodePacked(words[_PAIRING_WORD:_PAIRING_WORD + _PAIRING_WORDS]));
    }
}
