"""Which tests go to one process together, where `make test-frameworks` spreads them over several."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

OF_A_PEER = re.compile(r"test_beside_peers\.py::\w+\[(?P<peer>.+?)(-first|-last)?\]$")


def unit_of(nodeid: str) -> str:
    """What a test is sent with: all tests of a peer, which look at what one process has played; any other by itself."""
    found = OF_A_PEER.search(nodeid)
    return found["peer"] if found else nodeid


class Spreading(LoadScopeScheduling):
    """Sends units, those of most tests first, to whichever process is about to have none left.

    A peer's first tests play all that its others look at, and take the longest: nothing long comes last.
    """

    def _split_scope(self, nodeid: str) -> str:
        return unit_of(nodeid)
