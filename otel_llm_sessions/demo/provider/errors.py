"""Errors in the shape that OpenAI gives them."""

from __future__ import annotations

from dataclasses import replace

from otel_llm_sessions.demo.provider.reply import Json, Reply, document

# status: message, type, code
KNOWN: dict[int, tuple[str, str, str | None]] = {
    400: ("The request is not valid.", "invalid_request_error", "invalid_value"),
    401: ("Incorrect API key provided.", "invalid_request_error", "invalid_api_key"),
    403: ("You are not allowed to do this.", "invalid_request_error", "permission_denied"),
    404: ("The model does not exist.", "invalid_request_error", "model_not_found"),
    405: ("Not allowed to use this method here.", "invalid_request_error", "method_not_supported"),
    409: ("The resource is being changed.", "invalid_request_error", None),
    429: ("Rate limit reached for requests.", "requests", "rate_limit_exceeded"),
    500: ("The server had an error while processing your request.", "server_error", None),
    503: ("The engine is currently overloaded, please try again later.", "server_error", None),
}
UNKNOWN = ("The request failed.", "api_error", None)
# Clients wait half a second before the first retry unless they are told otherwise.
RETRY_SOON = {"retry-after-ms": "1"}
RETRIED = frozenset({408, 409, 429})


class ApiError(Exception):
    """A request that the API refuses."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


def error_object(message: str, kind: str, param: str | None = None, code: str | None = None) -> Json:
    """What stands under `error` in a body."""
    return {"message": message, "type": kind, "param": param, "code": code}


def refusal(error: ApiError) -> Reply:
    """The reply for a request that the API refuses."""
    kind = KNOWN.get(error.status, UNKNOWN)[1]
    body = {"error": error_object(str(error), kind, error.param, error.code)}
    return document(body, status=error.status)


def failure(status: int) -> Reply:
    """The reply OpenAI typically gives with this status; one that clients retry asks to be retried at once."""
    message, kind, code = KNOWN.get(status, UNKNOWN)
    reply = document({"error": error_object(message, kind, None, code)}, status=status)
    retried = status in RETRIED or status >= 500
    return replace(reply, headers=RETRY_SOON) if retried else reply


def missing(what: str, identifier: str) -> ApiError:
    """404 for an object that this server does not know."""
    return ApiError(404, f"{what} with id '{identifier}' not found.")
