"""The smallest JSON value that a JSON schema accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

DEEP = 8
FORMATS: Mapping[str, str] = {
    "date": "2026-01-31",
    "date-time": "2026-01-31T12:00:00Z",
    "time": "12:00:00Z",
    "duration": "P1D",
    "email": "someone@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uri": "https://example.com",
    "uuid": "123e4567-e89b-12d3-a456-426614174000",
}

Words = Callable[[str], str]


class Example:
    """Makes one value for a schema; `words(name)` gives the text of a property of that name."""

    def __init__(self, schema: Any, words: Words = str) -> None:
        self._root = schema if isinstance(schema, Mapping) else {}
        self._words = words

    def value(self) -> Any:
        """A value the schema accepts, with the required properties only."""
        return self._make(self._root, "value", 0)

    def _make(self, given: Any, name: str, depth: int) -> Any:
        schema = self._resolved(given)
        for keyword in ("const", "default"):
            if keyword in schema:
                return schema[keyword]
        if schema.get("enum"):
            return schema["enum"][0]
        make: Maker = MAKERS.get(kind(schema, depth), _nothing)
        return make(self, schema, name, depth + 1)

    def _resolved(self, given: Any) -> dict[str, Any]:
        """The schema with references followed and alternatives decided."""
        schema = dict(given) if isinstance(given, Mapping) else {}
        for _ in range(DEEP):
            if isinstance(schema.get("$ref"), str):
                schema = {**self._find(schema.pop("$ref")), **schema}
            for part in schema.pop("allOf", ()):
                schema = merged(schema, self._resolved(part))
            if not any(keyword in schema for keyword in ("$ref", "allOf")):
                break
        return schema

    def _find(self, reference: str) -> Mapping[str, Any]:
        found: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key, {}) if key and isinstance(found, Mapping) else found
        return found if isinstance(found, Mapping) else {}

    def _alternative(self, schema: Mapping[str, Any], name: str, depth: int) -> Any:
        choices = list(schema.get("anyOf") or schema.get("oneOf") or ())
        empty = [choice for choice in choices if isinstance(choice, Mapping) and choice.get("type") == "null"]
        return self._make(empty[0] if empty and depth > DEEP else choices[0], name, depth)

    def _object(self, schema: Mapping[str, Any], name: str, depth: int) -> dict[str, Any]:
        properties = schema.get("properties") or {}
        required = schema.get("required") or ()
        return {key: self._make(properties.get(key), key, depth) for key in required}

    def _array(self, schema: Mapping[str, Any], name: str, depth: int) -> list[Any]:
        prefix = [self._make(part, name, depth) for part in schema.get("prefixItems") or ()]
        missing = max(0, int(schema.get("minItems", 0)) - len(prefix))
        return prefix + [self._make(schema.get("items"), name, depth) for _ in range(missing)]

    def _string(self, schema: Mapping[str, Any], name: str, depth: int) -> str:
        text = FORMATS.get(str(schema.get("format"))) or self._words(name)
        return text.ljust(int(schema.get("minLength", 0)), ".")[: schema.get("maxLength")]

    def _number(self, schema: Mapping[str, Any], name: str, depth: int) -> float:
        return smallest(schema)

    def _integer(self, schema: Mapping[str, Any], name: str, depth: int) -> int:
        return int(smallest(schema))

    def _boolean(self, schema: Mapping[str, Any], name: str, depth: int) -> bool:
        return True


def kind(schema: Mapping[str, Any], depth: int) -> str:
    """Which maker a schema asks for."""
    if schema.get("anyOf") or schema.get("oneOf"):
        return "alternative"
    named = schema.get("type")
    if isinstance(named, list):
        return str(named[-1] if depth > DEEP else named[0])
    return str(named) if named else ("object" if "properties" in schema else "string")


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Both schemas at once: properties and required names of the two together."""
    both = {**other, **one}
    if "properties" in one and "properties" in other:
        both["properties"] = {**other["properties"], **one["properties"]}
    if "required" in one and "required" in other:
        both["required"] = list(dict.fromkeys([*other["required"], *one["required"]]))
    return both


def smallest(schema: Mapping[str, Any]) -> float:
    """The number nearest to one that the bounds allow."""
    step = schema.get("multipleOf") or 1
    low = schema.get("minimum", schema.get("exclusiveMinimum", -step) + step)
    high = schema.get("maximum", schema.get("exclusiveMaximum", low + 2 * step) - step)
    wanted = min(max(step, low), high)
    return float(wanted) if isinstance(wanted, float) else int(wanted)


def _nothing(example: Example, schema: Mapping[str, Any], name: str, depth: int) -> None:
    return None


Maker = Callable[[Example, Mapping[str, Any], str, int], Any]
MAKERS: Mapping[str, Maker] = {
    "alternative": Example._alternative,
    "object": Example._object,
    "array": Example._array,
    "string": Example._string,
    "number": Example._number,
    "integer": Example._integer,
    "boolean": Example._boolean,
}
