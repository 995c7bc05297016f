"""Shows the URL of a store in a message, without what must not be shown."""

from __future__ import annotations

import re

_SECRETS = (
    (re.compile(r"(?i)([?&][^=&]*password=)[^&]*"), r"\1***"),
    (re.compile(r"(?s)^([\w.+-]*:/*)?.*@"), r"\1***@"),
    # Where a port should be, and no number is: a password whose "@host" was forgotten.
    (re.compile(r"(://[^/@:?\[]*):(?!\d*(?:[/?#]|$))[^/?#]*"), r"\1:***"),
)


def redacted(url: object) -> str:
    """Return ``url`` without its password, also where it is not quite a URL."""
    text = str(url)
    for secret, shown in _SECRETS:
        text = secret.sub(shown, text)
    return text
