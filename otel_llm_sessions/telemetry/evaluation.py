"""A judgement of what a model did, as the GenAI conventions have it: an event, and a span with the same attributes."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from otel_llm_sessions import semconv

SPAN_NAME: Final = "evaluation {name}"


class Evaluation(NamedTuple):
    """One judgement."""

    name: str
    """What was judged: ``thumbs``, ``relevance``."""
    score: float | None
    label: str
    """The score for people, and of few values: ``good``; empty if there is none."""
    explanation: str
    response_id: str
    """The response that is meant; empty if it is not named."""
    time: int
    """When it was given, in nanoseconds since the epoch."""

    @property
    def span_name(self) -> str:
        """The name of its span."""
        return SPAN_NAME.format(name=self.name)

    def attributes(self) -> dict[str, Any]:
        """Return what its span and its event say alike."""
        said = {
            semconv.EVALUATION_NAME: self.name,
            semconv.EVALUATION_SCORE_VALUE: self.score,
            semconv.EVALUATION_SCORE_LABEL: self.label,
            semconv.EVALUATION_EXPLANATION: self.explanation,
            semconv.RESPONSE_ID: self.response_id,
        }
        return {attribute: value for attribute, value in said.items() if value is not None and value != ""}
