"""Visitors' conversations that the processes of a fleet hold, many at once, each turn in one chosen at random."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, Protocol

from fleet import Fleet
from fleet_work import PATIENT
from otlp_receiver import OtlpReceiver


class Visitor(Protocol):
    """What a visitor's browser keeps of a conversation."""

    responses: list[str]

    @property
    def api(self) -> str:
        """By which API the visitor is answered: ``chat`` or ``responses``."""

    def ask(self) -> dict[str, Any]:
        """The arguments of the next call."""

    def take(self, response: str) -> None:
        """Keep what the model has said."""


def hold(
    visitors: Sequence[Visitor], turns: int, chance: random.Random, *, at_once: int, kinds: list[str], **options: Any
) -> tuple[list[Any], str]:
    """Have all conversations held; return the spans that arrived, and what the processes printed.

    Args:
        visitors: who converses.
        turns: of each conversation.
        chance: what chooses.
        at_once: so many calls are in flight.
        kinds: those of the processes.
        options: of the fleet.
    """
    with OtlpReceiver() as receiver:
        with Fleet(kinds, endpoint=receiver.endpoint, time_limit=PATIENT, **options) as fleet:
            _converse(fleet, visitors, turns, chance, at_once)
            fleet.finish()
            printed = fleet.printed
    return receiver.spans, printed


def _converse(fleet: Fleet, visitors: Sequence[Visitor], turns: int, chance: random.Random, at_once: int) -> None:
    waiting, in_flight = list(visitors), dict[int, Visitor]()
    while waiting or in_flight:
        while waiting and len(in_flight) < at_once:
            visitor = waiting.pop(chance.randrange(len(waiting)))
            worker = chance.randrange(len(fleet.workers))
            in_flight[fleet.order(worker, visitor.api, visitor.ask())] = visitor
        done = fleet.next_answer()
        assert done["error"] is None, done["error"]
        visitor = in_flight.pop(done["order"])
        visitor.take(done["response"])
        if len(visitor.responses) < turns:
            waiting.append(visitor)
