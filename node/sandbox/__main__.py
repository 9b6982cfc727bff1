"""Encloses itself as a child would be, prints the findings, one line of JSON, and ends."""

from __future__ import annotations

import sys

from node.sandbox.enclosing import enclose
from node.sandbox.policy import decode_enclosure, encode_findings


def main() -> None:
    sys.stdout.write(encode_findings(enclose(decode_enclosure(sys.argv[1]))) + "\n")


if __name__ == "__main__":
    main()
