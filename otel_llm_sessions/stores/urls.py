"""The URLs of stores: which there are, and how one is shown in a message without what must not be shown."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus

SCHEMES: Final = (
    *("memory", "sqlite", "redis", "rediss", "valkey", "valkeys", "unix"),
    *("redis+cluster", "rediss+cluster", "redis+sentinel"),
)

ALLOWED: Final = (
    "memory://, sqlite:///file (relative; sqlite:////file is absolute), redis://host:port/db, rediss://, valkey:// or"
    " valkeys:// likewise, unix:///socket?db=0, redis+cluster://host:port,host:port, rediss+cluster:// likewise,"
    " redis+sentinel://host:port,host:port/master"
)
"""What is said of them where a URL is of no store."""

_OPTION = re.compile(r"([?&;#])([^=&;#]*)=([^&]*)")
_SECRET_OPTION = re.compile(r"pass|pwd|secret|token|credential|auth|key", re.IGNORECASE)
_REST = re.compile(r"(?<==\*{3})(&[^=&]+)+(?=&|$)")
"""What follows a secret and is no option: the rest of a password with an ampersand that was not escaped."""

_SECRETS = (
    (re.compile(r"(?s)^([\w.+-]*:/*)?.*@"), r"\1***@"),
    # Where a port should be, and no number is: a password whose "@host" was forgotten.
    (re.compile(r"(://(?:\[[^\]/]*\]|[^/@:?\[]*)):(?!\d*(?:[/?#]|$))[^/?#]*"), r"\1:***"),
)


def redacted(url: object) -> str:
    """Return ``url`` without its password, also where it is not quite a URL."""
    text = _REST.sub("", _OPTION.sub(_without_secret, str(url)))
    for secret, shown in _SECRETS:
        text = secret.sub(shown, text)
    return text


def _without_secret(option: re.Match[str]) -> str:
    # redis-py (8.1) reads the names of options unescaped, too: p%61ssword is password.
    return f"{option[1]}{option[2]}=***" if _SECRET_OPTION.search(unquote_plus(option[2])) else option[0]
