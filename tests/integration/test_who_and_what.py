"""Whose a session is, and its tags, stand wherever the session's id does, and nowhere else."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from typing import Any

import pytest
import session_kit
from opentelemetry import baggage
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from session_kit import a_process
from waiting import until

from otel_llm_sessions import session
from otel_llm_sessions.testing import capture_spans

USER, NAME, TAGS = "user.id", "llm_session.name", "llm_session.tags"
SAID = {"user": "u-1", "name": "refund", "tags": ["beta", "de"]}
TOLD = {USER: "u-1", NAME: "refund", TAGS: ("beta", "de")}


def told(span: Any) -> dict[str, Any]:
    return {key: value for key, value in span.attributes.items() if key in TOLD}


def by_kind(spans: Any) -> dict[str, list[dict[str, Any]]]:
    """What the spans say, by the first words of their names."""
    return session_kit.by_kind(spans, told, lambda span: str(span.name.split(" ")[0]))


def chat(client: Any, **arguments: Any) -> None:
    client.chat.completions.create(model="m", messages=[], **arguments)


def test_they_stand_on_root_turns_and_everything_inside_and_on_no_other_session(api):
    with a_process() as (spans, tracer):
        with session("X", **SAID):
            api.chat()
            with tracer.start_as_current_span("tool"):
                api.chat()
        api.chat(metadata={"session_id": "Y"})
        api.chat()
    assert by_kind(spans) == {"session": [TOLD, {}], "chat": [TOLD, TOLD, {}, {}], "tool": [TOLD]}


def test_a_marker_has_them_and_the_request_around_has_not(api):
    with a_process() as (spans, tracer), tracer.start_as_current_span("request"), session("X", **SAID):
        api.chat()
    assert by_kind(spans) == {"session": [TOLD], "chat": [TOLD], "turn": [TOLD], "request": [{}]}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_each_part_of_a_long_session_has_them(api, streamed):
    with a_process(max_turns=1) as (spans, _), session("X", **SAID):
        for _ in range(3):
            reply = api.chat(stream=streamed)
            if streamed:
                api.read(reply)
    assert by_kind(spans) == {"session": [TOLD] * 3, "chat": [TOLD] * 3}


def test_an_inner_block_of_the_same_session_keeps_what_it_does_not_set_anew(api):
    with a_process() as (spans, _), session("X", **SAID):
        with session("X", tags=("vip",)):
            api.chat()
        with session("X", user="u-2"), session("X", tags=()):
            api.chat()
        with session("Y"):
            api.chat()
        api.chat(metadata={"session_id": "Z"})
    chats = by_kind(spans)["chat"]
    # What is not said any more is what the store remembers, where it remembers it.
    assert chats == [{**TOLD, TAGS: ("vip",)}, {**TOLD, USER: "u-2", TAGS: ("vip",)}, {}, {}]


@pytest.mark.parametrize("propagate", [False, True])
def test_what_is_propagated_is_the_sessions_id_alone(client, server, propagate):
    with capture_spans(propagate="headers,metadata"), session("X", propagate=propagate, **SAID):
        assert dict(baggage.get_all()) == ({"session.id": "X"} if propagate else {})
        client.responses.create(model="m", input="Hello")
    (request,) = server.requests
    assert not any(word in f"{request}" for word in ("u-1", "refund", "beta"))


def test_a_span_that_says_it_itself_keeps_what_it_says():
    with a_process() as (spans, tracer), session("X", **SAID):
        tracer.start_span("tool", attributes={USER: "their own"}).end()
    assert by_kind(spans)["tool"] == [{**TOLD, USER: "their own"}]


@pytest.mark.parametrize("form", ["decorator", "async decorator", "async with", "generator", "decorated generator"])
def test_they_work_in_each_form_of_a_block(client, form):
    @session("X", **SAID)
    def decorated() -> None:
        chat(client)

    @session("X", **SAID)
    async def adecorated() -> None:
        chat(client)

    async def inside() -> None:
        async with session("X", **SAID):
            await asyncio.create_task(task())

    async def task() -> None:
        chat(client)

    def generator() -> Iterator[None]:
        with session("X", **SAID):
            yield chat(client)
            yield chat(client)

    @session("X", **SAID)
    def decorated_generator() -> Iterator[None]:
        yield chat(client)

    forms = {
        "decorator": decorated,
        "async decorator": lambda: asyncio.run(adecorated()),
        "async with": lambda: asyncio.run(inside()),
        "generator": lambda: [*generator()],
        "decorated generator": lambda: [*decorated_generator()],
    }
    with a_process() as (spans, _):
        forms[form]()
        chat(client)
    chats = by_kind(spans)["chat"]
    assert chats == [TOLD] * (len(chats) - 1) + [{}]
    assert by_kind(spans)["session"] == [TOLD]


@pytest.mark.parametrize("threads", ["jobs", "all", "none"])
def test_jobs_and_threads_take_them_along_with_the_session(client, threads):
    with a_process(threads=threads) as (spans, _), ThreadPoolExecutor(1) as pool:
        with session("X", **SAID):
            pool.submit(chat, client).result()
            thread = threading.Thread(target=chat, args=[client])
            thread.start()
            thread.join()
        pool.submit(chat, client).result()
    taken = {"jobs": [TOLD, {}, {}], "all": [TOLD, TOLD, {}], "none": [{}, {}, {}]}
    assert by_kind(spans)["chat"] == taken[threads]


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("sampler", [None, ALWAYS_OFF], ids=["sampled", "unsampled"])
def test_a_turn_outside_any_block_has_what_the_store_remembers_in_another_process_too(client, tmp_path, sampler):
    url = f"sqlite:///{tmp_path}/store.db"
    with a_process(store=url, sampler=sampler), session("X", **SAID):
        first = client.responses.create(model="m", input="x")
    with a_process(store=url, max_turns=2) as (spans, tracer):
        second = client.responses.create(model="m", input="x", previous_response_id=first.id)
        with tracer.start_as_current_span("request"):
            client.responses.create(model="m", input="x", previous_response_id=second.id)
        chat(client, extra_headers={"x-session-id": "X"})
        chat(client, extra_headers={"x-session-id": "Y"})
    found = by_kind(spans)
    # What goes on in a part that the first process did not sample is seen nowhere; what is said does not depend on it.
    seen = 3 if sampler is None else 2
    assert (found["chat"], found["turn"], found["request"]) == ([TOLD] * seen + [{}], [TOLD], [{}])
    assert found["session"][-1] == {} and all(each == TOLD for each in found["session"][:-1])


def test_a_turn_that_only_its_reply_puts_into_a_conversation_has_what_is_remembered_of_that(api, server):
    conversation = "conv_" + "0af7651916cd43dd8448eb211c80319c"
    with a_process() as (spans, _):
        with session(conversation, **SAID):
            api.respond()
        made = api.respond().to_dict() | {"id": "resp_" + "1bf7651916cd43dd8448eb211c80319c"}
        server.script({**made, "conversation": {"id": conversation}})
        api.respond()
    first, other, last = [span for span in spans if span.name.startswith("chat")]
    assert (last.attributes["session.id"], told(first), told(other), told(last)) == (conversation, TOLD, {}, TOLD)


def test_a_session_that_another_process_opens_has_what_that_says(client, tmp_path):
    """What is said now counts for more than what is remembered."""
    with a_process() as (spans, _):
        with session("X", **SAID):
            chat(client)
        with session("X", user="u-2"):
            chat(client)
        chat(client, extra_headers={"x-session-id": "X"})
    assert [each[USER] for each in by_kind(spans)["chat"]] == ["u-1", "u-2", "u-2"]


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        *(("user", value) for value in ("x" * 257, "a\nb", "\ud800", True, b"x", ["x"], float("nan"), {})),
        *(("tags", value) for value in ("beta", [""], ["x" * 257], [7], ["a\n"], {"a": 1}, iter("a"), 7)),
        ("tags", [str(number) for number in range(17)]),
        ("name", 7),
    ],
    ids=lambda value: ascii(value)[:20],
)
def test_what_cannot_be_said_is_refused_at_once_with_what_can(parameter, value):
    with pytest.raises(ValueError, match=f"{parameter}=.* is not valid: expected a .*256 characters") as refused:
        session("X", **{parameter: value})
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("said", "stamped"),
    [
        ({"user": 42}, {USER: "42"}),
        ({"user": "x" * 256}, {USER: "x" * 256}),
        ({"user": ""}, {}),
        ({"tags": {"b", "a"}}, {TAGS: ("a", "b")}),
        ({"tags": ["a", "b", "a"]}, {TAGS: ("a", "b")}),
        ({"tags": []}, {}),
        ({"tags": ["x" * 256 + ""] + [f"{n}" for n in range(15)]}, {TAGS: ("x" * 256, *map(str, range(15)))}),
    ],
    ids=("number", "longest", "empty", "set", "twice", "none", "most"),
)
def test_what_can_be_said_is_stamped_as_it_reads(client, said, stamped):
    with a_process() as (spans, _), session("X", **said):
        chat(client)
    assert by_kind(spans) == {"session": [stamped], "chat": [stamped]}


@pytest.mark.slow
@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("nested", [False, True])
def test_two_processes_over_redis(client, redis, nested):
    with a_process(store=redis.url), session("X", **SAID):
        first = client.responses.create(model="m", input="x")
    with a_process(store=redis.url, max_turns=1) as (spans, tracer):
        with tracer.start_as_current_span("request") if nested else session("other"):
            client.responses.create(model="m", input="x", previous_response_id=first.id, extra_headers=named("X"))
    found = by_kind(spans)
    assert (found["chat"], found.get("turn", [])) == ([TOLD], [TOLD] * nested)
    assert TOLD in found["session"]


@pytest.mark.slow
@pytest.mark.parametrize("nested", [False, True])
def test_a_turn_whose_answer_comes_late_is_told_what_is_remembered(client, redis, proxy, nested):
    with a_process(store=redis.url), session("X", **SAID):
        first = client.responses.create(model="m", input="x")
    with a_process(store=proxy.url) as (spans, tracer):
        chat(client, extra_headers=named("other"))
        proxy.delay = 0.2
        with tracer.start_as_current_span("request") if nested else nullcontext():
            client.responses.create(model="m", input="x", previous_response_id=first.id)
        until(lambda: len(by_kind(spans).get("turn", [])) == 1)
    found = by_kind(spans)
    # The other's span may end last: its first answer may come late, too.
    assert (sorted(found["chat"], key=len), found["turn"]) == ([{}, TOLD], [TOLD])


def named(session_id: str) -> dict[str, str]:
    return {"x-session-id": session_id}
