"""A turn that says just what was put into a conversation a moment ago, in the same piece of work, begins there."""

from __future__ import annotations

import asyncio
import random
import threading
import uuid
from typing import Any

import openai
import pytest
from loopback_client import MODEL
from opentelemetry.sdk.trace import TracerProvider
from session_kit import found_of

from otel_llm_sessions import session
from otel_llm_sessions.openai import added


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the machine is, a turn begins in time."""
    monkeypatch.setattr(added, "UNTIL_ASKED", 1000.0)


pytestmark = pytest.mark.usefixtures("patient")


@pytest.fixture
def words() -> str:
    """What nobody has said here before."""
    return f"Hello {uuid.uuid4().hex}"


def said_by(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def conversation_with(client: Any, text: str, **arguments: Any) -> str:
    """Make a conversation, and put what a user says into it as openai-agents does."""
    talk = str(client.conversations.create(items=[]).id)
    client.conversations.items.create(talk, items=[said_by("user", text)], **arguments)
    return talk


def respond(client: Any, said: Any, **arguments: Any) -> Any:
    made = client.responses.create(model=MODEL, input=said, **arguments)
    return list(made)[-1].response if arguments.get("stream") else made


def in_parts(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "input_text", "text": text} for text in texts]}


SAME: dict[str, Any] = {
    "text": lambda text: text,
    "item": lambda text: [said_by("user", text)],
    "message": lambda text: [{**said_by("user", text), "type": "message"}],
    "part": lambda text: [in_parts(text)],
    "parts": lambda text: [in_parts(text[:3], text[3:])],
}

OTHER: dict[str, Any] = {
    "more": lambda text: f"{text}!",
    "nothing": lambda text: [],
    "none": lambda text: None,
    "twice": lambda text: [said_by("user", text)] * 2,
    "another's": lambda text: [said_by("developer", text)],
    "an image": lambda text: [{"role": "user", "content": [{"type": "input_image", "image_url": text}]}],
    "odd": lambda text: [7],
}


@pytest.mark.parametrize("said", SAME.values(), ids=SAME)
@pytest.mark.parametrize("stream", [False, True])
def test_the_first_turn_of_a_conversation_is_its_own(client, both_modes, said, stream, words):
    talk = conversation_with(client, words)
    respond(client, said(words), stream=stream)
    assert found_of(both_modes) == [(talk, "item", 1)]


@pytest.mark.parametrize("stream", [False, True])
async def test_so_it_is_on_an_event_loop(async_client, spans, stream, words):
    talk = (await async_client.conversations.create(items=[])).id
    await async_client.conversations.items.create(talk, items=[said_by("user", words)])
    made = await async_client.responses.create(model=MODEL, input=[said_by("user", words)], stream=stream)
    if stream:
        async for _ in made:
            pass
    assert found_of(spans) == [(talk, "item", 1)]


def test_the_turns_after_it_follow(client, spans, words):
    talk = conversation_with(client, words)
    made = respond(client, [said_by("user", words)])
    client.conversations.items.create(talk, items=[said_by("assistant", made.output_text)])
    respond(client, words, conversation=talk)
    respond(client, words, previous_response_id=made.id)
    assert found_of(spans) == [(talk, "item", 1), (talk, "conversation", 2), (talk, "chain", 2)]


def test_a_conversation_that_is_made_with_it_is_meant_as_well(client, spans, words):
    talk = client.conversations.create(items=[said_by("user", words)]).id
    respond(client, words)
    assert found_of(spans) == [(talk, "item", 1)]


@pytest.mark.parametrize("said", OTHER.values(), ids=OTHER)
def test_other_words_are_not(client, spans, said, words):
    conversation_with(client, words)
    made = respond(client, said(words))
    assert found_of(spans) == [(made.id, "new", 1)]


def test_what_the_call_itself_ties_to_is_stronger(client, spans, words):
    first = respond(client, words)
    conversation_with(client, words)
    respond(client, words, previous_response_id=first.id)
    with session("mine"):
        respond(client, words)
    assert [session_id for session_id, _, _ in found_of(spans)] == [first.id, first.id, "mine"]


# --- the same piece of work ---------------------------------------------------------------------------------


async def test_a_task_that_is_started_from_there_is_the_same_piece_of_work(async_client, spans, words):
    async def ask() -> str:
        return (await async_client.responses.create(model=MODEL, input=words)).id

    talk = (await async_client.conversations.create(items=[said_by("user", words)])).id
    await asyncio.gather(ask(), ask())  # a guardrail beside the call
    assert {session_id for session_id, _, _ in found_of(spans)} == {talk}


async def test_a_task_that_was_there_before_is_another(async_client, spans, words):
    has_added = asyncio.Event()

    async def stranger() -> str:
        await has_added.wait()
        return (await async_client.responses.create(model=MODEL, input=words)).id

    waiting = asyncio.create_task(stranger())
    await async_client.conversations.create(items=[said_by("user", words)])
    has_added.set()
    made = await waiting
    assert found_of(spans) == [(made, "new", 1)]


def test_another_thread_is_another(client, spans, words):
    client.conversations.create(items=[said_by("user", words)])
    thread = threading.Thread(target=lambda: client.responses.create(model=MODEL, input=words))
    thread.start()
    thread.join()
    assert [source for _, source, _ in found_of(spans)] == ["new"]


def test_the_request_that_a_thread_serves_next_is_another(client, spans, words):
    tracer = TracerProvider().get_tracer(__name__)
    with tracer.start_as_current_span("POST /chat"):
        conversation_with(client, words)  # and what was to follow failed
    with tracer.start_as_current_span("POST /chat"):
        made = respond(client, words)
        talk = conversation_with(client, words + "!")
        with tracer.start_as_current_span("agent"):
            respond(client, words + "!")
    assert [session_id for session_id, _, _ in found_of(spans)] == [made.id, talk]


@pytest.mark.parametrize("between", ["", "Hi"])
def test_what_was_put_into_two_conversations_before_anybody_asked_ties_to_neither(client, spans, between, words):
    for text in (words, between or words, words):
        conversation_with(client, text)
    for _ in range(2):
        respond(client, words)
    assert [source for _, source, _ in found_of(spans)] == ["new", "new"]


@pytest.mark.parametrize("limit", ["UNTIL_ASKED", "ONCE_ASKED"])
def test_it_is_forgotten_after_a_moment(client, spans, monkeypatch, limit, words):
    monkeypatch.setattr(added, "UNTIL_ASKED", 1000.0)
    monkeypatch.setattr(added, limit, 0.0)
    talk = conversation_with(client, words)
    ids = [respond(client, words).id for _ in range(2)]
    expected = [talk, ids[1]] if limit == "ONCE_ASKED" else ids
    assert [session_id for session_id, _, _ in found_of(spans)] == expected


def test_a_request_about_another_conversation_ends_it(client, spans, words):
    other = client.conversations.create().id
    conversation_with(client, words)
    client.conversations.items.list(other)
    made = respond(client, words)
    assert found_of(spans) == [(made.id, "new", 1)]


def test_what_the_server_refused_is_in_no_conversation(client, spans, words):
    with pytest.raises(openai.InternalServerError):
        conversation_with(client, words, extra_headers={"x-loopback-mode": "status=500"})
    made = respond(client, words)
    assert found_of(spans) == [(made.id, "new", 1)]


def test_another_server_is_another(client, server, spans, words):
    conversation_with(client, words)
    made = respond(client.with_options(base_url=server.base_url.replace("127.0.0.1", "localhost")), words)
    assert found_of(spans) == [(made.id, "new", 1)]


async def test_no_two_of_many_conversations_meet_whatever_their_order(async_client, spans, words):
    order, talks = random.Random(7), []

    async def converse() -> None:
        text = order.choice([words, words[1:]])
        is_talk = order.random() < 0.7
        if is_talk:
            made = await async_client.conversations.create(items=[said_by("user", text)])
            talks.append(made.id)
        for _ in range(order.randrange(3)):
            await asyncio.sleep(0)
        await async_client.responses.create(model=MODEL, input=text)

    async def worker() -> None:
        for _ in range(6):
            await asyncio.create_task(converse())

    await asyncio.gather(*(worker() for _ in range(8)))
    found = [session_id for session_id, _, _ in found_of(spans)]
    assert len(found) == len(set(found)) == 48
    assert set(talks) < set(found)
