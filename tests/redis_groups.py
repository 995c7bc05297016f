"""More than one Redis or Valkey: a cluster of three masters with a replica each; a master with a Sentinel."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from store_kit import RedisServer, free_port
from waiting import until

SLOTS = 16384
NODE_TIMEOUT = 2000
"""Milliseconds after which a server that does not answer is taken for dead."""


class Cluster:
    """Three masters with a replica each, or without."""

    def __init__(self, directory: Path, program: str, *, replicas: int = 3) -> None:
        self.nodes = [_node(directory / str(number), program) for number in range(3 + replicas)]
        hosts = ",".join(f"127.0.0.1:{node.port}" for node in self.nodes[:3])
        self.url = f"redis+cluster://{hosts}"

    def start(self) -> None:
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes[:3]):
            ends = SLOTS * number // 3, SLOTS * (number + 1) // 3 - 1
            assert node.ask("CLUSTER", "ADDSLOTSRANGE", *map(str, ends)) == b"+OK\r\n"
        for number, node in enumerate(self.nodes):
            node.ask("CLUSTER", "SET-CONFIG-EPOCH", str(number + 1))
        first = self.nodes[0]
        for node in self.nodes[1:]:
            node.ask("CLUSTER", "MEET", "127.0.0.1", str(first.port), first.bus)
        until(lambda: all(_knows(node, len(self.nodes)) for node in self.nodes))
        for master, replica in zip(self.nodes, self.nodes[3:]):
            name = master.ask("CLUSTER", "MYID").split(b"\r\n")[1].decode()
            until(lambda name=name, replica=replica: replica.ask("CLUSTER", "REPLICATE", name) == b"+OK\r\n")
        until(self.is_well)
        until(lambda: all(b"master_link_status:up" in node.ask("INFO", "replication") for node in self.nodes[3:]))

    def is_well(self) -> bool:
        """Whether all slots are served, as each server sees it."""
        return all(b"cluster_state:ok" in node.ask("CLUSTER", "INFO") for node in self.nodes if node.is_running)

    def kill_a_master(self) -> None:
        self.nodes[0].kill()

    def has_failed_over(self) -> bool:
        """Whether the replica of the master that was killed serves its slots."""
        return b"role:master" in self.nodes[3].ask("INFO", "replication") and self.is_well()

    def kill(self) -> None:
        for node in self.nodes:
            node.kill()


class _Node(RedisServer):
    bus = ""


def _node(directory: Path, program: str) -> _Node:
    directory.mkdir(parents=True)
    bus = str(free_port())
    options = ("--cluster-enabled", "yes", "--cluster-node-timeout", str(NODE_TIMEOUT), "--cluster-port", bus)
    node = _Node(directory, *options, program=program)
    node.bus = bus
    return node


def _knows(node: RedisServer, number: int) -> bool:
    return f"cluster_known_nodes:{number}\r\n".encode() in node.ask("CLUSTER", "INFO")


class Watched:
    """A master and a replica, and a Sentinel that makes the replica the master when the master is dead."""

    def __init__(self, directory: Path, program: str) -> None:
        for name in ("master", "replica"):
            (directory / name).mkdir(parents=True)
        self.master = RedisServer(directory / "master", program=program)
        follow = ("--replicaof", "127.0.0.1", str(self.master.port))
        self.replica = RedisServer(directory / "replica", *follow, program=program)
        self.sentinel = _sentinel(directory / "sentinel", self.master.port, program)
        self.url = f"redis+sentinel://127.0.0.1:{self.sentinel.port}/the-master"

    def start(self) -> None:
        for server in (self.master, self.replica):
            server.start()
        until(lambda: b"master_link_status:up" in self.replica.ask("INFO", "replication"))
        self.sentinel.start()
        until(lambda: b"slaves=1" in self.sentinel.ask("INFO", "sentinel"))

    def kill_a_master(self) -> None:
        self.master.kill()

    def has_failed_over(self) -> bool:
        try:
            return b"role:master" in self.replica.ask("INFO", "replication")
        except ConnectionError:  # a Sentinel closes all connections of what it makes the master
            return False

    def kill(self) -> None:
        for server in (self.sentinel, self.replica, self.master):
            server.kill()


def _sentinel(directory: Path, port: int, program: str) -> RedisServer:
    directory.mkdir(parents=True)
    lines = [
        f"sentinel monitor the-master 127.0.0.1 {port} 1",
        f"sentinel down-after-milliseconds the-master {NODE_TIMEOUT}",
        "sentinel failover-timeout the-master 10000",
    ]
    config = directory / "sentinel.conf"
    config.write_text("".join(f"{line}\n" for line in lines))
    return _Sentinel(directory, config, program)


class _Sentinel(RedisServer):
    def __init__(self, directory: Path, config: Path, program: str) -> None:
        super().__init__(directory, program=program)
        options: Sequence[str] = ("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory))
        self._command = [program, str(config), *options, "--sentinel"]


GROUPS = {"cluster": Cluster, "sentinel": Watched}


@contextlib.contextmanager
def group_of(kind: str, directory: Path, program: str) -> Iterator[Cluster | Watched]:
    """Run a cluster, or a master with a Sentinel."""
    group = GROUPS[kind](directory, program)
    try:
        group.start()
        yield group
    finally:
        group.kill()


def sizes(cluster: Cluster) -> list[int]:
    """How many keys each master has."""
    return [int(re.findall(rb":(\d+)", node.ask("DBSIZE"))[0]) for node in cluster.nodes[:3] if node.is_running]
