"""The numbers and texts that records are made of."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from typing import Any

_HEX_AT_END = re.compile(r"(?:[0-9a-f]{2}){4,}\Z")
"""Digits that take half the room as bytes; fewer of them are not worth the count."""

_WEIGHTS = tuple(1 << bits for bits in range(7, 70, 7))
"""What the further bytes of a number count: it has 70 bits at most, as a longer one takes ever longer to add up."""

# How a field's value is written: the two lowest bits of its tag.
NUMBER, TEXT, PACKED, BYTES = range(4)

Value = int | str | bytes

Place = tuple[int, int, str]
"""Where a reader puts the value of a field, how great or long that may be, and what else than printable characters may
stand in a text."""

Places = tuple[Place | None, ...]
"""The place of the field that each tag stands for; None for a field that is not known."""


def write_number(out: bytearray, number: int) -> None:
    """Write a number of up to 70 bits, 7 to a byte, the lowest first."""
    if not 0 <= number < 1 << 70:
        raise ValueError(f"a number has 70 bits and is never negative: {number}")
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)


def folded(number: int) -> int:
    """Return a number that may be negative as one that is not; small ones stay small."""
    return number << 1 if number >= 0 else (-number << 1) - 1


def unfolded(number: int) -> int:
    """Return the number that ``folded`` was given."""
    return -(number + 1 >> 1) if number & 1 else number >> 1


def write_field(out: bytearray, number: int, value: Value) -> None:
    """Write a field so that a reader can skip it without knowing what it is."""
    if isinstance(value, int):
        write_number(out, number << 2 | NUMBER)
        return write_number(out, value)
    kind, data = (BYTES, value) if isinstance(value, bytes) else _as_bytes(value)
    write_number(out, number << 2 | kind)
    write_number(out, len(data))
    out += data


def _as_bytes(text: str) -> tuple[int, bytes]:
    """Return a text's form, with hexadecimal digits at its end as bytes: ids of responses are most of a record."""
    digits = _HEX_AT_END.search(text)
    before = (text[: digits.start()] if digits else text).encode()
    if digits is None or len(before) > 0xFF:
        return TEXT, text.encode()
    return PACKED, bytes((len(before),)) + before + bytes.fromhex(digits[0])


class Reader:
    """Takes a record apart from front to back; raises IndexError, ValueError or struct.error where it ends early."""

    __slots__ = ("_at", "_data")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def fixed(self, layout: struct.Struct) -> tuple[int, ...]:
        """Return numbers of a fixed size."""
        values = layout.unpack_from(self._data, self._at)
        self._at += layout.size
        return values

    def number(self) -> int:
        """Return a number of any size up to 70 bits."""
        number, self._at = _number(self._data, self._at)
        return number

    def taken(self, length: int) -> bytes:
        """Return the next ``length`` bytes."""
        end = length + self._at
        if end > len(self._data):
            raise ValueError("the record ends early")
        data = self._data[self._at : end]
        self._at = end
        return data

    def at_end(self) -> bool:
        """Whether all was read."""
        return self._at == len(self._data)


def places(fields: Iterable[tuple[int, Sequence[int], Place]]) -> Places:
    """Return the place of what follows each tag of one byte.

    Args:
        fields: of each field its number, the ways in which its value is written, and its place.
    """
    table: list[Place | None] = [None] * 0x80
    for number, kinds, (index, most, also) in fields:
        for kind in (NUMBER, TEXT, PACKED, BYTES):
            table[number << 2 | kind] = index, most if kind in kinds else -1, also
    return tuple(table)


def read_fields(data: bytes, at: int, table: Places, values: list[Any]) -> None:
    """Put the values of the fields from ``at`` on into ``values``, and skip those that ``table`` does not know.

    All in one loop, which most of the time passes in that a record takes to read.

    Raises:
        IndexError, ValueError: the fields end early, or one says what none can say.
    """
    end = len(data)
    while at < end:
        tag, number = data[at], data[at + 1]
        at += 2
        if tag > 0x7F:  # of no field that is known
            tag, at = _number(data, at - 2)
            number, at = _number(data, at)
        elif number > 0x7F:
            number -= 0x80
            for weight in _WEIGHTS:
                byte = data[at]
                at += 1
                if byte < 0x80:
                    number += byte * weight
                    break
                number += (byte - 0x80) * weight
            else:
                raise ValueError("the number is too long")
        kind, start = tag & 3, at
        if kind != NUMBER:
            at += number
            if at > end:
                raise ValueError("the record ends early")
        place = table[tag] if tag < 0x80 else None
        if place is None:
            continue
        index, most, also = place
        if kind == NUMBER:
            values[index] = number
        elif kind == BYTES:
            values[index] = data[start:at]
        else:
            values[index] = text = _text(data, kind, start, at, also)
            number = len(text)
        if number > most:
            raise ValueError("a field is longer or greater than any can be")


def _text(data: bytes, kind: int, start: int, end: int, also: str) -> str:
    """Return the text that stands there; of one that is packed, digits need not be looked at."""
    middle = end
    if kind == PACKED:
        start, middle = start + 1, start + 1 + data[start]
        if middle > end:
            raise ValueError("the text ends early")
    text = data[start:middle].decode()
    if not text.isprintable() and not (also and text.replace(also, "").isprintable()):
        raise ValueError("a text has characters that none can have")
    return text if middle == end else text + data[middle:end].hex()


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a place, and where it ends."""
    byte = data[at]
    number = byte & 0x7F
    for weight in _WEIGHTS:
        if byte < 0x80:
            return number, at + 1
        at += 1
        byte = data[at]
        number += (byte & 0x7F) * weight
    if byte < 0x80:
        return number, at + 1
    raise ValueError("the number is too long")
