"""The smallest value that a JSON schema accepts, for structured replies."""

import json

import pytest

from otel_llm_sessions.demo.provider.schema import Example

# Examples for schemas


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (
            {"type": "object", "properties": {"a": {"type": "string"}, "b": {"type": "null"}}, "required": ["b"]},
            {"b": None},
        ),
        ({"enum": ["x", "y"]}, "x"),
        ({"const": 7}, 7),
        ({"type": ["integer", "null"], "minimum": 5}, 5),
        ({"type": "number", "exclusiveMaximum": 0, "multipleOf": 2}, -2),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        ({"anyOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": {"type": "string", "format": "date"}}}, "2026-01-31"),
        ({"allOf": [{"properties": {"a": {"const": 1}}, "required": ["a"]}], "type": "object"}, {"a": 1}),
        ({"type": "string", "maxLength": 3}, "val"),
    ],
)
def test_an_example_is_the_smallest_value_that_the_schema_accepts(schema, value):
    assert Example(schema).value() == value


def test_an_example_of_a_schema_that_contains_itself_ends():
    node = {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    }
    assert '"next": null' in json.dumps(Example(node).value())
