"""`Value`: a named tuple that takes a tenth of the time to define.

`typing.NamedTuple` imports the typing module, which a short-lived command does not need otherwise, and
`collections.namedtuple` compiles a constructor for each class. Here all classes share one constructor. To a type
checker the two are the same.
"""

from __future__ import annotations

__all__ = ["Value"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import NamedTuple as Value
else:
    try:  # the C code of `collections.namedtuple`, whose module is Python code that is loaded for nothing
        from _collections import _tuplegetter as _field
    except ImportError:
        from _operator import itemgetter

        def _field(index: int, _: None) -> property:
            return property(itemgetter(index))

    class _Fields(type):
        """Turns the annotated names of a class body into the fields of a tuple."""

        def __new__(cls, name: str, bases: tuple[type, ...], body: dict[str, object]) -> type:
            fields = tuple(body.get("__annotations__", ()))
            defaults = {field: body.pop(field) for field in fields if field in body}
            body.update((field, _field(index, None)) for index, field in enumerate(fields))
            body.update(__slots__=(), __match_args__=fields, _fields=fields, _field_defaults=defaults)
            return type.__new__(cls, name, bases, body)

    class Value(tuple, metaclass=_Fields):
        """An immutable, comparable tuple of annotated fields, those with defaults last."""

        def __new__(cls, *values: object, **named: object) -> Value:
            if named or len(values) != len(cls._fields):
                values = cls._complete(values, named)
            return tuple.__new__(cls, values)

        @classmethod
        def _complete(cls, values: tuple[object, ...], named: dict[str, object]) -> list[object]:
            rest, defaults = cls._fields[len(values) :], cls._field_defaults
            missing = [field for field in rest if field not in named and field not in defaults]
            unknown = [field for field in named if field not in rest]
            if missing or unknown or len(values) > len(cls._fields):
                given = f"{len(values)} values and {sorted(named)}"
                raise TypeError(f"{cls.__name__} takes {', '.join(cls._fields)}: not {given}")
            return [*values, *[named[field] if field in named else defaults[field] for field in rest]]

        @classmethod
        def _make(cls, values: Iterable[object]) -> Value:
            return cls(*values)

        def _replace(self, **changes: object) -> Value:
            values = [changes.pop(field, value) for field, value in zip(self._fields, self)]
            if changes:
                raise TypeError(f"{type(self).__name__} has no field {min(changes)!r}")
            return tuple.__new__(type(self), values)

        def _asdict(self) -> dict[str, object]:
            return dict(zip(self._fields, self))

        def __getnewargs__(self) -> tuple[object, ...]:
            return tuple(self)

        def __repr__(self) -> str:
            fields = ", ".join(f"{field}={value!r}" for field, value in self._asdict().items())
            return f"{type(self).__name__}({fields})"
