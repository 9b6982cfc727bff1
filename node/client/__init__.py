"""The requester's library: the command line, the demo and the HTTP API all call it."""
