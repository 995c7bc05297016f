"""A server on loopback that speaks the OpenAI API, with whatever errors and oddities a test asks for."""

from .server import LoopbackServer

__all__ = ["LoopbackServer"]
