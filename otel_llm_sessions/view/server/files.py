"""Style and script of the page: two files, read once, named by what is in them so that browsers need not ask again."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER: Final = Path(__file__).parent / "static"
TYPES: Final = {"view.css": "text/css", "view.js": "text/javascript", "icon.svg": "image/svg+xml"}
FOR_EVER: Final = "public, max-age=31536000, immutable"


class Files:
    """The files of the page."""

    def __init__(self) -> None:
        self._contents = {name: (FOLDER / name).read_bytes() for name in TYPES}
        self.routes = [Route("/static/{name}", self.file)]

    def address(self, name: str) -> str:
        """Return the address of a file, which changes with what is in it."""
        return f"/static/{name}?{hashlib.sha256(self._contents[name]).hexdigest()[:12]}"

    async def file(self, request: Request) -> Response:
        """Answer a file."""
        name = request.path_params["name"]
        if name not in self._contents:
            raise HTTPException(404)
        return Response(self._contents[name], 200, {"Cache-Control": FOR_EVER}, TYPES[name])
