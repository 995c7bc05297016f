"""The settings: one frozen dataclass, from keywords and environment variables."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, get_args

from otel_llm_sessions.guard import pass_on, say
from otel_llm_sessions.sessions import sources
from otel_llm_sessions.sessions.root_names import DEFAULT_TEMPLATE, MAX_TEMPLATE, checked_template
from otel_llm_sessions.sessions.texts import shown
from otel_llm_sessions.stores.urls import ALLOWED, SCHEMES, redacted

PREFIX = "OTEL_LLM_SESSIONS_"

TracesMode = Literal["session", "turn"]
SpansMode = Literal["auto", "always", "annotate"]
ConversationIdMode = Literal["given", "always"]
ThreadsMode = Literal["jobs", "all", "none"]
CostMode = Literal["provider", "prices", "none"]
Propagation = Literal["metadata", "headers", "litellm"]
ContentMode = Literal["delta", "full"]

PROPAGATIONS = frozenset(get_args(Propagation))

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Settings:
    """Every setting of the package; see the settings table of the README."""

    store: str = "memory://"
    traces: TracesMode = "session"
    spans: SpansMode = "auto"
    headers: tuple[str, ...] = sources.HEADERS
    body_keys: tuple[str, ...] = sources.BODY_KEYS
    metadata_keys: tuple[str, ...] = sources.METADATA_KEYS
    threads: ThreadsMode = "jobs"
    baggage: bool = True
    history: bool = False
    provider_lookup: bool = False
    propagate: frozenset[Propagation] = frozenset()
    namespace: str | None = None
    key: str | None = field(default=None, repr=False)
    root_name: str = DEFAULT_TEMPLATE
    max_turns: int = 500
    max_age: float = 24 * 3600.0
    root_repeat: float | None = None
    conversation_id: ConversationIdMode = "given"
    cost: CostMode = "provider"
    ttl: float = 30 * 24 * 3600.0
    max_keys: int = 50_000
    user: bool = False
    content: ContentMode = "delta"
    content_limit: int = 16_384
    content_hook: str | Callable[..., Any] | None = None

    def __repr__(self) -> str:
        """Show all but secrets."""
        said = (f"{each.name}={_redacted(each.name, getattr(self, each.name))}" for each in fields(self) if each.repr)
        return f"Settings({', '.join(said)})"


def _one_of(*allowed: str) -> tuple[Callable[[Any], str], str]:
    def parse(value: Any) -> str:
        text = str(value).strip().lower()
        if text not in allowed:
            raise ValueError
        return text

    return parse, "one of " + ", ".join(allowed)


def _names(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    if not all(isinstance(part, str) for part in parts):
        raise ValueError
    names = tuple(part.strip() for part in parts if part.strip())
    if not all(name.isprintable() for name in names):
        raise ValueError
    return names


def _header_names(value: Any) -> tuple[str, ...]:
    names = tuple(name.lower() for name in _names(value))
    if any(name == "*" or name.count("*") > 1 for name in names):
        raise ValueError
    return names


def _boolean(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("true", "false"):
        raise ValueError
    return text == "true"


def _propagate(value: Any) -> frozenset[str]:
    names = frozenset(name.lower() for name in _names(value)) - {"none"}
    if not names <= PROPAGATIONS:
        raise ValueError
    return names


def _count(value: Any) -> int:
    if isinstance(value, bool) or int(value) != float(value) or int(value) < 1:
        raise ValueError
    return int(value)


_LONGEST = 36_500 * 86_400.0
"""A hundred years: longer times are for ever, too, and fewer than the nanoseconds that a clock can count."""


def _duration(value: Any) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)?", str(value).strip().lower())
        if match is None:
            raise ValueError
        seconds = float(match[1]) * _SECONDS[match[2] or "s"]
    if not 0 < seconds < float("inf"):
        raise ValueError
    return min(seconds, _LONGEST)


def _duration_or_none(value: Any) -> float | None:
    return None if isinstance(value, str) and value.strip().lower() == "none" else _duration(value)


def _store(value: Any) -> str:
    text = str(value).strip()
    scheme, separator, _ = text.partition("://")
    if not separator or scheme.lower() not in SCHEMES:
        raise ValueError
    return text


def _text(value: Any) -> str:
    if not isinstance(value, str) or not (value == "" or value.isprintable()):
        raise ValueError
    return value


def _secret(value: Any) -> str:
    # What comes from a file ends with a line's end, often in one process and not in the other.
    secret = _text(value.strip() if isinstance(value, str) else value)
    if not secret:
        raise ValueError
    return secret


def _hook(value: Any) -> Any:
    if callable(value):
        return value
    module, _, function = value.strip().partition(":")
    if not all(name.isidentifier() for name in (*module.split("."), *function.split("."))):
        raise ValueError
    return value.strip()


_NAMES_ALLOWED = "a comma-separated list of names"
_SAYS_SOMETHING_EMPTY = frozenset({"headers", "body_keys", "metadata_keys"})
"""Settings whose variable says something where it is empty: that nothing is read there. Others are not set then."""
_DURATION_ALLOWED = "a time greater than 0, such as 90s, 30m, 24h or 7d"
_COUNT_ALLOWED = "a whole number greater than 0"

_PARSERS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "store": (_store, ALLOWED),
    "traces": _one_of("session", "turn"),
    "spans": _one_of("auto", "always", "annotate"),
    "headers": (_header_names, f"{_NAMES_ALLOWED}, each with at most one * for any characters beside others"),
    "body_keys": (_names, _NAMES_ALLOWED),
    "metadata_keys": (_names, _NAMES_ALLOWED),
    "threads": _one_of("jobs", "all", "none"),
    "baggage": (_boolean, "true or false"),
    "history": (_boolean, "true or false"),
    "provider_lookup": (_boolean, "true or false"),
    "propagate": (_propagate, "any of metadata, headers, litellm, separated by commas, or none"),
    "namespace": (_text, "a string of printable characters"),
    "key": (_secret, "a string of printable characters, not empty"),
    "root_name": (
        checked_template,
        f"printable text of at most {MAX_TEMPLATE} characters, without other placeholders than {{name}} and {{id}}",
    ),
    "max_turns": (_count, _COUNT_ALLOWED),
    "max_age": (_duration, _DURATION_ALLOWED),
    "root_repeat": (_duration_or_none, f"{_DURATION_ALLOWED}, or none"),
    "conversation_id": _one_of("given", "always"),
    "cost": _one_of("provider", "prices", "none"),
    "ttl": (_duration, _DURATION_ALLOWED),
    "max_keys": (_count, _COUNT_ALLOWED),
    "user": (_boolean, "true or false"),
    "content": _one_of("delta", "full"),
    "content_limit": (_count, _COUNT_ALLOWED),
    "content_hook": (_hook, "MODULE:FUNCTION, or as a keyword a function"),
}


def _redacted(name: str, value: Any, show: Callable[[Any], str] = repr) -> str:
    """Show a value in a message, without the password that a store's URL may hold, and no secret at all."""
    return "***" if name == "key" else show(redacted(value) if name == "store" else value)


def _default_shown(default: Any) -> str:
    return "none" if default in (None, frozenset()) else repr(default)


def _parsed(name: str, value: Any, shown_as: str) -> Any:
    parse, allowed = _PARSERS[name]
    try:
        return parse(value)
    except Exception as error:  # of a value's own methods, too
        pass_on(error)
        raise ValueError(f"{shown_as}={_redacted(name, value, shown)} is not valid: expected {allowed}") from None


def settings_from(keywords: Mapping[str, Any] | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings: keywords win over environment variables, which win over defaults.

    Args:
        keywords: settings by name, as given to ``instrument()``; None values count as not given.
        environ: where ``OTEL_LLM_SESSIONS_*`` are read from; the process's environment by default. A wrong
            value there is logged once, clearly, and the default is used; so it is for an empty one, but in lists of
            names, where it means none. A wrong ``CONTENT_HOOK`` is kept: it cannot be loaded, so that no content is
            recorded.

    Raises:
        ValueError: a keyword has a wrong value; the message names the setting, the value and what is allowed.
    """
    environ = os.environ if environ is None else environ
    settings = Settings()
    for name in (each.name for each in fields(Settings)):
        variable = PREFIX + name.upper()
        keyword = (keywords or {}).get(name)
        if keyword is not None:
            settings = replace(settings, **{name: _parsed(name, keyword, name)})
        elif environ.get(variable, "").strip() or (variable in environ and name in _SAYS_SOMETHING_EMPTY):
            try:
                settings = replace(settings, **{name: _parsed(name, environ[variable], variable)})
            except ValueError as error:
                if name == "content_hook":  # the default would record what the hook is there to keep back
                    settings = replace(settings, content_hook=environ[variable])
                    say(logging.WARNING, "%s; no content is recorded", error)
                else:
                    say(logging.WARNING, "%s; the default %s is used", error, _default_shown(getattr(settings, name)))
    return settings
