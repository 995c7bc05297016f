"""How random an id is: whether two conversations could be given the same one."""

from __future__ import annotations

import base64
import functools
import re
import string
from itertools import pairwise
from typing import Final

from otel_llm_sessions.guard import pass_on

UNIQUE_BITS: Final = 80
"""From here on an id is one of a kind: a million ids a second meet once in 34,000 years."""

EVIDENCE_BITS: Final = 40
"""Below this an id ties no two calls together."""

_USUAL = re.compile(r"[a-z]+_([0-9a-f]{40,})")
"""OpenAI's own ids: they need not be looked at in detail."""

_PARTS = re.compile(r"[0-9A-Za-z]+")

_UUID = re.compile(r"([0-9a-fA-F]{8})-([0-9a-fA-F]{4})-([0-9a-fA-F]{4})-([0-9a-fA-F]{4})-([0-9a-fA-F]{12})")

_DATE = re.compile(
    r"(?:19|20)\d\d-?(?:0[1-9]|1[0-2])-?(?:0[1-9]|[12]\d|3[01])"
    r"(?:[T_ .-]?(?:[01]\d|2[0-3])[:.-]?[0-5]\d(?:[:.-]?[0-5]\d(?:[.,]?\d{1,9})?)?)?Z?(?![0-9a-zA-Z])"
)
"""A date, with the time of day or without, at the end of a part."""

_NAME_AND_COUNT = re.compile(r"functions\.[\w.-]+:\d+")
"""Kimi's tool calls: the name of the function, and which call of it this is."""

_WORD_AND_NUMBER = re.compile(r"(?:[A-Za-z][a-z]*|[A-Z]+)(\d+)")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_WORDS = re.compile(r"[A-Z]?[a-z]{3,}")
_MOSTLY_WORDS: Final = 0.7
"""Which share of a part has to be words: of random letters and digits about a sixth is."""

_NEARLY_ALL_WORDS: Final = 0.8
"""Which share has to look like words that nobody can pronounce: of 4,000 random ids of 24 characters, one does."""

_SMALL: Final = string.ascii_lowercase.encode()

_UNPRONOUNCEABLE = re.compile(r"[^aeiouyAEIOUY]{5}")

_WRAPPED = re.compile(r"[a-z]{0,12}_?([0-9A-Za-z+/_-]{40,}={0,2})")

_SHORTEST: Final = 6
"""Characters of a part that may be random; shorter ones are versions, units, hours."""

_LONG_ENOUGH: Final = 40
"""Characters at the end of a part that are looked at: even of hexadecimal digits these are twice what it takes."""

_MANY: Final = 12
"""Different characters: more than any count has."""

_FEW: Final = 16
"""Characters among which there are so many as a rule, where they are random letters and digits."""

_PLENTY: Final = 24
"""Hexadecimal digits at the end of a long id: alone enough to make it one of a kind, if they are random."""

_MANY_PAIRS: Final = 11
"""Different pairs of the 12 that these are: random ones are nearly always that many."""

_bytes_of = bytes.fromhex

_END: Final = 8

_LONGEST_COUNT: Final = 12
"""Digits of a number that may be a count: with fewer it says nothing, whether it is one or not."""

_LONGEST_TIME: Final = 19
"""Digits of a time since 1970 in nanoseconds."""

_BITS_OF_DIGIT: Final = 3.32
_BITS_OF_HEX: Final = 4.0
_BITS_OF_PLENTY: Final = _BITS_OF_HEX * _PLENTY
_BITS_OF_36: Final = 5.17
_BITS_OF_52: Final = 5.7
_BITS_OF_62: Final = 5.95

SHORTEST_UNIQUE: Final = int(UNIQUE_BITS / _BITS_OF_62) + 1
"""Characters without which no id is one of a kind."""


def bits_of(id_: str) -> float:
    """Estimate how many bits of an id are random.

    The estimate goes by what the id is made of: the alphabet and the length of each of its parts. Words, counts, dates
    and times, fixed prefixes and whatever repeats itself are worth nothing. It rather errs downwards: of an id that is
    taken for a count nothing is lost but its brevity.

    Args:
        id_: an id as a server made it: of a response, a conversation, an item or a tool call.
    """
    if len(id_) > _LONG_ENOUGH and (end := id_[-_PLENTY:]) == end.lower():
        # Most ids end with hexadecimal digits, of which no pair is there twice, or one: that is told in a quarter of
        # the time that it takes to look at each digit. (``islower`` is slow.) What ends with a number may be a count or
        # a time, whatever stands before that.
        try:
            if len({*_bytes_of(end)}) >= _MANY_PAIRS and not end[-_LONGEST_COUNT:].isdigit():
                return _BITS_OF_PLENTY
        except ValueError as error:
            pass_on(error)
    if len(id_) < _LONG_ENOUGH and (bits := _bits_of_end(id_)) is not None:
        return bits
    if (usual := _USUAL.fullmatch(id_)) and not (end := usual[1][-_LONG_ENOUGH:]).isdigit():
        return _BITS_OF_HEX * _without_repetition(end)
    if not id_.islower() and (inner := _unwrapped(id_)):
        id_ = inner
    if ":" in id_ and _NAME_AND_COUNT.fullmatch(id_):
        return 0.0
    if id_.count("-") >= 4:
        id_ = _UUID.sub(r"\1\2\3\4\5", id_)
    if "19" in id_ or "20" in id_:
        id_ = _DATE.sub("_", id_)
    parts = _PARTS.findall(id_)
    return sum(map(_bits_of_part, parts if len(parts) < 3 else dict.fromkeys(parts)), 0.0)


worth_of: Final = functools.lru_cache(maxsize=512)(bits_of)
"""The same, kept: an agent sends the ids of its newest items with each call."""


def _bits_of_end(id_: str) -> float | None:
    """Return what an id is worth that is one part, or whose last part is enough; None if it is to be looked at closely.

    Most ids of tool calls are of that kind, which is told in half of the time.
    """
    end = id_[max(id_.rfind("_"), id_.rfind("-")) + 1 :]
    if not (end.isascii() and end.isalnum()) or "20" in end or "19" in end:
        return None
    bits = _bits_of_part(end)
    return bits if bits >= UNIQUE_BITS or len(end) == len(id_) else None


def _unwrapped(id_: str) -> str | None:
    """Return the text that an id is in base64, as LiteLLM wraps another server's id; None if it is none."""
    found = _WRAPPED.fullmatch(id_)
    if found is None:
        return None
    data = found[1].rstrip("=")
    try:
        text = base64.b64decode(data + "=" * (-len(data) % 4), b"-_" if "-" in data or "_" in data else None)
        return text.decode("ascii") if text.isascii() and text.decode("ascii").isprintable() else None
    except ValueError as error:
        pass_on(error)
        return None


def _bits_of_part(part: str) -> float:
    if len(part) < _SHORTEST or (part.isalpha() and (part.islower() or part.isupper())):
        return 0.0
    if part.isdigit():
        return _bits_of_number(part)
    part = part[-_LONG_ENOUGH:]
    if part[-1].isdigit() and (found := _WORD_AND_NUMBER.fullmatch(part)):
        return _bits_of_number(found[1])
    per_character = _bits_per_character(part)
    return per_character * _without_repetition(part) if per_character else 0.0


def _bits_per_character(part: str) -> float:
    if part.islower() or part.isupper():
        return _BITS_OF_HEX if _HEX.fullmatch(part) else _BITS_OF_36
    if _is_of_words(part):
        return 0.0
    return _BITS_OF_52 if part.isalpha() else _BITS_OF_62


def _is_of_words(part: str) -> bool:
    small = len(part) - len(part.encode().translate(None, _SMALL))
    if small * 4 < _MOSTLY_WORDS * len(part) * 3:  # a word has three small letters for each other one
        return False
    words = _WORDS.findall(part)
    covered = sum(map(len, words))
    if covered < _MOSTLY_WORDS * len(part):
        return False
    said = sum(len(word) for word in words if _can_be_said(word))
    return covered >= _NEARLY_ALL_WORDS * len(part) or said >= _MOSTLY_WORDS * len(part)


def _can_be_said(word: str) -> bool:
    vowels = sum(map(word.lower().count, "aeiouy"))
    return len(word) <= 4 * vowels and not _UNPRONOUNCEABLE.search(word)


def _bits_of_number(digits: str) -> float:
    if len(digits) <= _LONGEST_COUNT:
        return 0.0
    # Seconds, milliseconds, … since 1970, and snowflakes: they begin alike for years.
    random = digits[_LONGEST_TIME:] if digits[0] == "1" or digits[:2] == "20" else digits
    return _BITS_OF_DIGIT * _without_repetition(random) if random else 0.0


def _without_repetition(text: str) -> int:
    """Return how many characters of ``text`` follow from none before: pairs that were there already say nothing new."""
    # Most ids are long and of many characters, and their end does not stand in them twice: that is told much faster.
    if (len(set(text[-_FEW:])) >= _MANY or len(set(text)) >= _MANY) and text.rfind(text[-_END:], 0, -1) < 0:
        return len(text)
    return len(set(pairwise(text))) + 1
