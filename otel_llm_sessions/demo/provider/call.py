"""What a handler is given: the request, how it is to be answered, and what the path names."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from otel_llm_sessions.demo.provider.errors import ApiError
from otel_llm_sessions.demo.provider.ids import Ids
from otel_llm_sessions.demo.provider.manner import Manner
from otel_llm_sessions.demo.provider.reply import Json
from otel_llm_sessions.demo.provider.request import Request
from otel_llm_sessions.demo.provider.text import answer, plain_text
from otel_llm_sessions.demo.provider.tools import example, tool_output

DEFAULT_MODEL = "gpt-4o-mini"
REASONING_MODELS = ("o1", "o3", "o4", "gpt-5")


@dataclass(frozen=True)
class Call:
    """One request on its way through a handler; `names` are the parts of the path that vary."""

    request: Request
    manner: Manner
    names: Mapping[str, str]
    ids: Ids
    now: int = field(default_factory=lambda: int(time.time()))

    @property
    def body(self) -> Json:
        """The request's JSON object."""
        return self.request.json_object

    @property
    def model(self) -> str:
        """The model asked for; raises ApiError when nothing names one."""
        asked = self.body.get("model") or self.names.get("deployment")
        if not asked and not self.body.get("prompt"):
            message = "Missing required parameter: 'model'."
            raise ApiError(400, message, param="model", code="missing_required_parameter")
        return str(asked or DEFAULT_MODEL)

    @property
    def reasons(self) -> bool:
        """Whether the model thinks before it answers."""
        return self.model.startswith(REASONING_MODELS) or bool(self.body.get("reasoning"))

    def said(self, history: Any, text: str, form: Any, variant: int = 0) -> str:
        """What the model says to the user's text, in the `form` asked for (a response format)."""
        if isinstance(form, Mapping) and form.get("type") == "json_schema":
            inner = form.get("json_schema", form)  # chat wraps it once more
            return example(inner.get("schema") if isinstance(inner, Mapping) else None, text)
        if isinstance(form, Mapping) and form.get("type") == "json_object":
            return example({"type": "object", "required": ["answer"]}, text)
        result = tool_output(history)
        return f"The tool says: {result[:200]}" if result else answer(text or plain_text(history), variant)
