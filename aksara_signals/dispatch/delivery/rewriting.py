"""Rewrites the source of the loops for certain names of arguments; imported when it is needed."""

from __future__ import annotations

import inspect
from functools import cache
from types import CodeType, FunctionType
from typing import Any

_READ = "_, _, sequential, arguments, concurrent, extras = delivery\n"
_CALL = "call(**arguments)"
_COLLECT = "responses.append((receiver, response))\n"
"""The places in the source of each loop that are rewritten, all of them within their line."""


def rewritten(loop: Any, names: tuple[str, ...], *, collects: bool) -> FunctionType | None:
    """A version of a loop for these names of arguments.

    Args:
        loop: One of the loops.
        names: Of all arguments, in the order in which receivers get them.
        collects: Whether it collects responses.

    Returns:
        None if the source isn't there, or is no longer what the loop was made from.
    """
    source = _source_of(loop)
    if source is None:
        return None
    variables = {name: f"argument_{place}" for place, name in enumerate(names)}
    reads = "; ".join(f"{variable} = arguments[{name!r}]" for name, variable in variables.items())
    keywords = ", ".join(f"{name}={variable}" for name, variable in variables.items())
    source = source.replace(_READ, f"{_READ.rstrip()}; {reads}\n")
    source = source.replace(_CALL, f"call({keywords})")
    if not collects:
        source = source.replace(_COLLECT, "pass\n")
    made = FunctionType(_compiled(source, loop), loop.__globals__, loop.__name__)
    made.__defaults__, made.__kwdefaults__ = loop.__defaults__, loop.__kwdefaults__
    made.__module__, made.__doc__ = loop.__module__, loop.__doc__
    return made


@cache
def _source_of(loop: FunctionType) -> str | None:
    try:
        source = inspect.getsource(loop)
        now, then = _compiled(source, loop), loop.__code__
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    # Its file may have been replaced meanwhile.
    is_its_own = all(
        getattr(now, each) == getattr(then, each) for each in ("co_code", "co_names", "co_varnames")
    )
    has_places = all(source.count(each) == 1 for each in (_READ, _CALL, _COLLECT))
    return source if is_its_own and has_places else None


def _compiled(source: str, loop: Any) -> CodeType:
    """The code of a function, at the lines at which the loop stands."""
    code = loop.__code__
    lines_before = "\n" * (code.co_firstlineno - 1)
    module = compile(lines_before + source, code.co_filename, "exec")
    [found] = [each for each in module.co_consts if isinstance(each, CodeType)]
    return found
