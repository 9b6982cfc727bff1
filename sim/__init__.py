"""The simulator: the same actors and wiring on a simulated network, chain, compute, disk and clock."""
