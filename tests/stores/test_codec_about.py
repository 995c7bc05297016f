"""What the application says of a session is kept within bounds, and read by two releases."""

from __future__ import annotations

import struct
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from store_kit import a_link

from otel_llm_sessions.sessions.about import MAX_TAG_BYTES, MAX_TAGS
from otel_llm_sessions.sessions.link import SessionLink
from otel_llm_sessions.stores.codec import MAX_RECORD, decode, encode
from otel_llm_sessions.stores.newest import is_newer

LINK = a_link()

anything = st.text(max_size=300) | st.sampled_from(["x" * 256, "漢" * 256, "\U00020000" * 256, "a\nb", " ", ""])


@given(st.lists(anything, max_size=20), anything, anything)
@example(["\U00020000" * 256] * 16, "\U00020000" * 256, "\U00020000" * 256)
def test_a_record_stays_within_its_bounds_whatever_is_said(tags, user, name):
    longest = "\U00020000" * 256
    link = LINK._replace(model=longest, parent=longest, user=user, name=name, tags=tuple(tags))
    record = encode(link)
    read = decode(record)
    assert len(record) <= MAX_RECORD
    assert isinstance(read, SessionLink)
    assert read._replace(user="", name="", tags=()) == link._replace(user="", name="", tags=())
    assert read.user in (user, "") and read.name in (name, "")
    assert len(read.tags) <= MAX_TAGS and len("\n".join(read.tags).encode()) <= MAX_TAG_BYTES
    assert set(read.tags) <= set(tags)
    assert decode(encode(read)) == read


def test_sixteen_tags_of_256_characters_are_kept():
    tags = tuple(f"{number:x}" * 256 for number in range(16))
    link = LINK._replace(tags=tags, user="u" * 256)
    assert decode(encode(link)) == link


def _with_tags(data: bytes) -> bytes:
    body = encode(LINK)[:-2]
    field = bytes([17 << 2 | 3]) + _number(len(data)) + data
    return (body := body + field) + struct.pack(">H", zlib.crc32(body) & 0xFFFF)


def _number(number: int) -> bytes:
    return bytes([number]) if number < 0x80 else bytes([number & 0x7F | 0x80, number >> 7])


@pytest.mark.parametrize(
    ("data", "tags"),
    [
        (b"a\nb", ("a", "b")),
        (b"\n\na\n \n\x00\n" + b"x" * 257, ("a",)),
        (b"\n".join(b"%d" % number for number in range(40)), tuple(map(str, range(16)))),
        (b"", ()),
    ],
    ids=ascii,
)
def test_of_what_a_store_holds_only_what_a_session_can_have_is_read(data, tags):
    assert decode(_with_tags(data)) == LINK._replace(tags=tags)


@pytest.mark.parametrize("data", [b"\xff\xfe", b"x" * (MAX_TAG_BYTES + 1)], ids=["no text", "too long"])
def test_tags_that_no_release_writes_make_a_record_unknown(data):
    assert decode(_with_tags(data)) is None


def test_which_turn_is_newer_does_not_depend_on_what_is_said():
    assert not is_newer("s:x", LINK._replace(user="u-1"), LINK)
