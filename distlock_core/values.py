"""`Value`: a named tuple, at a third of the price.

`typing.NamedTuple` compiles every annotation and brings in the typing module, which a short-lived command does not need
otherwise: together more than the interpreter's own start. To a type checker the two are the same.
"""

from __future__ import annotations

__all__ = ["Value"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NamedTuple as Value
else:
    from collections import namedtuple

    class _Fields(type):
        """Turns a class body of annotated fields into a subclass of the named tuple that has them."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
            fields = tuple(body.get("__annotations__", ()))
            if not bases:
                return super().__new__(cls, name, bases, body)
            defaults = [body.pop(field) for field in fields if field in body]

            base = namedtuple(name, fields, defaults=defaults, module=body["__module__"])  # noqa: PYI024 - that one is what this file replaces
            return type(name, (base,), {**body, "__slots__": ()})

    class Value(metaclass=_Fields):
        """Fields with annotations, those with defaults last: unchangeable, comparable, and cheap to make."""
