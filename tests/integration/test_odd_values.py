"""Values that no attribute can hold: they are left out or made fit, and all that is left can be exported."""

from __future__ import annotations

import enum
from contextlib import suppress
from typing import Any

import openai
import pytest
from odd_kit import EVENTS, MODEL, Wire, attributes, body, telemetry

from otel_llm_sessions.telemetry.cardinality import MAX_SETS, MAX_VALUES
from otel_llm_sessions.telemetry.values import MAX_COUNT, MAX_TEXT

INPUT, OUTPUT = "gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"
LONE = "\ud800"
NAMES = {"chat": ("prompt_tokens", "completion_tokens"), "responses": ("input_tokens", "output_tokens")}
NO_COUNTS: list[Any] = [-1, MAX_COUNT + 1, 2**63, 2**200, -(2**63) - 1, True, 5.0, "5", None, [5], {"a": 5}]

BOTH = pytest.mark.parametrize("api", ["chat", "responses"])
STREAM = pytest.mark.parametrize("stream", [False, True])


def ask(wire: Wire, api: str, stream: bool = False, asked: dict[str, Any] | None = None, **reply: Any) -> None:
    wire.ask(api, stream, reply, **(asked or {}))


# --- counts ---------------------------------------------------------------------------------------------------


@STREAM
@BOTH
@pytest.mark.parametrize("count", NO_COUNTS, ids=repr)
def test_what_is_no_count_is_not_recorded_and_costs_nothing_else(wire, seen, api, stream, count):
    asked, made = NAMES[api]
    # The client itself makes 5 of an optional count of "5" or 5.0.
    cached = count if type(count) is int else None
    ask(wire, api, stream, usage={asked: count, made: 7, f"{asked}_details": {"cached_tokens": cached}})
    ask(wire, api, stream, usage={asked: 5, made: 7})
    first, second = seen.calls
    assert INPUT not in first.attributes
    assert "gen_ai.usage.cache_read.input_tokens" not in first.attributes
    assert (first.attributes[OUTPUT], second.attributes[INPUT]) == (7, 5)
    points = {attributes(p)["gen_ai.token.type"]: p for p in seen.metrics()["gen_ai.client.token.usage"]}
    assert (points["input"].sum, points["output"].sum) == (5, 14)
    seen.check()


@BOTH
def test_counts_up_to_the_bound_are_recorded(wire, seen, api):
    asked, made = NAMES[api]
    ask(wire, api, usage={asked: MAX_COUNT, made: 0})
    (call,) = seen.calls
    assert (call.attributes[INPUT], call.attributes[OUTPUT]) == (MAX_COUNT, 0)
    seen.check()


@pytest.mark.usefixtures("patient")
@pytest.mark.parametrize("count", [-1, 2**70], ids=repr)
def test_a_turn_with_a_count_that_is_none_is_remembered_and_marked(wire, tmp_path, count):
    with telemetry(store=f"sqlite:///{tmp_path}/sessions.db") as seen:
        ask(wire, "responses", id="resp_a", usage={"input_tokens": count, "output_tokens": 7})
        ask(wire, "responses", asked={"previous_response_id": "resp_a"}, id="resp_b")
    first, second = seen.calls
    assert second.attributes["session.id"] == first.attributes["session.id"]
    assert second.attributes["llm_session.turn"] == 2
    seen.check()


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, 2**2000, True, "7", float("nan"), float("inf")], ids=repr)
@pytest.mark.parametrize(
    ("name", "attribute"),
    [
        ("max_tokens", "gen_ai.request.max_tokens"),
        ("max_completion_tokens", "gen_ai.request.max_tokens"),
        ("seed", "gen_ai.request.seed"),
        ("n", "gen_ai.request.choice.count"),
        ("top_k", "gen_ai.request.top_k"),
    ],
)
def test_whole_numbers_that_64_bits_cannot_hold_are_not_recorded_of_a_request(wire, seen, name, attribute, number):
    wire.answer(body("chat", False))
    asked = {"extra_body": {name: number}}
    wire.outcome("chat", **asked)  # the client itself may be unable to write the number
    assert attribute not in seen.calls[0].attributes
    seen.check()


@pytest.mark.parametrize("name", ["temperature", "top_p", "frequency_penalty", "presence_penalty"])
def test_a_number_too_large_for_a_double_is_not_recorded(wire, seen, name):
    ask(wire, "chat", asked={"extra_body": {name: 10**400}})
    assert f"gen_ai.request.{name}" not in seen.calls[0].attributes
    seen.check()


def test_a_negative_seed_is_one(wire, seen):
    ask(wire, "chat", asked={"seed": -(2**63)})
    assert seen.calls[0].attributes["gen_ai.request.seed"] == -(2**63)
    seen.check()


# --- text -----------------------------------------------------------------------------------------------------


@STREAM
@BOTH
def test_text_with_lone_surrogates_is_cleaned_wherever_a_reply_has_it(wire, seen, api, stream):
    odd = f"a{LONE}b"
    own = {"choices": [{"index": 0, "finish_reason": odd, "message": {}, "delta": {}}]}
    if api == "responses":
        own = {"status": "incomplete", "incomplete_details": {"reason": odd}}
    own["id"] = odd if api == "chat" else "resp_1"
    ask(wire, api, stream, model=odd, service_tier=odd, system_fingerprint=odd, **own)
    said = seen.calls[0].attributes
    clean = "a\ufffdb"
    assert said["gen_ai.response.model"] == clean
    assert said.get("gen_ai.response.id") == (None if api == "chat" else "resp_1")
    assert said["openai.response.service_tier"] == said["openai.response.system_fingerprint"] == clean
    assert said["gen_ai.response.finish_reasons"] == (clean,)
    seen.check()


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_text_with_lone_surrogates_is_cleaned_wherever_a_request_has_it(wire, seen, kind):
    odd = f"a{LONE}b"
    extra = {"model": odd, "stop": [odd, "x"], "reasoning_effort": odd, "service_tier": odd, "response_format": odd}
    wire.outcome("chat", kind=kind, extra_body=extra)
    wire.outcome("responses", kind=kind, extra_body={"model": odd, "prompt": {"id": odd, "version": odd}})
    first, second = seen.calls
    clean = "a\ufffdb"
    assert first.name == second.name == f"chat {clean}"
    assert first.attributes["gen_ai.request.stop_sequences"] == (clean, "x")
    assert first.attributes["gen_ai.request.reasoning.level"] == first.attributes["gen_ai.output.type"] == clean
    assert second.attributes["gen_ai.prompt.name"] == second.attributes["gen_ai.prompt.version"] == clean
    seen.check()


def test_two_halves_of_a_character_become_the_character(wire, seen):
    ask(wire, "chat", model="\ud83d\ude00")
    assert seen.calls[0].attributes["gen_ai.response.model"] == "😀"


def test_a_character_that_no_database_takes_is_replaced_and_others_are_kept(wire, seen):
    ask(wire, "chat", model="a\0b", asked={"stop": ["\n\n", "\t\0"]})
    assert seen.calls[0].attributes["gen_ai.response.model"] == "a\ufffdb"
    assert seen.calls[0].attributes["gen_ai.request.stop_sequences"] == ("\n\n", "\t\ufffd")


@BOTH
def test_long_texts_are_cut(wire, seen, api):
    long = "x" * 100_000
    choices = {"choices": [{"index": 0, "finish_reason": long, "message": {}}]} if api == "chat" else {}
    ask(wire, api, asked={"model": long, "extra_body": {"stop": [long] * 100}}, id=long, model=long, **choices)
    said = seen.calls[0].attributes
    for name in ("gen_ai.request.model", "gen_ai.response.model"):
        assert said[name] == long[:MAX_TEXT]
    assert "gen_ai.response.id" not in said
    assert sum(len(str(value)) for value in said.values()) < 20 * 1024
    assert len(seen.calls[0].name) < 2 * MAX_TEXT
    seen.check()


class Model(str, enum.Enum):
    MINI = MODEL


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


@BOTH
@pytest.mark.parametrize("model", [Model.MINI, Name(MODEL)], ids=["enum", "subclass"])
def test_a_model_that_is_an_enums_member_reads_as_its_value(wire, seen, api, model):
    ask(wire, api, asked={"model": model})
    assert seen.calls[0].name == f"chat {MODEL}"
    assert seen.calls[0].attributes["gen_ai.request.model"] == MODEL
    assert type(seen.calls[0].attributes["gen_ai.request.model"]) is str


class Effort(str, enum.Enum):
    LOW = "low"


class Limit(int, enum.Enum):
    SHORT = 10


def test_other_parameters_that_are_enums_members_read_as_their_values(wire, seen):
    ask(wire, "chat", asked={"reasoning_effort": Effort.LOW, "max_tokens": Limit.SHORT, "stop": [Effort.LOW]})
    said = seen.calls[0].attributes
    assert said["gen_ai.request.reasoning.level"] == "low"
    assert said["gen_ai.request.stop_sequences"] == ("low",)
    assert type(said["gen_ai.request.max_tokens"]) is int


@pytest.mark.parametrize(
    "odd", [5, "text", b"bytes", [1, None], {"a": {}}, object(), float("nan")], ids=lambda odd: type(odd).__name__
)
@pytest.mark.parametrize("name", ["messages", "input", "metadata", "model", "tools", "store", "conversation", "stop"])
def test_requests_of_odd_types_have_a_span_and_nobody_complains(wire, seen, name, odd):
    for api in ("chat", "responses"):
        wire.answer(body(api, False))
        wire.outcome(api, extra_body={name: odd})
    assert len(seen.calls) == 2
    seen.check()


class Nasty:
    """Something that answers no question."""

    def _refuse(self, *_: Any) -> Any:
        raise RuntimeError("no")

    __bool__ = __len__ = __iter__ = __getitem__ = __float__ = __int__ = __eq__ = _refuse
    __hash__ = None  # type: ignore[assignment]


class NastyFloat(float):
    def __float__(self) -> float:
        raise RuntimeError("no")

    is_integer = __float__  # type: ignore[assignment]


@BOTH
@pytest.mark.parametrize("name", ["metadata", "model", "input", "stop", "n", "seed", "conversation", "user", "store"])
def test_a_value_that_answers_no_question_costs_nothing_but_its_attribute(wire, seen, api, name):
    wire.answer(body(api, False))
    wire.outcome(api, extra_body={name: Nasty(), "top_p": 0.5})
    assert seen.calls[0].attributes["gen_ai.request.top_p"] == 0.5
    seen.check()


def test_a_number_whose_methods_raise_costs_nothing_but_its_attribute(wire, seen):
    for _ in range(2):
        ask(wire, "chat", asked={"extra_body": {"temperature": NastyFloat(1), "top_p": 0.5, "top_k": NastyFloat(2)}})
    assert [call.attributes["gen_ai.request.top_p"] for call in seen.calls] == [0.5, 0.5]
    assert len(seen.logged) <= 1


@pytest.mark.parametrize("id_", [f"a{LONE}", "x" * 5000, "a\0b", " ", "ünï"], ids=ascii)
def test_an_id_that_a_path_names_is_fit_for_an_attribute(wire, seen, id_):
    wire.answer(body("responses", False))
    for call in (wire.client.responses.retrieve, wire.client.responses.cancel):
        with suppress(Exception):
            call(id_)
    seen.check()
    assert len(seen.spans) == (0 if LONE in id_ else 2)  # a client cannot write half a character into a path


# --- errors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ('{"code": "rate_limit_exceeded"}', "rate_limit_exceeded"),
        ('{"code": 503}', "503"),
        ('{"code": -1}', "-1"),
        ('{"code": 9223372036854775808, "type": "busy"}', "busy"),
        ('{"code": 1%s}' % ("0" * 4000), "_OTHER"),
        ('{"code": "no such model: gpt"}', "_OTHER"),
        ('{"code": "no such model: gpt", "type": "not_found"}', "not_found"),
        ('{"code": "%s"}' % ("x" * 65), "_OTHER"),
        ('{"code": "%s"}' % ("x" * 64), "x" * 64),
        ('{"code": "a\\ud800"}', "_OTHER"),
        ('{"code": "line\\n"}', "_OTHER"),
        ('{"code": true}', "_OTHER"),
        ('{"code": ["x"]}', "_OTHER"),
        ('"upstream said no"', "_OTHER"),
    ],
    ids=lambda text: text[:40],
)
def test_the_error_type_of_a_reply_is_a_short_code(wire, seen, error, expected):
    wire.answer(f'{{"error": {error}}}'.encode())
    wire.outcome("chat")
    assert seen.calls[0].attributes["error.type"] == expected
    seen.check()


def test_the_error_type_of_a_failed_response_and_of_an_error_event_is_a_short_code(wire, seen):
    odd = "no such model: gpt"
    ask(wire, "responses", status="failed", error={"code": odd})
    wire.answer(b'data: {"type": "error", "code": "%s"}\n\n' % odd.encode(), EVENTS)
    wire.outcome("responses", how="bytes", stream=True)
    assert [call.attributes["error.type"] for call in seen.calls] == ["_OTHER", "_OTHER"]
    seen.check()


def test_the_error_type_of_an_exception_is_a_class_that_can_be_named(wire, seen, monkeypatch):
    class Boom(openai.OpenAIError):
        pass

    odd = type("no such: class", (openai.OpenAIError,), {})
    long = type("X" * 60, (openai.OpenAIError,), {"__module__": "some.module"})
    for kind in (Boom, odd, long, ValueError, openai.OpenAIError):
        monkeypatch.setattr(wire.client, "_prepare_options", _raising(kind))
        with pytest.raises(kind):
            wire.call("chat")
    types = [call.attributes["error.type"] for call in seen.calls]
    assert types == ["Boom", "_OTHER", "X" * 60, "ValueError", "openai.OpenAIError"]
    seen.check()


def _raising(kind: Any) -> Any:
    def prepare(options: Any) -> Any:
        raise kind("no")

    return prepare


# --- metrics --------------------------------------------------------------------------------------------------


def test_a_server_cannot_fill_the_metrics_with_series(wire, seen, monkeypatch):
    most, calls = 20, 30
    monkeypatch.setattr("otel_llm_sessions.telemetry.cardinality.MAX_VALUES", most)
    for number in range(calls):
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "cost": 0.5}
        ask(wire, "chat", model=f"model-{number}", usage=usage)
    points = seen.metrics()["gen_ai.client.operation.cost"]
    models = {attributes(point)["gen_ai.response.model"] for point in points}
    assert models == {f"model-{number}" for number in range(most)} | {"_OTHER"}
    assert sum(point.count for point in points) == calls
    assert seen.calls[-1].attributes["gen_ai.response.model"] == f"model-{calls - 1}"
    seen.check()


def test_combinations_are_bounded_too(seen):
    from otel_llm_sessions.telemetry.cardinality import Cardinality

    cardinality = Cardinality()
    sets = set()
    for number in range(MAX_VALUES * 10):
        kept = {"gen_ai.operation.name": "chat", "error.type": f"e{number % 150}"}
        kept.update({"gen_ai.request.model": f"m{number // 150}", "gen_ai.response.model": f"r{number % 7}"})
        sets.add(tuple(sorted(cardinality.bounded(kept).items(), key=str)))
    assert len(sets) <= MAX_SETS + 2
    other = cardinality.bounded({"gen_ai.operation.name": "chat", "error.type": "new"})
    assert other == {"gen_ai.operation.name": "chat", "error.type": "_OTHER"}
