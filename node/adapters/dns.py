"""Names to TXT records: DNS over the operator's name servers, or the system's, under trio.

The one rule: a name server is a stranger. Whatever goes wrong with a question is `NoAnswer`.
"""

from __future__ import annotations

from collections.abc import Sequence

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdatatype
import dns.resolver
from dns.rdtypes.ANY.TXT import TXT

from actors.ports import NoAnswer
from node.name_server import parse_server

QUESTION_S = 5.0  # for one name, all servers and repetitions together
MAX_TEXTS = 16  # of a name: an apex has a few that are not ours


class Names:
    """Asks for TXT records. `servers` are `IP` or `IP:PORT`, `[IP]:PORT` for IPv6; ValueError for another form."""

    def __init__(self, servers: Sequence[str] = ()) -> None:
        self._servers = [parse_server(server) for server in servers]
        self._resolver: dns.asyncresolver.Resolver | None = None

    async def texts(self, name: str) -> Sequence[str] | NoAnswer:
        """Return the TXT records of a name, each with its strings joined."""
        try:
            resolver = self._resolver = self._resolver or self._open()
            answer = await resolver.resolve(dns.name.from_text(name), dns.rdatatype.TXT, lifetime=QUESTION_S)
            texts = [b"".join(each.strings) for each in list(answer)[:MAX_TEXTS] if isinstance(each, TXT)]
        except (dns.exception.DNSException, OSError, EOFError) as error:
            return NoAnswer(f"{name}: {str(error) or type(error).__name__}")
        return [text.decode("ascii", "replace") for text in texts]

    def _open(self) -> dns.asyncresolver.Resolver:
        """Late, since a machine without name servers may never ask. Raises NoResolverConfiguration."""
        resolver = dns.asyncresolver.Resolver(configure=not self._servers)
        if self._servers:
            resolver.nameservers = [dns.nameserver.Do53Nameserver(host, port) for host, port in self._servers]
        return resolver
