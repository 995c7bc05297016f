"""Which calls the ids of items and tool calls tie together: what replies leave against what requests echo."""

from __future__ import annotations

import json
import random
import string
import sys
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from pathlib import Path
from typing import Any

import pytest
from echo_kit import (
    called,
    completion,
    function_call,
    gave_back,
    message,
    output_of,
    reasoning,
    response,
    said,
    tool_call,
    user,
    without_ids,
)
from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.openai.chunks import see_chat_chunk
from otel_llm_sessions.openai.echoes import MAX_ECHOED, MAX_LEFT
from otel_llm_sessions.openai.evidence import LEFT, evidence_of
from otel_llm_sessions.openai.learn import keys_of
from otel_llm_sessions.openai.request import Request
from otel_llm_sessions.openai.response import Reply, read_reply
from otel_llm_sessions.openai.routes import CHAT, RESPONSES, Match, Route
from otel_llm_sessions.openai.server import Server
from otel_llm_sessions.sessions.digest import Digests, DigestSource
from otel_llm_sessions.sessions.link import SessionId, SessionLink, SpanRef
from otel_llm_sessions.sessions.randomness import EVIDENCE_BITS, UNIQUE_BITS, bits_of, worth_of
from otel_llm_sessions.sessions.resolver import KEY, Evidence, Resolution, lookup_keys, resolve

ECHOED = Path(__file__).parent.parent / "data" / "echoed_ids.jsonl"
SERVER, ANOTHER = (
    Server(f"{name}.test", 443, "openai", f"{name}.test:443", f"{name}.test", None, True) for name in "ab"
)
DIGESTS = DigestSource("secret", str)


class Process:
    """Remembers what replies leave, and tells of what session requests are; without spans."""

    def __init__(self) -> None:
        self.known: dict[str, SessionLink] = {}

    def find(self, route: Route, body: dict[str, Any], server: Server = SERVER) -> Resolution:
        evidence = evidence_of(route.api, None, None, body, server, DIGESTS)
        return resolve(evidence, [self.known.get(key) for key in lookup_keys(evidence)], False)

    def turn(
        self, route: Route, body: dict[str, Any], made: Any, session_id: str, server: Server = SERVER
    ) -> Resolution:
        """Make a call that is of a session, if it is not of one that is known; return where it was found to be."""
        found = self.find(route, body, server)
        turn = found.turn if found.previous else 1
        link = SessionLink(SessionId(found.session_id or session_id), "new", turn, SpanRef(1, 1, 1), 0, 1)
        for key in [*keys_left(route, made), *found.leaves]:
            self.known[key] = link
        return found


def keys_left(route: Route, made: Any) -> list[str]:
    reply = Reply(route, True, LEFT[route.api])
    read_reply(reply, made)
    request = Request(Match(route, None), SERVER, "chat", None, {}, Evidence(), False, True, digests=DIGESTS)
    return keys_of(request, reply)


def chat(*messages: Any) -> dict[str, Any]:
    return {"messages": [user(), *messages]}


def ask_again(api: str, ids: Sequence[str]) -> bool:
    """Whether a call that echoes the tool calls of another is of its session."""
    process = Process()
    if api == "chat":
        tools = [tool_call(id_) for id_ in ids]
        process.turn(CHAT, chat(), completion(called(*tools)), "one")
        return process.find(CHAT, chat(called(*tools), *gave_back(*tools))).session_id == "one"
    calls = [function_call(id=None, call_id=id_) for id_ in ids]
    process.turn(RESPONSES, {}, {**response(*calls), "id": None}, "one")
    return process.find(RESPONSES, {"input": [*calls, *map(output_of, calls)]}).session_id == "one"


def test_of_the_ids_that_real_servers_give_those_tie_that_are_random():
    sets = [json.loads(line) for line in ECHOED.read_text().splitlines()]
    tied = [(one["expected"], ask_again(one["api"], one["ids"])) for one in sets]
    assert sum(is_tied for _, is_tied in tied) >= 985
    assert not any(is_tied for expected, is_tied in tied if expected == "weak")
    assert sum(expected == "weak" for expected, _ in tied) == 67


BASE36 = string.digits + string.ascii_lowercase
BASE62 = string.digits + string.ascii_letters

SHORT: list[Callable[[random.Random], str]] = [
    lambda rng: "".join(rng.choices(BASE62, k=9)),  # Mistral's
    lambda rng: "".join(rng.choices(BASE36, k=9)),  # Groq's
    lambda rng: "call_" + "".join(rng.choices(BASE36, k=8)),  # Ollama's
    lambda rng: f"call_{rng.getrandbits(64):016x}",  # Bedrock's
]


def short_id(rng: random.Random, pool: Sequence[str]) -> str:
    """An id of 40 to 80 bits, every second time one that others have, too."""
    while True:
        id_ = rng.choice(pool) if pool and rng.random() < 0.5 else rng.choice(SHORT)(rng)
        if EVIDENCE_BITS <= bits_of(id_) < UNIQUE_BITS:
            return id_


@pytest.mark.slow
def test_ten_thousand_interleaved_conversations_with_short_ids_stay_apart():
    rng = random.Random(11)
    pool = [short_id(rng, ()) for _ in range(100)]
    process, histories, merged, lost = Process(), {}, 0, 0
    for step in range(2):
        for number in rng.sample(range(10_000), 10_000):
            sent = histories.setdefault(number, [])
            tool = tool_call(short_id(rng, pool), arguments=json.dumps({"question": number, "step": step}))
            found = process.turn(CHAT, chat(*sent), completion(called(tool)), str(number))
            merged += found.session_id not in (None, str(number))
            lost += found.session_id is None and step > 0
            anew = tool_call(tool["id"], arguments=json.dumps({"step": step, "question": number}, indent=1))
            sent += [called(anew), *gave_back(anew)]
    assert (merged, lost) == (0, 0)


def test_a_short_id_counts_for_its_own_server_only_and_a_long_one_everywhere():
    process = Process()
    for id_, where in (("0G84QFMp3", None), (tool_call()["id"], "one")):
        tool = tool_call(id_)
        process.turn(CHAT, chat(), completion(called(tool)), "one")
        assert process.find(CHAT, chat(called(tool)), ANOTHER).session_id == where
        assert process.find(CHAT, chat(called(tool))).session_id == "one"


def test_the_digest_of_a_call_is_keyed():
    keys = {key for source in ("one", "two") for key in ties_with(DigestSource(source, str))}
    assert len(keys) == 2
    assert not any("add" in key or "{" in key for key in keys)


def ties_with(digests: DigestSource) -> list[str]:
    tool = tool_call("0G84QFMp3")
    return lookup_keys(evidence_of("chat_completions", None, None, chat(called(tool)), SERVER, digests))[:1]


def test_so_many_ids_of_a_request_are_looked_up_and_so_many_of_a_reply_remembered():
    tools = [tool_call() for _ in range(200)]
    ties = evidence_of("chat_completions", None, None, chat(called(*tools), *gave_back(*tools)), SERVER, DIGESTS).ties
    assert len(ties) == MAX_ECHOED
    assert ties[0][KEY] == f"i:{tools[-1]['id']}"
    left = keys_left(CHAT, completion(called(*tools)))
    assert left == [f"i:{tool['id']}" for tool in tools[-MAX_LEFT:]]


def call_ids(draw: Callable[[random.Random], str]) -> list[dict[str, Any]]:
    """Two hundred items of fifty agent's steps, whose tool calls have ids that nobody has seen."""
    rng, items = random.Random(13), []
    for _ in range(50):
        call = function_call(call_id=draw(rng))
        items += [*without_ids(reasoning(), call), output_of(call), user()]
    return items


@pytest.mark.parametrize(
    ("draw", "digests", "most"),
    [
        (lambda rng: "call_" + "".join(rng.choices(BASE62, k=24)), 0, 760),
        (SHORT[0], MAX_ECHOED // 3, 760),
        (lambda rng: f"call_{rng.randrange(1_000)}", 0, 1_250),
    ],
    ids=["long", "short", "counted"],
)
def test_two_hundred_items_that_nobody_knows_take_so_many_steps(draw, digests, most, monkeypatch):
    """What takes a microsecond or so each: functions called, Python's own and C's."""
    made, of = [], Digests.of_call
    monkeypatch.setattr(Digests, "of_call", lambda *said: made.append(said) or of(*said))
    items, steps = call_ids(draw), []
    worth_of.cache_clear()
    sys.setprofile(lambda _, event, __: steps.append(event) if event in ("call", "c_call") else None)
    try:
        evidence_of("responses", None, None, {"input": items}, SERVER, DIGESTS)
    finally:
        sys.setprofile(None)
    assert (len(made), len(steps) <= most) == (digests, True), len(steps)


def test_what_follows_the_last_id_is_told_by_the_replies_behind_it():
    process, tool = Process(), tool_call()
    process.turn(CHAT, chat(), completion(called(tool)), "one")
    sent = [called(tool), *gave_back(tool)]
    for number in range(2, 12):
        found = process.turn(CHAT, chat(*sent), completion(said()), "another")
        assert (found.session_id, found.turn) == ("one", number)
        sent += [said(), user()]
    # Some were made by somebody else, and some are missing.
    assert process.find(CHAT, chat(*sent, said(), user(), said(), user())).turn == 12
    assert process.find(CHAT, chat(*sent[:-8])).turn == 8
    assert process.find(CHAT, chat(*sent, *[said(), user()] * 9)).turn == 2


def as_it_came(items: list[Any]) -> list[Any]:
    return items


def calls_alone(items: list[Any]) -> list[Any]:
    """As pydantic-ai sends them: of ids the calls' alone."""
    return [item for item in without_ids(*items) if item.get("type") != "reasoning"]


def outputs_alone(items: list[Any]) -> list[Any]:
    return [item for item in calls_alone(items) if item.get("type") != "function_call"]


def texts_without(items: list[Any]) -> list[Any]:
    return [*chain(*([item] if item.get("type") != "message" else without_ids(item) for item in items))]


KEPT = st.sampled_from([as_it_came, calls_alone, outputs_alone, texts_without])


@given(st.lists(st.sampled_from(["tool", "tools", "text"]), min_size=2, max_size=12), KEPT, st.data())
def test_whatever_ids_a_framework_keeps_its_turns_are_in_order_and_forks_go_on_from_where_they_fork(kinds, kept, data):
    process, sent, before = Process(), [[user()]], []
    for number, kind in enumerate(kinds):
        calls = [function_call() for _ in range({"text": 0, "tool": 1, "tools": 3}[kind])]
        items = [reasoning(), *calls] if calls else [message()]
        found = process.turn(RESPONSES, {"input": kept(sent[-1])}, response(*items), str(number))
        before.append(found)
        sent.append([*sent[-1], *items, *(map(output_of, calls) if calls else [user()])])
    for earlier, found in pairwise(before):
        if earlier.previous is not None:
            assert (found.session_id, found.turn) == (earlier.session_id, earlier.turn + 1)
    at = data.draw(st.integers(0, len(kinds) - 1))
    fork = process.find(RESPONSES, {"input": kept(sent[at])})
    assert (fork.session_id, fork.turn) == (before[at].session_id, before[at].turn)


ITEMS = st.lists(
    st.sampled_from([None, 7, "x", [], {}, {"id": "x"}, user(), message(), function_call(), output_of(function_call())])
    | st.dictionaries(st.sampled_from(["id", "call_id", "role", "type", "name", "tool_calls"]), st.none() | st.text()),
    max_size=8,
)


@given(ITEMS, st.sampled_from([CHAT, RESPONSES]))
def test_whatever_is_sent_is_read(items, route):
    evidence_of(route.api, None, None, {"input": items, "messages": items}, SERVER, DIGESTS)
    keys_left(route, {"id": "x", "output": items, "choices": items})
    see_chat_chunk(Reply(route), {"choices": [{"delta": {"tool_calls": items}}]})
