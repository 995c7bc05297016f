"""Agents that work at the same time, before a store that is late: each has one session, and nobody another's.

Streams are left when they have brought what an agent waits for, and before; calls fail, and are made again.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import random
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import openai
import pytest
from answered import async_client_of, client_of, httpx
from echo_kit import (
    called,
    chunks,
    completion,
    events,
    function_call,
    gave_back,
    in_pieces,
    message,
    output_of,
    reasoning,
    response,
    said,
    tool_call,
    user,
    without_ids,
)
from held_backend import LateBackend
from session_kit import calls
from waiting import run_all, until

from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.testing import capture_spans

Json = dict[str, Any]

SHARED_IDS = ("0G84QFMp3", "Zk31mVb9q", "call_x8k2m9qa")
"""Ids of 40 to 80 bits, which calls of several agents have."""


class Agent:
    """Somebody who keeps a history, and sends all of it each time; calls say its name as their model."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.is_chat = seed % 2 == 0
        self.drops_ids = seed % 3 == 0
        self.random = random.Random(seed)
        self.history: list[Json] = [*(self._unknown() if seed % 5 < 3 else ()), user()]
        self.made: Json = {}
        self.fails = False
        self.made_calls = 0
        self._steps = itertools.count()

    def _unknown(self) -> list[Json]:
        """A step that another client has seen: the store is asked for it, and does not know it."""
        arguments = json.dumps({"who": self.name})
        if self.is_chat:
            return [called(tool := tool_call(arguments=arguments)), *gave_back(tool)]
        return [tool := function_call(arguments), output_of(tool)]

    def answer(self, request: Any) -> Any:
        """What the server says."""
        if self.fails:
            self.fails = False
            return httpx.Response(500, json={"error": {"message": "no", "code": None}})
        if not json.loads(request.content).get("stream"):
            return httpx.Response(200, json=self.made)
        brought = chunks(self.made, self._deltas()) if self.is_chat else events(self.made)
        return httpx.Response(200, content=b"".join(brought), headers={"content-type": "text/event-stream"})

    def _deltas(self) -> list[Json]:
        answer = self.made["choices"][0]["message"]
        return in_pieces(answer["tool_calls"]) if "tool_calls" in answer else [{"content": "Hi"}]

    async def work(self, client: Any, turns: int) -> None:
        """Make so many turns."""
        for number in range(turns):
            asks_tool = number == 0 or self.random.random() < 0.7
            await self._turn(client, asks_tool, is_first=number == 0)
            await wait(self.random.choice((0.0, 0.0, 0.02, 0.2)), client)

    async def _turn(self, client: Any, asks_tool: bool, *, is_first: bool) -> None:
        arguments = json.dumps({"who": self.name, "step": next(self._steps)})
        id_ = {} if self.random.random() < 0.5 else {"id": self.random.choice(SHARED_IDS)}
        if self.is_chat:
            tool = {**tool_call(arguments=arguments), **id_}
            answer = called(tool) if asks_tool else said()
            self.made, more = completion(answer), [answer, *(gave_back(tool) if asks_tool else [user()])]
        else:
            tool = function_call(arguments, **({"call_id": id_["id"]} if id_ else {}))
            items = [reasoning(), tool] if asks_tool else [message()]
            kept = without_ids(*items[-1:]) if self.drops_ids else items
            self.made, more = response(*items), [*kept, output_of(tool) if asks_tool else user()]
        while not await self._is_answered(client, is_first=is_first):
            pass
        self.history += more

    async def _is_answered(self, client: Any, *, is_first: bool) -> bool:
        """Make a call; whether it has brought what the agent waits for."""
        resource = client.chat.completions if self.is_chat else client.responses
        self.made_calls += 1
        self.fails = not is_first and self.random.random() < 0.15
        stream, ends_early = self.random.random() < 0.5, not is_first and self.random.random() < 0.3
        asked = {"messages" if self.is_chat else "input": list(self.history)}
        try:
            reply = await done(resource.create(model=self.name, stream=stream, **asked))
        except openai.InternalServerError:
            return False
        if not stream:
            return True
        brought, last = 0, self.random.randrange(1, 6) if ends_early else 1_000
        while brought < last and (event := await after(reply)) is not None:
            brought += 1
            has_all = getattr(event, "type", "") == "response.output_item.done" and event.item.type == "function_call"
            if has_all and ends_early:
                await done(reply.close())
                return True
        await done(reply.close())
        return not ends_early


async def done(value: Any) -> Any:
    return await value if hasattr(value, "__await__") else value


async def after(stream: Any) -> Any:
    """The next of a stream; None at its end."""
    return await anext(stream, None) if hasattr(stream, "__anext__") else next(stream, None)


async def wait(seconds: float, client: Any) -> None:
    if isinstance(client, openai.AsyncOpenAI):
        await asyncio.sleep(seconds)
    else:
        time.sleep(seconds)


def at_once_in_threads(agents: Sequence[Agent], turns: int) -> None:
    """Each agent in a thread of its own, with one client."""

    def finish(work: Coroutine[Any, Any, None]) -> None:
        with pytest.raises(StopIteration):  # a blocking client never suspends it
            work.send(None)

    client = client_of(answering(agents))
    threads = [threading.Thread(target=finish, args=(agent.work(client, turns),)) for agent in agents]
    run_all(threads)


def at_once_on_a_loop(agents: Sequence[Agent], turns: int) -> None:
    """Each agent in a task of its own, with one client."""

    async def work() -> None:
        client = async_client_of(answering(agents))
        await asyncio.gather(*(agent.work(client, turns) for agent in agents))

    asyncio.run(work())


def answering(agents: Sequence[Agent]) -> Callable[[Any], Any]:
    by_name = {agent.name: agent for agent in agents}
    return lambda request: by_name[json.loads(request.content)["model"]].answer(request)


@pytest.mark.slow
@pytest.mark.parametrize("traces", ["session", "turn"])
@pytest.mark.parametrize("at_once", [at_once_in_threads, at_once_on_a_loop])
@pytest.mark.parametrize("seed", range(4))
def test_each_of_many_agents_has_one_session(seed, at_once, traces):
    agents = [Agent(f"agent-{number}", 100 * seed + number) for number in range(6)]
    with capture_spans(store=GuardedStore(LateBackend(seed)), traces=traces) as spans:
        at_once(agents, turns=12)
        until(lambda: len(calls(spans)) == sum(agent.made_calls for agent in agents))
    agents_of, sessions_of = defaultdict(set), defaultdict(list)
    for span in sorted(calls(spans), key=lambda span: span.start_time):
        session_id, name = span.attributes.get("session.id"), span.attributes["gen_ai.request.model"]
        agents_of[session_id].add(name)
        sessions_of[name].append((session_id, span.attributes.get("llm_session.turn")))
    assert {len(names) for names in agents_of.values()} == {1}, "strangers"
    assert {name: len({id_ for id_, _ in seen}) for name, seen in sessions_of.items()} == dict.fromkeys(sessions_of, 1)
    for seen in sessions_of.values():
        numbers = [turn for _, turn in seen]
        assert numbers == sorted(numbers), "a call that is made again has the same number, and no other goes back"
