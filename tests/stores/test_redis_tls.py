"""Redis over TLS by each of its names: its own TLS where the server was built with it, else a front that has it."""

from __future__ import annotations

import contextlib
import functools
import gc
import ssl
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme
from redis_groups import Cluster, sizes
from store_kit import SERVERS, RedisServer, a_link, free_port, redis_direct, require_program
from tls_front import TlsFront
from waiting import until

from otel_llm_sessions.stores.opening import open_store
from otel_llm_sessions.stores.shared import StoreDown

RESET_BEFORE_ITS_HANDSHAKE = r"ignore:unclosed <ssl.SSLSocket [^>]* laddr=\('[\d.]+', \d+\)>:ResourceWarning"
"""CPython (3.11.7) leaves a socket that its peer resets between connecting and the handshake to the garbage collector.

It has no peer, by which it is told from one that somebody forgot to close.
"""

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings(RESET_BEFORE_ITS_HANDSHAKE)]

KEYS = [f"r:{number}" for number in range(60)]


class Certificates:
    """An authority of the test's own, and what a server of this machine has from it."""

    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        issued = authority.issue_cert("127.0.0.1")
        self.trusted, self.chain, self.key = (directory / f"{name}.pem" for name in ("trusted", "chain", "key"))
        authority.cert_pem.write_to_path(self.trusted)
        issued.private_key_pem.write_to_path(self.key)
        self.chain.write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        issued.configure_cert(self.context)

    def options(self) -> list[str]:
        """What Redis' own TLS is told."""
        files = ("--tls-cert-file", self.chain, "--tls-key-file", self.key, "--tls-ca-cert-file", self.trusted)
        return [*map(str, files), "--tls-auth-clients", "no"]

    def have_tls(self, server: RedisServer, within: contextlib.ExitStack) -> int:
        """Give a server that was not started yet a port with TLS; return that."""
        if has_tls(server.program):
            port = free_port()
            server.add(*self.options(), "--tls-port", str(port))
        else:
            port = within.enter_context(TlsFront(server.port, self.context)).port
        return port


@functools.cache
def has_tls(program: str) -> bool:
    """Whether a server was built with TLS of its own: it then wants a certificate for it."""
    command = [program, "--port", "0", "--tls-port", "1"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return "No tls-cert-file" in ended.stdout


@pytest.fixture(params=SERVERS)
def program(request) -> str:
    return require_program(request.param)


@pytest.fixture
def certificates(tmp_path) -> Certificates:
    return Certificates(tmp_path)


@pytest.fixture(autouse=True)
def _nothing_is_left_to_other_tests() -> Iterator[None]:
    yield
    gc.collect()


def have_closed() -> bool:
    """Whether each store that was closed has let go of its servers: that is done beside who closes it."""
    return not any("redis" in thread.name for thread in threading.enumerate())


@pytest.fixture
def cluster(program, certificates, tmp_path) -> Iterator[Cluster]:
    """A cluster that is reached over TLS; with TLS of their own its servers speak so to one another, too."""
    is_their_own = has_tls(program)
    # A replica would go to its master's front, without TLS.
    cluster = Cluster(tmp_path / "cluster", program, replicas=3 if is_their_own else 0)
    with contextlib.ExitStack() as stack:
        stack.callback(cluster.kill)
        ports = []
        for node in cluster.nodes:
            ports.append(str(certificates.have_tls(node, stack)))
            own = ("--tls-cluster", "yes", "--tls-replication", "yes")
            node.add(*(own if is_their_own else ("--cluster-announce-port", ports[-1])))
        cluster.start()
        cluster.url = f"rediss+cluster://127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}"
        yield cluster
        until(have_closed)


def test_a_cluster_over_tls(cluster, certificates, closing):
    url = f"{cluster.url}?ssl_ca_certs={certificates.trusted}"
    one, other = closing(open_store(url)), closing(open_store(url))
    for number, key in enumerate(KEYS):
        one.put([key], a_link(number + 1))
    until(lambda: all(other.get_all(KEYS)))
    assert [link.turn for link in other.get_all(KEYS)] == [*range(1, len(KEYS) + 1)]
    assert min(sizes(cluster)) > len(KEYS) / 6, "each master has a part"
    until(lambda: one.scope == other.scope)


def test_a_cluster_whose_certificate_nobody_trusts_is_none(cluster, closing):
    with pytest.raises(StoreDown, match="(?i)certificate"):
        closing(redis_direct(cluster.url)).get_all(KEYS)


def test_valkeys_is_a_name_of_redis_over_tls(program, certificates, tmp_path, closing):
    server = RedisServer(tmp_path, program=program)
    with contextlib.ExitStack() as stack:
        port = certificates.have_tls(server, stack)
        stack.callback(server.kill)
        server.start()
        trusted = f"?ssl_ca_certs={certificates.trusted}"
        one, other = (open_store(f"{name}://127.0.0.1:{port}/0{trusted}") for name in ("valkeys", "rediss"))
        with contextlib.closing(one), contextlib.closing(other):
            one.put(["r:1"], a_link())
            until(lambda: other.get_all(["r:1"])[0])
        until(have_closed)
        with pytest.raises(StoreDown, match="(?i)certificate"):
            closing(redis_direct(f"valkeys://127.0.0.1:{port}")).get_all(["r:1"])
