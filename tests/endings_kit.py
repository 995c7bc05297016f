"""What tests of how calls end share."""

from __future__ import annotations

import gc
from typing import Any

import pytest
from waiting import until

MESSAGES = [{"role": "user", "content": "Tell me a story"}]


def only(spans: Any) -> Any:
    gc.collect()
    until(lambda: spans)  # what is collected ends a moment later
    assert len(spans) == 1, [span.name for span in spans]
    return spans[0]


kinds = pytest.mark.parametrize("kind", ["chat", "responses"])
