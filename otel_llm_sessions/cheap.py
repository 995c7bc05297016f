"""Values that every call makes several of, made at a third of the usual cost.

What is counted here are instructions of CPython 3.11, with values of five fields; a whole call takes 450,000 of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from typing_extensions import dataclass_transform
else:

    def dataclass_transform(**_: bool) -> Callable[[Any], Any]:
        """Do nothing: only the type checker is told."""
        return lambda function: function


T = TypeVar("T")

new: Final = tuple.__new__
"""Makes a named tuple of all its fields, in their order: ``new(SpanRef, (trace_id, span_id, flags))``.

A named tuple's own ``__new__`` is a Python function that C code calls, which takes 2,800 instructions; this takes
1,050. Where no call passes, the class is called as everywhere.
"""


@dataclass_transform(frozen_default=True)
def value(kind: type[T]) -> type[T]:
    """Make a slotted dataclass of a class, frozen for the type checker alone.

    To make one takes 1,800 instructions, and to read a field 45; of a named tuple 2,800 and 190, of a dataclass that is
    frozen at run time too 8,100 and 45. So this is for what a call reads more than a few times.
    """
    return dataclass(slots=True)(kind)
