"""The course of a call's questions: what is asked for its session, in order, and what is done with the answers.

The same for an answer that comes in time and for one that comes late, of a store or of the provider. Who drives the
course decides how long the application waits (``flow``); what comes later is driven beside the application.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from functools import partial
from typing import Final

from otel_llm_sessions.bounded import once
from otel_llm_sessions.guard import report
from otel_llm_sessions.openai.announcing import announce_late, announcement_of, is_missing, last_announced, unsure_of
from otel_llm_sessions.openai.beside import beside
from otel_llm_sessions.openai.call import Call
from otel_llm_sessions.openai.chain_walk import Walk
from otel_llm_sessions.openai.climb import Climb
from otel_llm_sessions.openai.correcting import correct
from otel_llm_sessions.openai.decide import described, planned, resolved, said_by
from otel_llm_sessions.openai.ending import end
from otel_llm_sessions.openai.gate import Gate
from otel_llm_sessions.openai.held import HELD, Leaving, told_by
from otel_llm_sessions.openai.history import ReadHistory
from otel_llm_sessions.openai.observing import leave_early
from otel_llm_sessions.openai.outbox import deliver_soon, put_soon
from otel_llm_sessions.openai.question import AGAIN, ANYTHING, TIMES_AS_LATE, YET_AGAIN, Question
from otel_llm_sessions.openai.standing import amend, note, start, start_unplaced
from otel_llm_sessions.openai.turn import NOTHING_KNOWN
from otel_llm_sessions.sessions.keys import announced_key, session_key
from otel_llm_sessions.sessions.link import GIVEN_SOURCES, Record, SessionLink
from otel_llm_sessions.sessions.resolver import NONE, Resolution, doubted, is_unsure, lookup_keys, resolve_looked_up
from otel_llm_sessions.stores.answer import Answer
from otel_llm_sessions.stores.newest import newer
from otel_llm_sessions.traces.plan import NO_PLAN, Plan

PATIENCE: Final = 2.0
"""Seconds for which the end of a span is kept back for an answer."""

AskProvider = Callable[[SessionLink | None], "Answer[Walk] | None"]
"""Asks the provider for the chain of a call, beside it; None where it is not to be asked.

Its argument is what the store has of the response before the call.
"""


class Course:
    """The questions of one call."""

    def __init__(self, call: Call, ask_provider: AskProvider | None = None) -> None:
        """Begin; nothing has been asked yet.

        Args:
            call: the call.
            ask_provider: asks the provider, if it may be asked.
        """
        self.runtime = call.runtime
        self.waited = 0.0
        self.within = 0.0
        self._call = call
        self._ask_provider = ask_provider
        self.begun = time.monotonic()
        self._again = self.begun + AGAIN
        """When the store may be asked again, if the call has ended by then."""
        self._alone = NONE
        """The session if nothing more is heard of it."""
        self._decided: tuple[Resolution, Plan] | None = None
        self._ended: Answer[None] | None = None
        """Answered when the call has ended and the store may be asked again."""
        self._is_hastened = False
        """Whether nothing is waited for any more."""
        self._once = once()
        self._notice: Answer[list[SessionLink | None]] | None = None
        """Whose last answer is which turn of the session had announced itself, where the call has announced itself."""
        self.keys: set[str] = set()
        """Under which keys the call may be remembered, as far as that has been told."""
        self.sessions: frozenset[str] = frozenset()
        """The keys of the named sessions that it may be of, where that has been told."""
        self._before: dict[int, Leaving] = {}
        """Whom it waits for."""
        self._asked: Answer[list[SessionLink | None]] | None = None
        """What is known of the calls before."""
        self._leaves = False
        """Whether it leaves something already."""
        self.number = 0
        """What tells it from others whose calls have ended."""
        self.settled: Answer[Record | None] = Answer()
        """What the call leaves behind, when its session is known."""
        self.questions = self._questions()
        """What is to be waited for, in order; the call's span has been started when there is no more."""

    # --- the questions --------------------------------------------------------------------------------------

    def _questions(self) -> Generator[Question, None, None]:
        call = self._call
        if call.request.history is not None and not call.request.history.is_sure:
            yield from self._made_sure(call.request.history)
        answers = yield from self._looked_up()
        resolution = resolved(call, answers)
        if is_unsure(resolution) and call.request.match.route.is_turn:
            self._note(resolution)
            resolution = described(call, (yield from self._asked_further(resolution)))
        yield from self._settled(resolution)

    def _made_sure(self, history: ReadHistory) -> Generator[Question, None, None]:
        """Ask the store anything: it tells its scope, by which digests are made, with its first answer."""
        asked = self._call.runtime.asked.ask((ANYTHING,), self.within)
        yield Question(asked)
        if asked.is_known:
            history.is_sure = True
            self._call.renew_evidence()
            if self._leaves:
                self._tell()

    def _looked_up(self) -> Generator[Question, None, Sequence[SessionLink | None]]:
        """Ask what is known of the calls before."""
        keys = lookup_keys(self._call.request.evidence)
        if not keys:
            return ()
        self._before, begun, asked = HELD.pending(keys, self.begun), self._call.started, self._call.runtime.asked
        notice = announcement_of(self._call) if asked.lateness and self._notice is None else None
        if notice is None:
            self._asked = looked_up = asked.ask(keys, self.within)
        else:
            self._asked = self._notice = looked_up = asked.ask_and_put([*keys, *notice[0]], notice)
        yield Question(looked_up)
        answers = self._newest(keys, looked_up.result()[: len(keys)])
        # Of some it is known only now which session they belong to.
        self._before = {**self._before, **HELD.pending(keys, self.begun)}
        if self._before:
            answers = yield from told_by(self._before.values(), keys, answers)
        if self._notice is not None:
            yield Question(self._notice)
            answers = yield from self._recorded(self._notice.result()[-1], begun, keys, answers)
        return answers if looked_up.is_known else doubted(self._call.request.evidence, answers)

    def _recorded(
        self, announced: SessionLink | None, begun: int, keys: Sequence[str], answers: Sequence[SessionLink | None]
    ) -> Generator[Question, None, Sequence[SessionLink | None]]:
        """Return the answers when a turn is recorded that another process has announced before the call began.

        A call whose answer was late looks twice: the announcement of the turn before it may have been as late.
        """
        given, newest = self._call.request.evidence.given, len(self._call.request.evidence.ties)
        assert given is not None  # it has announced itself
        if self._call.gate is None and not is_missing(announced, answers[newest], begun):
            return answers
        self._note(unsure_of(resolved(self._call, answers)))
        if is_missing(announced, answers[newest], begun):
            yield from self._until_its_end()
        else:
            yield from self._until(time.monotonic() + AGAIN)
        began = time.monotonic()
        for seconds in (0.0, *YET_AGAIN):
            if seconds:
                if not self._may_be_late(seconds):
                    break
                yield from self._until(began + seconds)
            asked = self._call.runtime.asked.ask([*keys, announced_key(given.session_id)])
            yield Question(asked, is_beside=True)
            found = self._newest(keys, asked.result()[:-1])
            if (link := found[newest]) is not None and link.start > begun:  # it hides what this call follows
                break
            answers, announced = found, last_announced(announced, asked.result()[-1], begun)
            if not is_missing(announced, answers[newest], begun):
                break
        return answers

    def _until_its_end(self) -> Generator[Question, None, None]:
        """Wait until the call has ended, and a moment after it began: the process before may still be writing."""
        self._ended = Answer()
        gate = self._call.gate
        if gate is not None and gate.ending is not None:  # the store was late, and the call is over
            self._ask_again(self._again)
        yield Question(self._ended, is_beside=True, is_a_stores=False)

    def _until(self, due: float) -> Generator[Question, None, None]:
        self._ended, self._again = Answer(), due
        self._ask_again(due)
        yield Question(self._ended, is_beside=True, is_a_stores=False)

    def _may_be_late(self, seconds: float) -> bool:
        """Whether others' records may be so late that it is worth to ask again after so many seconds."""
        return not self._is_hastened and seconds <= TIMES_AS_LATE * self._call.runtime.asked.lateness

    def _newest(self, keys: Sequence[str], answers: Sequence[SessionLink | None]) -> Sequence[SessionLink | None]:
        """Return a late answer with what has become known in this process since it was given."""
        if self._call.gate is None:
            return answers
        known = self._call.runtime.asked.known(keys)
        return [newer(*found) for found in zip(keys, answers, known, strict=True)]

    def _note(self, alone: Resolution) -> None:
        """Have what is recorded meanwhile say what is known so far."""
        self._alone = alone
        if self._call.gate is not None:
            note(self._call, alone)

    def _asked_further(self, alone: Resolution) -> Generator[Question, None, Resolution]:
        """Ask those who may know where a chain begins."""
        told = self._ask_provider(alone.previous) if self._ask_provider is not None else None
        if told is not None:
            yield Question(told, is_beside=True, is_a_stores=False)
            walk = told.result()
            previous = walk.previous()
            if previous is None:
                return alone
            return replace(resolve_looked_up(previous, complete=walk.is_complete), leaves=alone.leaves)
        if self._call.runtime.never_waits:
            return alone
        yield from self._until_its_end()
        found, began = (yield from self._climbed(alone)), time.monotonic()
        for seconds in YET_AGAIN:
            if not is_unsure(found) or not self._may_be_late(seconds):
                break
            yield from self._until(began + seconds)
            found = yield from self._climbed(alone)
        return found

    def _climbed(self, alone: Resolution) -> Generator[Question, None, Resolution]:
        """Ask the store again, and past turns that only know the one before them; repair those."""
        climb = Climb(alone.key)
        while climb.asking is not None:
            asked = self._call.runtime.asked.ask((climb.asking,))
            yield Question(asked, is_beside=True)
            climb.take(asked.result()[0])
        for record in climb.repairs():
            put_soon(self._call.runtime, record)
        previous = climb.previous
        if previous is None:
            return alone
        source = "chain" if alone.previous is None else alone.source
        found = Resolution(previous.session_id, source, previous.source, previous.turn + 1, previous, None)
        return replace(found, key=alone.key, leaves=alone.leaves)

    def _settled(self, resolution: Resolution) -> Generator[Question, None, None]:
        call = self._call
        plan = planned(call, resolution)
        is_owner = False
        if plan.opening is not None:
            self._decided = resolution, plan
            if self._leaves:
                self._tell()
            claim = call.runtime.asked.ask_claim(plan.opening.claim_key, self.within)
            yield Question(claim)
            is_owner = claim.result()
        self._take_in(resolution, plan, is_owner)

    # --- what is done with them -----------------------------------------------------------------------------

    def _take_in(self, resolution: Resolution, plan: Plan, is_owner: bool) -> None:
        call, gate = self._call, self._call.gate
        if call.turn is NOTHING_KNOWN:
            call.set_out()
            start(call, resolution, plan, is_owner)
            return self._tell_begun()
        if gate is not None and next(self._once, False):
            return self._amend(gate, resolution, plan, is_owner)
        if is_owner:
            call.home.placer.open(plan)
        if gate is None:
            self._let_go(None)
        if gate is not None and gate.ending is not None and not is_unsure(resolution):
            correct(call, resolution, gate.ending.time)
            deliver_soon(call)
        return None

    def _tell_begun(self) -> None:
        """Record that a turn has begun where its record may be late for the next turn, which may be made elsewhere."""
        call = self._call
        if call.runtime.asked.lateness and call.turn.resolution.origin in GIVEN_SOURCES:
            call.leave(0)
            deliver_soon(call)

    def _amend(self, gate: Gate, resolution: Resolution, plan: Plan, is_owner: bool) -> None:
        call, left = self._call, None
        try:
            amend(call, resolution, plan, is_owner)
            left = call.leave(gate.ending.time if gate.ending is not None else 0)
        except Exception as error:
            report("answer a call", error)
        ending = gate.open()
        try:
            if ending is not None:
                left = end(call, *ending) or left  # a session that the reply names has its name only now
            elif left is None:
                leave_early(call)
            deliver_soon(call)
        finally:
            self._let_go(left)

    def _let_go(self, left: Record | None) -> None:
        self.settled.settle_once(left)
        HELD.release(self)
        HELD.remove(self.number)

    # --- beside the application -----------------------------------------------------------------------------

    def go_on_beside(self, question: Question) -> None:
        """Start the span without an answer; what comes of it is done beside the application."""
        call, decided, self.within = self._call, self._decided, 0.0
        if call.turn is NOTHING_KNOWN:
            call.set_out()
            if decided is not None:
                start(call, *decided, False)
                self._tell_begun()
                self.number = HELD.add(self)  # its root is still to be opened, if the claim is got
                beside.at(time.monotonic() + PATIENCE, partial(HELD.give_up, self.number))
            else:
                if self._notice is None:
                    self._notice = announce_late(call)
                said = said_by(call)
                alone = self._alone if self._alone is not NONE else said
                start_unplaced(call, said, alone, Gate(self._tell, self._held_back))
        self._await(question)

    def _await(self, question: Question) -> None:
        if question.is_a_turns:  # others that wait may ask for what comes of this one
            question.answer.when_done(lambda _: beside.first(self._go_on))
        elif question.is_a_stores:
            question.answer.when_done(lambda _: beside.soon(self._go_on))
        else:
            question.answer.when_done(lambda _: self._go_on())

    def _go_on(self) -> None:
        try:
            question = next(self.questions, None)
            while question is not None and question.answer.is_done:
                question = next(self.questions, None)
        except Exception as error:
            report("answer a call", error)
            return self.give_up()
        if question is not None:
            self._await(question)
        return None

    def _tell(self) -> None:
        """Have those wait for this call who look for what it may leave."""
        self._leaves, request = True, self._call.request
        keys, given = self._call.leaves_under(), request.evidence.given
        named = () if given is None else (session_key(given.session_id),)
        self.sessions = frozenset(named).union(*(leaving.sessions for leaving in self._before.values()))
        if request.match.route.is_turn:
            keys += self.sessions
        if self._decided is not None and self._decided[1].opening is not None:
            keys.append(session_key(self._decided[1].opening.session_id))
        HELD.tell(self, keys)
        if self.settled.is_done:  # the answer came just now
            HELD.release(self)

    def _held_back(self) -> None:
        """The call has ended before its session is known."""
        if self._ended is not None:
            self._ask_again(self._again)
        if self._call.span.is_borrowed:
            return self.give_up()  # its owner ends the span now
        self._tell()
        self.number = HELD.add(self)
        if self.settled.is_done:  # the answer came just now, and the span has ended
            HELD.remove(self.number)
        else:
            beside.at(time.monotonic() + PATIENCE, partial(HELD.give_up, self.number))
        return None

    def _ask_again(self, due: float) -> None:
        if self._ended is not None:
            beside.at(due, partial(self._ended.settle_once, None))

    def hear(self) -> None:
        """See ``Awaiting``: a call that follows may name the session that was found, and nothing else of it."""
        if self._leaves and self._asked is not None and self._asked.is_done and not self.settled.is_done:
            HELD.tell(self, [session_key(link.session_id) for link in self._asked.result() if link is not None])
            if self.settled.is_done:
                HELD.release(self)

    def hasten(self) -> None:
        """Ask at once what was to be asked again after the call's end, and no more than once."""
        self._is_hastened = True
        if self._ended is not None:
            self._ended.settle_once(None)

    def give_up(self) -> None:
        """Have the call end with what is known."""
        call, gate = self._call, self._call.gate
        if gate is None:
            return self._let_go(None)
        if not next(self._once, False):
            return None
        if self._decided is not None:  # only the claim of its root has not been answered
            return self._amend(gate, *self._decided, False)
        evidence, resolution = call.request.evidence, self._alone
        if resolution is NONE or evidence.given is not None:
            resolution = resolved(call, call.runtime.asked.known(lookup_keys(evidence)))
        previous = resolution.previous
        plan = planned(call, resolution) if previous is not None and previous.trace is not None else NO_PLAN
        return self._amend(gate, resolution, plan if plan.opening is None else NO_PLAN, False)
