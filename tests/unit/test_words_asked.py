"""What a request says, in the conventions' form."""

from __future__ import annotations

import base64
import json
import time
from datetime import datetime
from typing import Any

import openai
import pytest
from conventions_kit import assert_input, assert_instructions, assert_tools
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage

from otel_llm_sessions.openai.words.asked import held, instructions_in, said_in, tools_in

CHAT, RESPONSES = "chat_completions", "responses"

PNG = base64.b64encode(bytes(range(256)) * 5).decode()
PIXELS = f"data:image/png;base64,{PNG}"


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "content": content}


def chat(*messages: Any) -> list[dict[str, Any]]:
    said = said_in(CHAT, {"messages": list(messages)})
    assert_input(said)
    return said


def items(*given: Any) -> list[dict[str, Any]]:
    said = said_in(RESPONSES, {"input": list(given)})
    assert_input(said)
    return said


def part_of(content: Any) -> Any:
    ((part,),) = (message["parts"] for message in chat({"role": "user", "content": [content]}))
    return part


def item(given: Any) -> tuple[str, list[dict[str, Any]]]:
    (message,) = items(given)
    return message["role"], message["parts"]


# --- chat -----------------------------------------------------------------------------------------------------


def test_messages_keep_their_roles_order_and_names() -> None:
    said = chat(
        {"role": "system", "content": "Be brief."},
        {"role": "developer", "content": "No jokes."},
        {"role": "user", "content": "Hi", "name": "ada"},
        {"role": "assistant", "content": None},
    )
    assert said == [
        {"role": "system", "parts": [text("Be brief.")]},
        {"role": "developer", "parts": [text("No jokes.")]},
        {"role": "user", "parts": [text("Hi")], "name": "ada"},
        {"role": "assistant", "parts": []},
    ]


def test_a_tool_loop_is_calls_and_their_responses() -> None:
    called, answered, listed = chat(
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}},
            {"id": "call_2", "type": "custom", "custom": {"name": "run", "input": "ls -l"}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "3"},
        {"role": "tool", "tool_call_id": "call_2", "content": [
            {"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
    )  # fmt: skip
    assert called["parts"] == [
        {"type": "tool_call", "id": "call_1", "name": "add", "arguments": {"a": 1}},
        {"type": "tool_call", "id": "call_2", "name": "run", "arguments": "ls -l"},
    ]
    assert answered == {
        "role": "tool",
        "parts": [{"type": "tool_call_response", "id": "call_1", "response": "3"}],
    }
    assert listed["parts"] == [{"type": "tool_call_response", "id": "call_2", "response": [text("a"), text("b")]}]


@pytest.mark.parametrize("cut", ['{"a": 1', '{"a": [', "nothing", '["\\u12'])
def test_arguments_that_are_no_json_are_kept_as_they_are(cut: str) -> None:
    (message,) = chat({"role": "assistant", "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": cut}}]})
    assert message["parts"][0]["arguments"] == cut


def test_numbers_that_json_has_not_become_texts() -> None:
    call = {"id": "c", "function": {"name": "f", "arguments": '{"a": NaN, "b": 1e999, "c": 1.5}'}}
    (message,) = chat({"role": "assistant", "tool_calls": [call]})
    assert message["parts"][0]["arguments"] == {"a": "NaN", "b": "1e999", "c": 1.5}


def test_the_functions_of_the_api_before_tools() -> None:
    called, answered = chat(
        {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}},
        {"role": "function", "name": "add", "content": "3"},
    )
    assert called["parts"] == [{"type": "tool_call", "id": None, "name": "add", "arguments": {}}]
    assert answered == {
        "role": "function", "name": "add", "parts": [{"type": "tool_call_response", "id": None, "response": "3"}]
    }  # fmt: skip


@pytest.mark.parametrize(
    "said",
    [
        {"reasoning_content": "Hm."},
        {"reasoning": "Hm."},
        {"reasoning": "Hm.", "reasoning_details": [{"type": "reasoning.text", "text": "Hm."}]},
        {"reasoning_details": [{"type": "reasoning.summary", "summary": "Hm."}]},
    ],
)
def test_reasoning_beside_the_content_is_said_once(said: dict[str, Any]) -> None:
    (message,) = chat({"role": "assistant", "content": "Yes", **said})
    assert message["parts"] == [{"type": "reasoning", "content": "Hm."}, text("Yes")]


def test_mistrals_content_is_a_list_that_begins_with_its_thoughts() -> None:
    thought = {"type": "thinking", "thinking": [{"type": "text", "text": "Hm"}, {"type": "text", "text": "m."}]}
    (message,) = chat({"role": "assistant", "content": [thought, {"type": "text", "text": "Yes"}]})
    assert message["parts"] == [{"type": "reasoning", "content": "Hmm."}, text("Yes")]


def test_refusals_are_told_from_texts() -> None:
    refused = {"type": "refusal", "content": "I can't."}
    beside, inside = chat(
        {"role": "assistant", "content": None, "refusal": "I can't."},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "I can't."}]},
    )
    assert beside["parts"] == inside["parts"] == [refused]


def test_the_clients_models_say_what_dicts_say() -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    given = {"role": "assistant", "content": "Hi", "refusal": None, "tool_calls": [call], "reasoning": "Hm."}
    assert chat(ChatCompletionMessage.model_validate(given)) == chat(given)


# --- images, sounds, files ------------------------------------------------------------------------------------


def blob(modality: str, mime_type: str | None, size: int = 1280) -> dict[str, Any]:
    return {"type": "blob", "modality": modality, "mime_type": mime_type, "size": size}


def uri(modality: str, where: str) -> dict[str, Any]:
    return {"type": "uri", "modality": modality, "mime_type": None, "uri": where}


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ({"type": "image_url", "image_url": {"url": PIXELS, "detail": "high"}}, blob("image", "image/png")),
        ({"type": "image_url", "image_url": PIXELS}, blob("image", "image/png")),
        ({"type": "image_url", "image_url": {"url": PNG}}, blob("image", None)),
        ({"type": "input_image", "image_url": PIXELS}, blob("image", "image/png")),
        ({"type": "input_image", "file_id": "file-1"},
         {"type": "file", "modality": "image", "mime_type": None, "file_id": "file-1"}),
        ({"type": "image_url", "image_url": {"url": "https://me:pw@host/a/b.png?sig=SECRET#x"}},
         uri("image", "https://host/a/b.png")),
        ({"type": "input_audio", "input_audio": {"data": PNG, "format": "mp3"}}, blob("audio", "audio/mpeg")),
        ({"type": "input_audio", "input_audio": {"data": PNG, "format": "wav"}}, blob("audio", "audio/wav")),
        ({"type": "file", "file": {"file_data": f"data:application/pdf;base64,{PNG}", "filename": "a.pdf"}},
         {**blob("document", "application/pdf"), "filename": "a.pdf"}),
        ({"type": "file", "file": {"file_id": "file-1"}},
         {"type": "file", "modality": "document", "mime_type": None, "file_id": "file-1"}),
        ({"type": "input_file", "file_url": "gs://bucket/a.pdf?x=1"}, uri("document", "gs://bucket/a.pdf")),
        ({"type": "input_file", "file_data": PNG, "filename": "a.bin"},
         {**blob("document", None), "filename": "a.bin"}),
        ({"type": "video_url", "video_url": {"url": "https://host/a.mp4"}}, uri("video", "https://host/a.mp4")),
        ({"type": "document_url", "document_url": "https://host/a.pdf"}, uri("document", "https://host/a.pdf")),
        ({"type": "image", "source": {"type": "base64", "media_type": "image/gif", "data": PNG}},
         blob("image", "image/gif")),
        ({"type": "image_url", "image_url": {"url": "data:image/svg+xml,%3Csvg%3E"}},
         blob("image", "image/svg+xml", 5)),
    ],
)  # fmt: skip
def test_binary_parts_are_told_by_type_and_size_or_where_they_lie(content: Any, part: Any) -> None:
    assert part_of(content) == part


@given(st.binary(max_size=300), st.booleans())
def test_the_size_is_that_of_the_decoded_data(data: bytes, lines: bool) -> None:
    written = (base64.encodebytes(data) if lines else base64.b64encode(data)).decode()
    assert part_of({"type": "input_audio", "input_audio": {"data": written or "A===", "format": "wav"}})["size"] == len(
        data
    )


def test_two_megabytes_of_images_cost_less_than_a_millisecond() -> None:
    image = "data:image/jpeg;base64," + base64.b64encode(bytes(1_000_000)).decode()
    content = [{"type": "image_url", "image_url": {"url": image}}, {"type": "image_url", "image_url": {"url": image}}]
    body = {"messages": [{"role": "user", "content": content}]}
    taken = []
    for _ in range(20):
        begun = time.perf_counter()
        said_in(CHAT, body)
        taken.append(time.perf_counter() - begun)
    assert min(taken) < 0.001
    assert [part["size"] for part in said_in(CHAT, body)[0]["parts"]] == [1_000_000, 1_000_000]


def test_binary_data_in_odd_parts_is_told_by_its_size_too() -> None:
    part = part_of({"type": "hologram", "views": [PIXELS, PNG], "name": "x" * 2000})
    assert part == {
        "type": "hologram", "views": [blob("image", "image/png"), blob("binary", None)], "name": "x" * 2000
    }  # fmt: skip


def test_what_a_model_spoke_is_data_in_a_reply_and_an_id_later() -> None:
    spoken, later = chat(
        {"role": "assistant", "content": None, "audio": {"id": "audio_1", "data": PNG, "transcript": "Hi"}},
        {"role": "assistant", "audio": {"id": "audio_1"}},
    )
    assert spoken["parts"] == [{**blob("audio", None), "transcript": "Hi"}]
    assert later["parts"] == [{"type": "file", "modality": "audio", "mime_type": None, "file_id": "audio_1"}]


# --- Responses ------------------------------------------------------------------------------------------------


def test_an_input_that_is_a_text_is_the_users() -> None:
    assert said_in(RESPONSES, {"input": "Hi"}) == [{"role": "user", "parts": [text("Hi")]}]


def called(name: str, arguments: Any) -> list[dict[str, Any]]:
    return [{"type": "tool_call", "id": "call_1", "name": name, "arguments": arguments}]


def answered(response: Any) -> list[dict[str, Any]]:
    return [{"type": "tool_call_response", "id": "call_1", "response": response}]


def served(name: str, call: Any, answer: Any = None) -> list[dict[str, Any]]:
    parts = [{"type": "server_tool_call", "id": "i_1", "name": name, "server_tool_call": {"type": name, **call}}]
    if answer is not None:
        response = {"type": name, **answer}
        parts.append({"type": "server_tool_call_response", "id": "i_1", "server_tool_call_response": response})
    return parts


CALL, ITEM = {"call_id": "call_1", "id": "i_1", "status": "completed"}, {"id": "i_1", "status": "completed"}


@pytest.mark.parametrize(
    ("given", "role", "parts"),
    [
        ({"role": "user", "content": "Hi"}, "user", [text("Hi")]),
        ({"type": "message", "role": "developer", "content": [{"type": "input_text", "text": "Hi"}]}, "developer",
         [text("Hi")]),
        ({"type": "message", "id": "m", "role": "assistant", "status": "completed", "phase": "final_answer",
          "content": [{"type": "output_text", "text": "Yes", "annotations": [{"type": "url_citation", "url": "u"}]}]},
         "assistant", [{**text("Yes"), "annotations": [{"type": "url_citation", "url": "u"}]}]),
        ({"type": "function_call", "name": "add", "arguments": '{"a": 1}', **CALL}, "assistant",
         called("add", {"a": 1})),
        ({"type": "custom_tool_call", "name": "run", "input": "ls", **CALL}, "assistant", called("run", "ls")),
        ({"type": "function_call_output", "output": "3", **CALL}, "tool", answered("3")),
        ({"type": "custom_tool_call_output", "output": [{"type": "input_text", "text": "3"}], **CALL}, "tool",
         answered("3")),
        ({"type": "computer_call", "action": {"type": "wait"}, **CALL}, "assistant",
         called("computer", {"type": "wait"})),
        ({"type": "computer_call", "actions": [{"type": "wait"}], **CALL}, "assistant",
         called("computer", [{"type": "wait"}])),
        ({"type": "computer_call_output", "output": {"type": "computer_screenshot", "image_url": PIXELS}, **CALL},
         "tool",          answered(blob("image", "image/png"))),
        ({"type": "local_shell_call", "action": {"command": ["ls"]}, **CALL}, "assistant",
         called("local_shell", {"command": ["ls"]})),
        ({"type": "local_shell_call_output", "id": "call_1", "output": "a b"}, "tool", answered("a b")),
        ({"type": "shell_call", "action": {"commands": ["ls"]}, **CALL}, "assistant",
         called("shell", {"commands": ["ls"]})),
        ({"type": "apply_patch_call", "operation": {"type": "delete_file", "path": "a"}, **CALL}, "assistant",
         called("apply_patch", {"type": "delete_file", "path": "a"})),
        ({"type": "web_search_call", "action": {"type": "search", "query": "x"}, **ITEM}, "assistant",
         served("web_search", {"action": {"type": "search", "query": "x"}})),
        ({"type": "web_search_call", "id": "i_1", "status": "failed"}, "assistant",
         served("web_search", {"status": "failed"})),
        ({"type": "file_search_call", "queries": ["x"], "results": [{"text": "y"}], **ITEM}, "assistant",
         served("file_search", {"queries": ["x"]}, {"results": [{"text": "y"}]})),
        ({"type": "code_interpreter_call", "code": "1", "container_id": "c", "outputs": [{"type": "logs", "logs": "1"}],
          **ITEM}, "assistant",
         served("code_interpreter", {"code": "1", "container_id": "c"}, {"outputs": [{"type": "logs", "logs": "1"}]})),
        ({"type": "code_interpreter_call", "outputs": [{"type": "image", "url": "https://host/a.png?sig=SECRET"}],
          **ITEM}, "assistant", served("code_interpreter", {}, {"outputs": [uri("image", "https://host/a.png")]})),
        ({"type": "image_generation_call", "result": PNG, "output_format": "webp", "revised_prompt": "cat", **ITEM},
         "assistant", served("image_generation", {"output_format": "webp", "revised_prompt": "cat"},
                             {"result": blob("image", "image/webp")})),
        ({"type": "mcp_call", "name": "add", "server_label": "sums", "arguments": '{"a": 1}', "output": "3", **ITEM},
         "assistant", [
            {"type": "server_tool_call", "id": "i_1", "name": "add",
             "server_tool_call": {"type": "mcp", "server_label": "sums", "arguments": {"a": 1}}},
            {"type": "server_tool_call_response", "id": "i_1",
             "server_tool_call_response": {"type": "mcp", "output": "3"}}]),
        ({"type": "mcp_approval_request", "id": "i_1", "name": "add", "arguments": "{}", "server_label": "sums"},
         "assistant",
         [{"type": "mcp_approval_request", "id": "i_1", "name": "add", "arguments": "{}", "server_label": "sums"}]),
        ({"type": "mcp_approval_response", "approval_request_id": "i_1", "approve": True}, "user",
         [{"type": "mcp_approval_response", "approval_request_id": "i_1", "approve": True}]),
        ({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."},
          {"type": "summary_text", "text": "Ah."}], **ITEM}, "assistant",
         [{"type": "reasoning", "content": "Hm."}, {"type": "reasoning", "content": "Ah."}]),
        ({"type": "reasoning", "summary": [], "encrypted_content": PNG, **ITEM}, "assistant",
         [{"type": "reasoning", "content": "", "encrypted_size": 1280}]),
        ({"type": "compaction", "id": "i_1", "encrypted_content": PNG}, "assistant",
         [{"type": "compaction", "id": "i_1", "encrypted_size": 1280}]),
        ({"type": "item_reference", "id": "i_1"}, "user", [{"type": "item_reference", "id": "i_1"}]),
        ({"type": "telepathy_call", "thought": "x"}, "assistant", [{"type": "telepathy_call", "thought": "x"}]),
        ({"foo": 1}, "user", [{"type": "generic", "foo": 1}]),
        (7, "user", [{"type": "generic", "content": 7}]),
        (None, "user", []),
    ],
)  # fmt: skip
def test_every_kind_of_item_becomes_a_message(given: Any, role: str, parts: Any) -> None:
    assert item(given) == (role, parts)


def test_instructions_are_those_of_responses_alone() -> None:
    assert instructions_in(RESPONSES, {"instructions": "Be brief."}) == [text("Be brief.")]
    assert instructions_in(CHAT, {"instructions": "Be brief."}) == instructions_in(RESPONSES, {}) == []


# --- tools ----------------------------------------------------------------------------------------------------


def test_definitions_of_tools_are_the_same_for_both_apis() -> None:
    said = {"name": "add", "description": "Adds.", "parameters": {"type": "object", "properties": {}}, "strict": True}
    nested, flat = {"tools": [{"type": "function", "function": said}]}, {"tools": [{"type": "function", **said}]}
    assert tools_in(CHAT, nested) == tools_in(RESPONSES, flat) == tools_in(CHAT, {"functions": [said]})
    assert tools_in(CHAT, nested) == [{"type": "function", **said}]
    assert_tools(tools_in(CHAT, nested))


def test_tools_of_the_server_have_a_name_and_no_credentials() -> None:
    tools = tools_in(RESPONSES, {"tools": [
        {"type": "web_search", "search_context_size": "low"},
        {"type": "mcp", "server_label": "sums", "server_url": "https://me:pw@host/mcp?key=SECRET",
         "headers": {"x-api-key": "SECRET"}, "authorization": "SECRET", "require_approval": "never"},
        {"type": "shell", "environment": {"type": "container_auto", "network_policy": {
            "type": "allowlist", "domain_secrets": [{"domain": "d", "name": "n", "value": "SECRET"}]}}},
        {"type": "namespace", "name": "crm", "tools": [{"type": "function", "name": "headers", "parameters": {
            "type": "object", "properties": {"headers": {"type": "object"}}}}]},
    ]})  # fmt: skip
    assert_tools(tools)
    assert "SECRET" not in json.dumps(tools)
    assert [tool["name"] for tool in tools] == ["web_search", "sums", "shell", "crm"]
    assert tools[1] == {
        "type": "mcp", "name": "sums", "server_label": "sums", "server_url": "https://host/mcp",
        "require_approval": "never",
    }  # fmt: skip
    assert tools[3]["tools"][0]["parameters"]["properties"] == {"headers": {"type": "object"}}


# --- whatever it is -------------------------------------------------------------------------------------------


def test_messages_that_are_left_out_at_the_beginning_change_nothing_of_the_others() -> None:
    body = {"messages": [{"role": "user", "content": str(number)} for number in range(5)]}
    assert said_in(CHAT, body, 3) == said_in(CHAT, body)[3:]
    assert said_in(RESPONSES, {"input": body["messages"]}, 3) == said_in(CHAT, body)[3:]


def test_what_the_application_adds_to_its_lists_is_no_part_of_what_it_sent() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    sent = held({"model": "m"}, {"messages": messages})
    messages.append({"role": "assistant", "content": "later"})
    assert said_in(CHAT, sent) == [{"role": "user", "parts": [text("Hi")]}]


def test_what_the_client_makes_of_a_request_shares_no_list_with_the_application(monkeypatch: Any) -> None:
    sent: list[Any] = []
    monkeypatch.setattr(openai.OpenAI, "request", lambda self, cast_to, options, **more: sent.append(options.json_data))
    content = [{"type": "text", "text": "Hi"}]
    replied = ChatCompletionMessage(role="assistant", content="Yes")
    messages: Any = [{"role": "user", "content": content}, replied]
    client = openai.OpenAI(api_key="x")
    client.chat.completions.create(model="m", messages=messages)
    client.chat.completions.create(model="m", messages=(each for each in messages))
    client.responses.create(model="m", input=messages[:1])
    content.append({"type": "text", "text": "later"})
    messages[0]["role"] = "later"
    messages.clear()
    first = {"role": "user", "parts": [text("Hi")]}
    chatted = [first, {"role": "assistant", "parts": [text("Yes")]}]
    assert [said_in(CHAT, body) for body in sent[:2]] == [chatted, chatted]
    assert said_in(RESPONSES, sent[2]) == [first]


def test_objects_that_are_not_what_they_look_like_cost_themselves_alone() -> None:
    class Liar(dict[str, Any]):
        def items(self) -> Any:
            raise RuntimeError

        def keys(self) -> Any:
            raise RuntimeError

        def __iter__(self) -> Any:
            raise RuntimeError

    circle: dict[str, Any] = {"type": "circle", "when": datetime(2026, 1, 1)}
    circle["itself"] = [circle, circle]
    inner = {"type": "circle", "when": "<datetime>", "itself": "..."}
    said = chat({"role": "user", "content": [Liar(type="x")]}, {"role": "user", "content": [circle]})
    assert said[0] == {"role": "user", "parts": [{"type": "generic", "content": "<dict>"}]}
    assert said[1]["parts"] == [{"type": "circle", "when": "<datetime>", "itself": [inner, inner]}]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
known = st.sampled_from(
    """
    role content type text tool_calls function_call function custom name arguments input refusal reasoning
    reasoning_details audio images image_url url file file_data data output outputs summary action tools id
    call_id encrypted_content annotations result
    """.split()
)
kinds = st.sampled_from(
    """
    message text image_url input_audio file refusal reasoning thinking function custom mcp function_call
    function_call_output web_search_call image_generation_call mcp_call compaction blob tool_search_call
    tool_search_output computer_call_output program_output uri tool_call namespace
    """.split()
)
odd = st.recursive(
    json_values | kinds,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(known, inner | kinds, max_size=5)
        | st.builds(lambda kind, said: {**said, "type": kind}, kinds, st.dictionaries(known, inner, max_size=4))
    ),
    max_leaves=20,
)


@given(odd, st.sampled_from([CHAT, RESPONSES]))
def test_whatever_a_body_holds_its_words_are_as_the_conventions_say(value: Any, api: str) -> None:
    before = repr(value)
    for messages in (value, [value]):
        body = {
            "messages": messages,
            "input": messages,
            "instructions": messages,
            "tools": messages,
            "functions": messages,
        }
        assert_input(said_in(api, body))
        assert_instructions(instructions_in(api, body))
        assert_tools(tools_in(api, body))
    assert repr(value) == before
