"""The viewer as a server: page, JSON API, who may use them. Starlette, uvicorn and jinja2 are imported here alone."""
