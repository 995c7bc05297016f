"""As much of TraceQL as this repository's queries are made of, read strictly and evaluated over spans."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

TOKEN = re.compile(
    r"""\s*(?:
      (?P<text>"(?:[^"\\]|\\.)*"|`[^`]*`)
    | (?P<number>-?\d+(?:\.\d+)?(?:ns|us|ms|s|m|h)?(?![\w.])|\.\d+)
    | (?P<name>(?:span|resource|event|link|instrumentation)\.[\w.\-/]+|(?:span|trace|event|link):\w+|\w+)
    | (?P<sign>&&|\|\||!=|>=|<=|=~|!~|[{}()|,=<>])
    )""",
    re.VERBOSE,
)
INTRINSICS = {"name", "status", "kind", "duration", "rootName", "rootServiceName", "traceDuration", "statusMessage"}
CONSTANTS = {"nil", "true", "false", "error", "ok", "unset", "server", "client", "internal", "producer", "consumer"}
COUNTS = {"rate", "count_over_time"}
AGGREGATES = {"sum_over_time", "avg_over_time", "max_over_time", "min_over_time"}
QUANTILES = {"quantile_over_time"}
METRICS = COUNTS | AGGREGATES | QUANTILES
COMPARED = {"=", "!=", ">", "<", ">=", "<=", "=~", "!~"}

Span = Callable[[str], Any]
"""A span's fields by their names; None for what it has not."""


class BadQuery(Exception):
    """It is no TraceQL; the message is as Tempo's."""


@dataclass
class Measure:
    """What a metrics query makes of the spans that match."""

    function: str
    of: str = ""
    """The field that is added up, or whatever the function does; none where spans are counted."""
    quantiles: list[float] = field(default_factory=list)
    by: list[str] = field(default_factory=list)
    most: int | None = None
    """How many series are told, the greatest; None for all of them."""


@dataclass
class TraceQL:
    """A query that was read."""

    matches: Callable[[Span], bool] = lambda span: True
    selected: list[str] = field(default_factory=list)
    """What a search tells of a span: what is asked of it, and what is selected."""
    fields: list[str] = field(default_factory=list)
    """Every field that is named."""
    measure: Measure | None = None


def parsed(text: str) -> TraceQL:
    return _Reader(text).query()


class _Reader:
    def __init__(self, text: str) -> None:
        self.tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            found = TOKEN.match(text, at)
            if not found:
                raise BadQuery(f"invalid TraceQL query: parse error at line 1, col {at + 1}: syntax error: unexpected")
            self.tokens.append((found.lastgroup or "", found[found.lastgroup or 0]))
            at = found.end()
        self.result = TraceQL()

    def query(self) -> TraceQL:
        self.take("{")
        if self.peek() != "}":
            self.result.matches = self.either()
        self.take("}")
        while self.peek() == "|":
            self.take("|")
            self.stage()
        if self.tokens:
            self.fail()
        self.result.selected += self.result.fields
        return self.result

    def stage(self) -> None:
        _, name = self.next()
        if name in METRICS:
            return self.measured(name)
        arguments = self.arguments()
        fields = [value for kind, value in arguments if kind == "name"]
        if name == "select" and not self.result.measure:
            self.result.selected += fields
        elif name == "topk" and self.result.measure and [kind for kind, _ in arguments] == ["number"]:
            self.result.measure.most = int(arguments[0][1])
        elif name not in ("count", "by") and not (name == "compare"):
            self.fail()

    def measured(self, function: str) -> None:
        arguments = self.arguments()
        measure = Measure(function)
        if self.result.measure or [kind for kind, _ in arguments[:1]] != ([] if function in COUNTS else ["name"]):
            self.fail()
        if arguments:
            measure.of = arguments[0][1]
            measure.quantiles = [self.value(*one) for one in arguments[1:]]
        if bool(measure.quantiles) != (function in QUANTILES):
            self.fail()
        if self.peek() == "by":
            self.take("by")
            measure.by = [value for _, value in self.arguments()]
        self.result.measure = measure

    def arguments(self) -> list[tuple[str, str]]:
        self.take("(")
        arguments = []
        while self.peek() != ")":
            kind, value = self.next()
            arguments.append((kind, self.field(value) if kind == "name" else value))
            if self.peek() == ",":
                self.take(",")
        self.take(")")
        return arguments

    def either(self) -> Callable[[Span], bool]:
        sides = [self.both()]
        while self.peek() == "||":
            self.take("||")
            sides.append(self.both())
        return lambda span: any(side(span) for side in sides)

    def both(self) -> Callable[[Span], bool]:
        sides = [self.comparison()]
        while self.peek() == "&&":
            self.take("&&")
            sides.append(self.comparison())
        return lambda span: all(side(span) for side in sides)

    def comparison(self) -> Callable[[Span], bool]:
        if self.peek() == "(":
            self.take("(")
            inner = self.either()
            self.take(")")
            return inner
        kind, name = self.next()
        if kind != "name":
            self.fail()
        named, operator = self.field(name), self.next()[1]
        if operator not in COMPARED:
            self.fail()
        value = self.value(*self.next())
        return lambda span: compared(span(named), operator, value)

    def field(self, name: str) -> str:
        if "." not in name and ":" not in name and name not in INTRINSICS:
            self.fail()
        self.result.fields.append(name)
        return name

    def value(self, kind: str, said: str) -> Any:
        if kind == "text":
            return json.loads(said) if said[0] == '"' else said[1:-1]
        if kind == "number":
            return float(said) if re.fullmatch(r"[-\d.]+", said) else said
        if kind == "name" and said in CONSTANTS:
            return {"nil": None, "true": True, "false": False}.get(said, said)
        return self.fail()

    def peek(self) -> str:
        return self.tokens[0][1] if self.tokens else ""

    def next(self) -> tuple[str, str]:
        return self.tokens.pop(0) if self.tokens else self.fail()

    def take(self, sign: str) -> None:
        if self.next()[1] != sign:
            self.fail()

    def fail(self) -> Any:
        unexpected = self.tokens[0][1] if self.tokens else "$end"
        raise BadQuery(f"invalid TraceQL query: parse error at line 1, col 1: syntax error: unexpected {unexpected}")


def compared(found: Any, operator: str, value: Any) -> bool:
    if value is None:
        return (found is None) == (operator == "=")
    if found is None or isinstance(found, bool) != isinstance(value, bool):
        return False
    if isinstance(found, str) != isinstance(value, str):
        return False
    if operator in ("=~", "!~"):
        return bool(re.fullmatch(value, found)) == (operator == "=~")
    return {
        "=": found == value,
        "!=": found != value,
        ">": found > value,
        "<": found < value,
        ">=": found >= value,
        "<=": found <= value,
    }[operator]
