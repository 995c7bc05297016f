"""Where a client's requests pass, also where a peer wraps the same method."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from inspect import getattr_static
from typing import Any, NamedTuple

from otel_llm_sessions.patches import inherited

OPENINFERENCE = "openinference.instrumentation.openai"
BEFORE_OPENINFERENCE = {"OpenAI": "_original_request", "AsyncOpenAI": "_original_async_request"}
"""What OpenInference's instrumentor (0.1.66) calls the methods that its `uninstrument()` puts back."""
BEFORE_LOGFIRE = "_original_request_method"
"""What Logfire (5.4) calls the method of a client's class that it puts back."""


class Below(NamedTuple):
    """What a wrapper passes a request on to."""

    owner: Any
    """Where the wrapper stands."""
    found: Callable[..., Any]
    """Passes it to whatever the client meets there at that moment."""
    usual: Callable[..., Any]
    """What a client of the owner itself meets there, as long as ``holder`` has it."""
    holder: Any
    """Whose ``request`` that is."""


class Before(NamedTuple):
    """What a place is to hold again."""

    method: Any
    is_inherited: bool


class Place(NamedTuple):
    """A place that holds a method through which requests pass."""

    owner: Any
    name: str

    @property
    def own(self) -> Any:
        """What stands there; None where a class inherits it (`request`: openai 1.66 to 3.57), patched by nobody."""
        return vars(self.owner).get(self.name) if isinstance(self.owner, type) else getattr(self.owner, self.name, None)

    @property
    def method(self) -> Any:
        """What a request meets there."""
        return getattr(self.owner, self.name)

    @property
    def below(self) -> Below:
        """What a request meets there, for who is about to stand in front of it."""
        usual, holder = self.method, self._holder()
        found = usual if holder is self.owner else inherited(self.owner, self.name)
        return Below(self.owner, found, usual, holder)

    def _holder(self) -> Any:
        bases = self.owner.__mro__ if isinstance(self.owner, type) else ()
        return next((base for base in bases if self.name in vars(base)), self.owner)

    @property
    def before(self) -> Before:
        """What is to be put back there, as its class has it."""
        own = self.own
        return Before(getattr_static(self.owner, self.name) if own is None else own, own is None)

    def put(self, method: Any) -> None:
        """Have requests meet a method there."""
        setattr(self.owner, self.name, method)

    def put_back(self, before: Before) -> None:
        """Have requests meet there what they met before; a class that inherited it inherits it again."""
        bases = self.owner.__mro__[1:] if isinstance(self.owner, type) else ()
        inherits = [vars(base)[self.name] for base in bases if self.name in vars(base)]
        if inherits and (before.is_inherited or any(method is before.method for method in inherits)):
            delattr(self.owner, self.name)
        else:
            self.put(before.method)


def places_for_wrappers(client: Any) -> list[Place]:
    """Return where wrappers around a client class's requests are to stand.

    One stands outside of what was there before us, but inside of OpenInference: it wraps the same method, and a call
    has one span where its is around ours, whichever of the two was there first. A peer that came first will put back
    what was there before it, and us with it: the others stand where it keeps that.
    """
    outermost = Place(client, "request")
    place = _inside_openinference(outermost)
    kept = [Place(client, BEFORE_LOGFIRE)]
    if place is not outermost:
        kept += _kept_by_openinference(client)
    return [place, *(each for each in kept if each.own is not None)]


def places_of_wrappers(client: Any) -> Iterator[Place]:
    """Yield where wrappers of ours may be found: where we put them, and where peers have since moved them."""
    outermost = Place(client, "request")
    yield outermost
    yield _inside_openinference(outermost)
    yield Place(client, BEFORE_LOGFIRE)
    yield from _kept_by_openinference(client)


def _inside_openinference(place: Place) -> Place:
    while type(getattr(place.own, "_self_wrapper", None)).__module__.split(".")[0] == "openinference":
        place = Place(place.own, "__wrapped__")
    return place


def _kept_by_openinference(client: Any) -> Iterator[Place]:
    instrumentor = getattr(getattr(sys.modules.get(OPENINFERENCE), "OpenAIInstrumentor", None), "_instance", None)
    name = BEFORE_OPENINFERENCE.get(client.__name__)
    if instrumentor is not None and name is not None:
        yield Place(instrumentor, name)
