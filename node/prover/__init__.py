"""Child program: circuits, commitments and proofs of statement E. `python -m node.prover`, see `__main__`."""
