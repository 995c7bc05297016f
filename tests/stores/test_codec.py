"""Records are read back as they were written, or as unknown."""

from __future__ import annotations

import struct
import time
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from store_kit import a_link
from strategies import flags, states

from otel_llm_sessions.sessions.keys import response_key
from otel_llm_sessions.sessions.link import SessionLink, SessionTrace, SpanRef, Told
from otel_llm_sessions.stores import codec
from otel_llm_sessions.stores.codec import RANK, SOURCES, VERSION, decode, encode, hashed, rows_of

of_64_bits = st.integers(1, 2**64 - 1)
of_128_bits = st.integers(1, 2**128 - 1)
counts = st.integers(0, 2**53)
numbers = st.integers(1, 2**53)
times = st.integers(0, 2**63 - 1)
ids = st.tuples(st.sampled_from(["", "resp_", "chatcmpl-", "é0"]), st.text("0123456789abcdef", max_size=60)).map(
    "".join
)
printable = st.characters(exclude_categories=("C", "Z")) | st.just(" ")
texts = st.text(printable, max_size=256) | ids
names = texts.filter(lambda text: text and not text.isspace())

digests = st.integers(0, 2**64 - 1)
spans = st.builds(SpanRef, of_128_bits, of_64_bits, flags) | st.just(SpanRef(0, 0, 0))
traces = st.builds(SessionTrace, of_128_bits, of_64_bits, flags, numbers, times, numbers, states)
told = st.builds(Told, st.integers(0, 2**32 - 1), digests, digests, digests)
links = st.builds(
    SessionLink,
    session_id=names,
    source=st.sampled_from(SOURCES),
    turn=numbers | st.just(0),  # of a session without turns
    span=spans,
    start=times,
    end=times,
    model=texts,
    input_tokens=st.none() | counts,
    output_tokens=st.none() | counts,
    response_id=texts,
    trace=st.none() | traces,
    name=texts,
    before=st.just("") | texts.map(lambda id_: response_key(id_ or "resp_1", "a.test:80")),
    parent=st.just("") | names,
    told=st.none() | told,
    user=texts,
    tags=st.lists(names.map(lambda tag: tag[:64]).filter(lambda tag: not tag.isspace()), max_size=16).map(tuple),
)


@given(links)
def test_a_link_is_read_as_it_was_written(link):
    assert decode(encode(link)) == link


@given(links)
def test_a_link_whose_trace_is_that_of_its_turn_is_read_as_it_was_written(link):
    inside = SessionTrace(7, 7, 1, 2, link.start, 3)
    link = link._replace(span=SpanRef(7, 8, 1))
    link = SessionLink(link.session_id, link.source, 1, link.span, link.start, 0, trace=inside)
    assert decode(encode(link)) == link


@pytest.mark.parametrize("id_", ["resp_1", "resp_" + "0123456789abcdef" * 3, "r" * 1024])
def test_a_partial_turn_keeps_the_key_of_the_turn_before_it(id_):
    partial = a_link()._replace(source="chain_partial", before=response_key(id_, "a.test:80"))
    assert decode(encode(partial)) == partial


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
    changed = bytearray(record)
    changed[at] ^= data.draw(st.integers(1, 255))
    for other in (record[:at], bytes(changed)):
        # One in 65,536 has the right checksum by chance.
        assert decode(other) is None or other == _with_checksum(other[:-2])


@pytest.mark.parametrize("version", [0, 1])
def test_what_was_never_a_version_is_unknown(version):
    assert decode(_with_checksum(bytes([version]) + encode(a_link())[1:-2])) is None


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


TOO_LARGE = {"trace": SessionTrace(2**128, 7, 1, 1, 1, 1)}


@pytest.mark.parametrize("bad", [{"turn": -1}, {"session_id": ""}, {"source": "hearsay"}, TOO_LARGE])
def test_a_link_that_cannot_be_written_is_left_out_and_reported(caplog, bad):
    written = rows_of([("s:bad", a_link()._replace(**bad)), ("s:good", a_link())])
    assert [row.key for row in written] == [hashed("s:good")]
    assert "write a session link down" in caplog.text


def test_the_ids_of_responses_take_half_their_length():
    link = a_link()
    longer = link._replace(response_id=link.response_id + "0" * 40)
    assert len(encode(longer)) == len(encode(link)) + 20


# --- releases share a store -------------------------------------------------------------------------------------

KNOWN = SessionLink(
    session_id="visitor-é-42",
    source="header",
    turn=3,
    span=SpanRef((1 << 127) + 3, (1 << 63) + 3, 1),
    start=1_764_000_000_123_456_789,
    end=1_764_000_000_123_457_789,
    model="gpt-4o-mini",
    input_tokens=12,
    output_tokens=None,
    response_id="resp_" + "0" * 47 + "3",
    trace=SessionTrace(1 << 126, 1 << 62, 1, 1, 1_764_000_000_123_456_789, 1),
)
FIRST = SessionLink(
    session_id="resp_" + "0123456789abcdef" * 3,
    source="new",
    turn=1,
    span=SpanRef(0x0AF7651916CD43DD8448EB211C80319C, 0xB7AD6B7169203331, 0),
    start=1_764_000_000_123_456_789,
    end=0,
    model="gpt-5",
    input_tokens=None,
    output_tokens=7,
    response_id="resp_" + "0123456789abcdef" * 3,
    trace=SessionTrace(0x0AF7651916CD43DD8448EB211C80319C, 0x00F067AA0BA902B7, 0, 2, 1_764_000_000_000_000_000, 3),
)

# As they were written by the version that each begins with.
WRITTEN = (
    (
        KNOWN,
        "02001b01800000000000000000000000000000038000000000000003187afca76f25cd1503d00f0c400000000000000000000000"
        "00000000400000000000000001187afca76f25cd1501011a76697369746f722dc3a92d3432166770742d346f2d6d696e690b7265"
        "73705f18000000000000000000000000000000000000000000000003e01e",
    ),
    (
        FIRST,
        "020c2c000af7651916cd43dd8448eb211c80319cb7ad6b7169203331187afca76f25cd15010700f067aa0ba902b700187afca767"
        "ca000002030b726573705f180123456789abcdef0123456789abcdef0123456789abcdef0a6770742d352870",
    ),
    (
        KNOWN,
        "03000100000000000003187afca76f25cd150180000000000000000000000000000003800000000000000320d00f050d76697369"
        "746f722dc3a92d3432090b6770742d346f2d6d696e690e1e05726573705f00000000000000000000000000000000000000000000"
        "0003100c2711400000000000000001187afca76f25cd152b104000000000000000000000000000000018011c01af01",
    ),
    (
        FIRST,
        "030c0000000000000001187afca76f25cd15000af7651916cd43dd8448eb211c80319cb7ad6b71692033312c01061e0572657370"
        "5f0123456789abcdef0123456789abcdef0123456789abcdef09056770742d351407271100f067aa0ba902b700187afca767ca00"
        "0018021c035f46",
    ),
)


@pytest.mark.parametrize(("link", "record"), WRITTEN)
def test_what_a_version_wrote_is_read_by_all_later_ones(link, record):
    assert decode(bytes.fromhex(record)) == link


def _with_checksum(body: bytes) -> bytes:
    return body + (zlib.crc32(body) & 0xFFFF).to_bytes(2, "big")


def _of_a_later_version(link: SessionLink, source: int | None = None) -> bytes:
    """A record with fields that nobody knows yet, before and after those that are known: of each form."""
    body = encode(link)[:-2]
    head = struct.calcsize(">BBB7sQ?QQQ")
    first = bytes([VERSION + 1, body[1] if source is None else source]) + body[2:head]
    number, text, packed, raw = b"\xa0\x06\x2a", b"\xa5\x06\x02hi", b"\xa6\x06\x03\x01r\xab", b"\xa7\x06\x01\xff"
    return _with_checksum(first + number + text + body[head:] + packed + raw)


@pytest.mark.parametrize("link", [KNOWN, FIRST])
def test_a_record_of_a_later_version_is_read_without_what_is_new_in_it(link):
    assert decode(_of_a_later_version(link)) == link


def test_a_session_that_a_later_version_found_in_a_way_of_its_own_is_still_that_session():
    assert decode(_of_a_later_version(KNOWN, source=200)) == KNOWN._replace(source="chain")


def test_what_a_turn_has_told_takes_few_bytes_and_none_where_it_has_told_nothing():
    plain = len(encode(KNOWN))
    assert len(encode(KNOWN._replace(told=Told(7, 2**64 - 1)))) == plain + 14
    assert len(encode(KNOWN._replace(told=Told(7, 2**64 - 1, 1, 1)))) == plain + 30


def test_what_a_later_version_adds_to_what_a_turn_has_told_is_not_looked_at():
    told = KNOWN._replace(told=Told(7, 8, 9, 10))
    body = encode(KNOWN)[:-2]
    later = struct.pack(">IQQQ", *Told(7, 8, 9, 10)) + b"more"
    assert decode(_with_checksum(body + bytes([18 << 2 | 3, len(later)]) + later)) == told
    assert decode(_with_checksum(body + bytes([18 << 2 | 3, 11]) + later[:11])) is None


# --- what a store holds is not trusted --------------------------------------------------------------------------


@pytest.mark.parametrize("filler", [b"\xff", b"\x80", b"\x00", b"\xa4\x06\x01"])
@pytest.mark.parametrize("head", [36, 43])
@pytest.mark.parametrize("version", [2, VERSION])
def test_a_huge_record_is_unknown_at_once(version, head, filler):
    begun = time.thread_time()
    for size in (15_000, 400_000):
        body = bytes([version]) + encode(a_link())[1:head] + filler * (size // len(filler)) + b"\x01"
        assert decode(_with_checksum(body)) is None
    assert time.thread_time() - begun < 0.2


def test_a_text_that_is_longer_than_its_field_makes_a_record_unknown():
    model = bytes([2 << 2 | 2, 3]) + b"\x05ab"  # five characters before its digits, of which two are there
    body = encode(a_link()._replace(model="", response_id=""))[:-2]
    assert decode(_with_checksum(body)) is not None
    assert decode(_with_checksum(body + model)) is None


def _written_unchecked(link: SessionLink, monkeypatch) -> bytes:
    with monkeypatch.context() as patched:
        patched.setattr(codec, "_is_sound", lambda link: True)
        patched.setattr(codec._Field, "takes", lambda field, value: True)
        return encode(link)


@pytest.mark.parametrize(
    "odd",
    [
        {"turn": 2**53 + 1},
        {"session_id": "evil\n\0"},
        {"session_id": "x" * 257},
        {"session_id": " "},
        {"start": 2**63},
        {"end": 2**63},
        {"input_tokens": 2**53 + 1},
        {"output_tokens": 2**60},
        {"model": "gpt\0"},
        {"response_id": "resp_\x1b[31m"},
        {"response_id": "r" * 1025},
        {"span": SpanRef(0, 7, 1)},
        {"span": SpanRef(7, 0, 1)},
        {"trace": SessionTrace(7, 0, 1, 1, 1, 1)},
        {"trace": SessionTrace(0, 7, 1, 1, 1, 1), "span": SpanRef(0, 0, 0)},
        {"trace": SessionTrace(5, 7, 1, 0, 1, 1)},
        {"trace": SessionTrace(5, 7, 1, 1, 1, 0)},
        {"trace": SessionTrace(5, 7, 1, 1, 2**63, 1)},
    ],
    ids=str,
)
def test_a_record_that_says_what_no_turn_can_say_is_unknown(odd, monkeypatch):
    link = a_link()._replace(**odd)
    assert decode(_written_unchecked(link, monkeypatch)) is None


@pytest.mark.parametrize(
    ("odd", "read"),
    [
        ({"model": "gpt\0"}, {"model": ""}),
        ({"model": "\udcff"}, {"model": ""}),
        ({"response_id": "r" * 1025}, {"response_id": ""}),
        ({"input_tokens": -1}, {"input_tokens": None}),
        ({"output_tokens": 2**70}, {"output_tokens": None}),
    ],
)
def test_what_no_reader_would_take_is_left_out_and_the_turn_is_kept(odd, read):
    assert decode(encode(KNOWN._replace(**odd))) == KNOWN._replace(**read)


# --- which of two turns is the later ----------------------------------------------------------------------------

moments = st.builds(
    lambda turn, start, ended: KNOWN._replace(turn=turn, start=start, end=start + 1 if ended else 0),
    numbers,
    st.integers(0, 2**62),
    st.booleans(),
)


@given(moments, moments)
def test_the_bytes_of_a_rank_order_turns_by_number_then_by_start_then_by_having_ended(one, other):
    said = [(link.turn, link.start, link.end > 0) for link in (one, other)]
    written = [encode(link)[RANK] for link in (one, other)]
    assert (said[0] < said[1]) == (written[0] < written[1])
    assert (said[0] == said[1]) == (written[0] == written[1])
