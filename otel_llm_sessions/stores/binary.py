"""The numbers and texts that records are made of."""

from __future__ import annotations

import re
import struct

_HEX_AT_END = re.compile(r"(?:[0-9a-f]{2}){4,}\Z")
"""Digits that take half the room as bytes; fewer of them are not worth the count."""

_LONGEST_NUMBER = 10
"""Bytes of a number, which has 70 bits at most: a longer one takes ever longer to add up."""

# How a field's value is written: the two lowest bits of its tag.
NUMBER, TEXT, PACKED, BYTES = range(4)

Value = int | str | bytes


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
        byte = self._data[self._at]
        self._at += 1
        if byte < 0x80:
            return byte
        number = byte & 0x7F
        for shift in range(7, 7 * _LONGEST_NUMBER, 7):
            byte = self._data[self._at]
            self._at += 1
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                return number
        raise ValueError("the number is too long")

    def taken(self, length: int) -> bytes:
        """Return the next ``length`` bytes."""
        end = length + self._at
        if end > len(self._data):
            raise ValueError("the record ends early")
        data = self._data[self._at : end]
        self._at = end
        return data

    def values(self) -> dict[int, Value]:
        """Return the fields up to the end, by their numbers; also those that the caller does not know."""
        values: dict[int, Value] = {}
        data, at, end = self._data, self._at, len(self._data)
        while at < end:
            tag, length = data[at], data[at + 1]
            at += 2
            if tag > 0x7F or length > 0x7F:  # as few are that are written today: what follows is the same, more slowly
                self._at = at - 2
                tag, length, at = self.number(), self.number(), self._at
            if tag & 3 == NUMBER:
                values[tag >> 2] = length
                continue
            after = at + length
            if after > end:
                raise ValueError("the record ends early")
            values[tag >> 2] = _read(tag & 3, data[at:after])
            at = after
        self._at = at
        return values

    def at_end(self) -> bool:
        """Whether all was read."""
        return self._at == len(self._data)


def _read(kind: int, data: bytes) -> Value:
    if kind == BYTES:
        return data
    if kind == TEXT:
        return data.decode()
    start = 1 + data[0]
    return data[1:start].decode() + data[start:].hex()
