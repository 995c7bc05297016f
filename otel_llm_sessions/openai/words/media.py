"""Images, sounds, films and files in messages: what they are and how large, or where they lie; never their data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from otel_llm_sessions.openai.words.plain import Json, decoded_size, fields_in, is_base64, modality_of, text_in

KINDS: Final = {
    "image_url": "image",
    "input_image": "image",
    "output_image": "image",
    "image": "image",
    "computer_screenshot": "image",
    "input_audio": "audio",
    "output_audio": "audio",
    "audio_url": "audio",
    "audio": "audio",
    "input_video": "video",
    "video_url": "video",
    "video": "video",
    "file": "document",
    "input_file": "document",
    "document_url": "document",
    "document": "document",
}
"""Kinds of parts by their modality: OpenAI's, and those of Mistral, OpenRouter, vLLM and Anthropic's dialect."""

_DATA: Final = ("data", "file_data", "b64_json")
_URLS: Final = ("url", "image_url", "file_url", "audio_url", "video_url", "document_url", "uri")
_MIME_TYPES: Final = ("mime_type", "media_type")
_SOURCE: Final = "source"
_KEPT: Final = ("filename", "transcript")

HOLDERS: Final = frozenset({*KINDS, *_DATA, *_URLS, _SOURCE})
"""Fields of a part in which such data stands, or what holds it."""

_FORMATS: Final = {"mp3": "audio/mpeg", "pcm16": "audio/pcm", "pdf": "application/pdf"}
_LONGEST_FORMAT: Final = 32

_HEAD: Final = 256
"""Characters in which a data URL's head is looked for."""


def media_part(kind: str, said: Mapping[Any, Any]) -> Json | None:
    """Return the part for an image, a sound, a film or a file; None if it says neither its data nor where it lies.

    Args:
        kind: one of ``KINDS``.
        said: the fields of the part.
    """
    fields = {**said, **(fields_in(said.get(kind)) or {}), **(fields_in(said.get(_SOURCE)) or {})}
    part = _part_of(fields, KINDS[kind], _mime_type_of(fields, KINDS[kind]))
    if part is not None:
        part.update((name, text) for name in _KEPT if (text := text_in(fields.get(name))))
    return part


def _part_of(fields: Mapping[Any, Any], modality: str, mime_type: str | None) -> Json | None:
    for name in _DATA:
        if data := text_in(fields.get(name)):
            return linked(data, modality, mime_type) if _is_data_url(data) else blob(modality, mime_type, data)
    for name in _URLS:
        if url := text_in(fields.get(name)) or text_in((fields_in(fields.get(name)) or {}).get("url")):
            return linked(url, modality, mime_type)
    file_id = text_in(fields.get("file_id")) or text_in(fields.get("id"))
    return filed(file_id, modality, mime_type) if file_id else None


def _mime_type_of(fields: Mapping[Any, Any], modality: str) -> str | None:
    for name in _MIME_TYPES:
        if mime_type := text_in(fields.get(name)):
            return mime_type
    kind = text_in(fields.get("format")) or text_in(fields.get("output_format"))
    if not kind or len(kind) > _LONGEST_FORMAT:
        return None
    return _FORMATS.get(kind) or (kind if "/" in kind else f"{modality}/{kind}")


def blob(modality: str, mime_type: str | None, data: str, start: int = 0) -> Json:
    """Return the part for binary data that stands in a message as base64.

    Args:
        modality: what it is.
        mime_type: of what type, where that is known.
        data: the text in base64.
        start: where it begins.
    """
    return {"type": "blob", "modality": modality, "mime_type": mime_type, "size": decoded_size(data, start)}


def filed(file_id: str, modality: str, mime_type: str | None = None) -> Json:
    """Return the part for a file that lies at the provider."""
    return {"type": "file", "modality": modality, "mime_type": mime_type, "file_id": file_id}


def linked(url: str, modality: str, mime_type: str | None = None) -> Json:
    """Return the part for what a URL leads to, without its query and user; of a data URL the type and the size."""
    if _is_data_url(url):
        return _of_data_url(url.lstrip(), modality, mime_type)
    if "://" not in url[:_HEAD] and is_base64(url):  # which Ollama, for one, takes where others take a URL
        return blob(modality, mime_type, url)
    return {"type": "uri", "modality": modality, "mime_type": mime_type, "uri": bare(url)}


def _is_data_url(url: str) -> bool:
    return url[:_HEAD].lstrip()[:5].lower() == "data:"


def _of_data_url(url: str, modality: str, mime_type: str | None) -> Json:
    comma = url.find(",", 0, _HEAD)
    head = url[5 : comma if comma >= 0 else 5]
    mime_type = head.partition(";")[0].strip() or mime_type
    modality = modality_of(mime_type, modality)
    if head.rstrip().lower().endswith(";base64"):
        return blob(modality, mime_type, url, comma + 1)
    # Percent-encoded: three characters are one byte.
    size = len(url) - comma - 1 - 2 * url.count("%", comma + 1)
    return {"type": "blob", "modality": modality, "mime_type": mime_type, "size": max(0, size)}


def bare(url: str) -> str:
    """Return a URL without user, query and fragment, in which tokens and passwords stand."""
    head = url.partition("?")[0].partition("#")[0]
    scheme, mark, rest = head.partition("//")
    if not mark:
        return head
    server, slash, path = rest.partition("/")
    return f"{scheme}{mark}{server.rpartition('@')[2]}{slash}{path}"
