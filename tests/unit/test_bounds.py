"""What is kept of one reply is bounded, however odd its server."""

from __future__ import annotations

from otel_llm_sessions.openai.chunks import see_chat_chunk
from otel_llm_sessions.openai.response import MAX_CHOICES, MAX_IDS, Reply
from otel_llm_sessions.openai.routes import CHAT


def test_a_stream_with_a_new_id_and_a_new_choice_in_each_chunk_does_not_grow():
    reply = Reply(CHAT)
    for number in range(1000):
        see_chat_chunk(reply, {"id": f"id-{number}", "choices": [{"index": number, "delta": {}}]})
    assert len(reply.ids) == MAX_IDS
    assert (reply.ids[0], reply.ids[-1]) == ("id-0", "id-999")
    assert len(reply.choices) == MAX_CHOICES
