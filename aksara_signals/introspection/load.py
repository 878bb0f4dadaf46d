"""Importing the modules of an application, and calling its factory."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import pkgutil
import sys
import traceback
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy.exc import StatementError

from aksara_signals.dispatch.receivers.identity import type_name

__all__ = ["LoadError", "Walk", "find", "importing", "load"]


class LoadError(Exception):
    """A module or an application can't be loaded; the message says which one, and why."""


@dataclass(frozen=True)
class Walk:
    """How packages are imported with all modules below them."""

    excluded: Sequence[str] = ()
    """Dotted names of modules that are not imported, nor what is below them."""
    failed: dict[str, LoadError] = field(default_factory=dict)
    """The modules that could not be imported, and why; filled while packages are imported."""


@contextmanager
def load(
    modules: Sequence[str], application: str | None = None, walk: Walk | None = None
) -> Iterator[Any]:
    """Import modules, load an application, and yield it.

    During the imports, modules of the current folder can be imported, and what modules print goes
    to standard error: standard output belongs to the command. Until the end of the block, the
    application is alive, and so are its weakly connected receivers.

    Args:
        modules: Dotted names.
        application: ``module:attribute``. An attribute that can be called without arguments is
            called, and what it returns is awaited if it is awaitable.
        walk: How to import what is below packages; None imports nothing below them.

    Raises:
        LoadError: Something can't be imported, found or called.
    """
    with importing(), redirect_stdout(sys.stderr):
        for module in modules:
            found = _import(module)
            if walk is not None:
                _walk(found, walk)
        loaded = None if application is None else _load_application(application)
    yield loaded


def find(path: str, option: str) -> Any:
    """Import what ``module:attribute`` names, and return it as it is.

    Args:
        path: The path.
        option: What was given it, for error messages.

    Raises:
        LoadError: It can't be imported or found.
    """
    with importing(), redirect_stdout(sys.stderr):
        return _find(path, option, "module:name, such as app.main:outbox")


@contextmanager
def importing() -> Iterator[None]:
    """Let modules of the current folder be imported."""
    folder = str(Path.cwd())
    if folder in sys.path:
        yield
        return
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        if folder in sys.path:
            sys.path.remove(folder)


def _import(module: str) -> Any:
    if "/" in module or "\\" in module or module.endswith(".py"):
        raise LoadError(
            f"{module} is a path; write the name of the module, such as app.models, and run this "
            f"in the folder from which it is imported"
        )
    if not all(module.split(".")):
        raise LoadError(
            f"{module!r} is not the full name of a module; write one such as app.models"
        )
    return _attempt(f"could not import {module}", lambda: importlib.import_module(module))


def _walk(package: Any, walk: Walk) -> None:
    """Import what is below a package; go on with the others if one module can't be imported."""
    paths = getattr(package, "__path__", None)
    if paths is None:
        return
    for info in pkgutil.iter_modules(paths, f"{package.__name__}."):
        # A __main__ is a program, and importing it would run it.
        if info.name.endswith(".__main__") or info.name in walk.excluded:
            continue
        try:
            found = _import(info.name)
        except LoadError as error:
            walk.failed[info.name] = error
        else:
            _walk(found, walk)


def _find(path: str, option: str, example: str) -> Any:
    name, _, attributes = path.partition(":")
    if not name or not attributes:
        raise LoadError(f"{option} {path}: write it as {example}")
    found = _import(name)
    for attribute in attributes.split("."):
        if not hasattr(found, attribute):
            raise LoadError(f"{option} {path}: {name} has no attribute {attributes}")
        found = getattr(found, attribute)
    return found


def _load_application(path: str) -> Any:
    found = _find(path, "--app", "module:factory, such as app.main:create_app")
    if not _is_factory(found):
        return found
    return _attempt(f"could not load the application {path}", lambda: _call(found))


def _is_factory(thing: Any) -> bool:
    """Whether a thing can be called without arguments; an ASGI application needs arguments."""
    if not callable(thing):
        return False
    try:
        inspect.signature(thing).bind()
    except TypeError:
        return False
    except ValueError:  # its signature can't be read
        return True
    return True


def _call(factory: Callable[[], Any]) -> Any:
    made = factory()
    return asyncio.run(_result_of(made)) if inspect.isawaitable(made) else made


async def _result_of(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _attempt(what: str, action: Callable[[], Any]) -> Any:
    try:
        return action()
    except (Exception, SystemExit) as error:
        if isinstance(error, StatementError):
            error.hide_parameters = True  # parameters are values of columns
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if "importlib" in frame.filename else f" ({frame.filename}:{frame.lineno})"
        raise LoadError(f"{what}: {type_name(error)}: {error}{where}") from error
