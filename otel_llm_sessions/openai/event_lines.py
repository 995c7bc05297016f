"""Lines of server-sent events, put together as the client's decoder does it (openai 1.66 to 3.57)."""

from __future__ import annotations

from otel_llm_sessions.guard import pass_on


class EventLines:
    """Takes in lines, and tells when they make an event.

    A blank line ends an event if the lines before it said anything at all: a stream with an ``id:`` has an event at
    each blank line from then on, since the client never forgets the id.
    """

    __slots__ = ("_has_id", "_is_named", "_retries", "data", "size")

    def __init__(self) -> None:
        self.data: list[bytes] = []
        """The data of the event that is being put together."""
        self.size = 0
        """The bytes of it."""
        self._is_named = False
        self._has_id = False
        self._retries = False

    def alone(self, piece: bytes) -> bytes | None:
        """Return the data of a piece that is one event of one line, as most are; None of any other, left untaken."""
        if self.data or not piece.startswith(b"data: ") or not piece.endswith(b"\n\n"):
            return None
        if piece.find(b"\n") != len(piece) - 2 or b"\r" in piece:
            return None
        self._is_named = self._retries = False
        return piece[6:-2]

    def take(self, line: bytes) -> bytes | None:
        """Take in a line without its end; return the data of the event that it ends, empty if it had none, or None."""
        if line:
            name, _, value = line.partition(b":")
            self._field(name, value.removeprefix(b" "), len(line))
            return None
        if not (self.data or self._is_named or self._has_id or self._retries):
            return None
        data, self.data, self.size = b"\n".join(self.data), [], 0
        self._is_named = self._retries = False
        return data

    def _field(self, name: bytes, value: bytes, size: int) -> None:
        if name == b"data":
            self.data.append(value)
            self.size += size
        elif name == b"event":
            self._is_named = bool(value)
        elif name == b"id" and b"\0" not in value:
            self._has_id = bool(value)
        elif name == b"retry":
            self._retries = self._retries or _is_whole(value)


def _is_whole(value: bytes) -> bool:
    try:
        int(value)
    except ValueError as error:
        pass_on(error)
        return False
    return True
