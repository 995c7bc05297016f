"""Bounds how many series the metrics of a process may have, whatever servers and visitors send."""

from __future__ import annotations

from typing import Any, Final

from otel_llm_sessions import semconv
from otel_llm_sessions.telemetry.values import OTHER

MAX_VALUES: Final = 200
"""Values of one attribute; what comes later is ``_OTHER``."""

MAX_SETS: Final = 1000
"""Combinations of them. The SDK (1.45) takes 2,000 for one instrument, and gives up all attributes then."""

FILLED_BY_OTHERS: Final = (
    semconv.REQUEST_MODEL,
    semconv.RESPONSE_MODEL,
    semconv.ERROR_TYPE,
)
"""The attributes of metrics whose values are not ours: a visitor's, a server's, the application's."""


class Cardinality:
    """Remembers which values there have been, up to a bound, and puts ``_OTHER`` in the place of newer ones.

    Threads may see one value more than the bound; nothing is locked.
    """

    def __init__(self) -> None:
        self._sets: set[tuple[Any, ...]] = set()
        self._values: dict[str, set[Any]] = {name: set() for name in FILLED_BY_OTHERS}

    def bounded(self, kept: dict[str, Any]) -> dict[str, Any]:
        """Return the attributes of one call for its metrics, ``kept`` itself if nothing is too much."""
        get = kept.get
        return kept if tuple(map(get, FILLED_BY_OTHERS)) in self._sets else self._of_new(kept)

    def _of_new(self, kept: dict[str, Any]) -> dict[str, Any]:
        known = {name: self._known(name, value) for name, value in kept.items()}
        key = tuple(map(known.get, FILLED_BY_OTHERS))
        if key not in self._sets:
            if len(self._sets) >= MAX_SETS:
                known = {name: OTHER if name in self._values else value for name, value in known.items()}
            else:
                self._sets.add(key)
        return known

    def _known(self, name: str, value: Any) -> Any:
        values = self._values.get(name)
        if values is None or value in values:
            return value
        if len(values) >= MAX_VALUES:
            return OTHER
        values.add(value)
        return value
