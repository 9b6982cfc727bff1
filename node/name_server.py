"""A name server as an operator writes it: `IP` or `IP:PORT`, `[IP]:PORT` for IPv6."""

from __future__ import annotations

from ipaddress import ip_address


def parse_server(text: str) -> tuple[str, int]:
    """Return (IP address, port), which is 53 where none is named. Raises ValueError."""
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(f"{text!r} has no port between 1 and 65535")
    return str(ip_address(host)), int(port)
