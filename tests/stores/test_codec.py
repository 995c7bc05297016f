"""Records are read back as they were written, or as unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kit import a_link

from otel_llm_sessions.sessions.link import SessionLink, SessionTrace, SpanRef
from otel_llm_sessions.stores.codec import SOURCES, VERSION, decode, encode, hashed, records

of_64_bits = st.integers(0, 2**64 - 1)
of_128_bits = st.integers(0, 2**128 - 1)
flags = st.integers(0, 255)
counts = st.integers(0, 2**40)
ids = st.tuples(st.sampled_from(["", "resp_", "chatcmpl-", "é0"]), st.text("0123456789abcdef", max_size=60)).map(
    "".join
)
texts = st.text(max_size=300) | ids

spans = st.builds(SpanRef, of_128_bits, of_64_bits, flags)
traces = st.builds(SessionTrace, of_128_bits, of_64_bits, flags, counts, of_64_bits, counts)
links = st.builds(
    SessionLink,
    session_id=texts,
    source=st.sampled_from(SOURCES),
    turn=counts,
    span=spans,
    start=of_64_bits,
    end=st.integers(0, 2**64),
    model=texts,
    input_tokens=st.none() | counts,
    output_tokens=st.none() | counts,
    response_id=texts,
    trace=st.none() | traces,
)


@given(links)
def test_a_link_is_read_as_it_was_written(link):
    assert decode(encode(link)) == link


@given(links)
def test_a_link_whose_trace_is_that_of_its_turn_is_read_as_it_was_written(link):
    inside = SessionTrace(link.span.trace_id, 7, 1, 2, link.start, 3)
    link = SessionLink(link.session_id, link.source, 1, link.span, link.start, 0, trace=inside)
    assert decode(encode(link)) == link


@given(st.binary(max_size=400))
def test_garbage_is_unknown(data):
    assert decode(data) is None


@given(st.binary(max_size=400))
def test_garbage_with_a_good_version_is_unknown_or_a_link_but_never_an_error(data):
    assert isinstance(decode(bytes([VERSION]) + data), SessionLink | None)


@given(links, st.data())
def test_a_record_that_was_cut_off_or_changed_is_unknown(link, data):
    record = encode(link)
    at = data.draw(st.integers(0, len(record) - 1))
    assert decode(record[:at]) is None
    changed = bytearray(record)
    changed[at] ^= data.draw(st.integers(1, 255))
    assert decode(bytes(changed)) is None


@pytest.mark.parametrize("version", [0, VERSION - 1, VERSION + 1, 255])
def test_another_version_is_unknown(version):
    assert decode(bytes([version]) + encode(a_link())[1:]) is None


def test_no_record_is_unknown():
    assert decode(None) is None
    assert decode(b"") is None


def test_a_source_keeps_its_number():
    assert SOURCES == (
        *("header", "body", "metadata", "context", "baggage", "conversation", "chain", "item", "tool_call"),
        *("history", "provider", "chain_partial", "new"),
    )


def test_keys_are_short_and_prefixed_and_tell_nothing():
    key = hashed("s:" + "secret" * 40)
    assert (len(key), key[:4]) == (20, b"ols:")
    assert b"secret" not in key
    assert key != hashed("s:" + "secret" * 40, b"claim")


def test_a_link_that_cannot_be_written_is_left_out_and_reported(caplog):
    bad = SessionLink("s", "new", -1, SpanRef(1, 1, 1), 1, 2)
    assert [key for key, _ in records([("s:bad", bad), ("s:good", a_link())])] == [hashed("s:good")]
    assert "write a session link down" in caplog.text


def test_the_ids_of_responses_take_half_their_length():
    link = a_link()
    longer = link._replace(response_id=link.response_id + "0" * 40)
    assert len(encode(longer)) == len(encode(link)) + 20
