"""The command line: `skynet` for requesters and testers, `skynet-node` for operators."""
