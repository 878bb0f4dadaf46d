"""Configuration of the documentation."""

import ast
import re
from importlib.metadata import version as installed_version
from pathlib import Path

from sphinx.errors import ExtensionError

project = "aksara_signals"
author = "the aksara_signals authors"
project_copyright = author
release = version = installed_version("aksara-signals")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.intersphinx",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
default_role = "py:obj"

html_theme = "furo"
html_title = f"{project} {release}"
html_static_path = ["_static"]
html_css_files = ["pages.css"]
html_domain_indices = False  # no page links to them

# Only the commands of a console block are copied, without their prompt and output.
copybutton_prompt_text = "$ "
copybutton_selector = "div:not(.highlight-output):not(.highlight-text) > div.highlight > pre"

autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
# "Source:" says where a behaviour was taken from.
napoleon_custom_sections = [("Source", "notes_style")]

# Our own inventories, with the names that our pages refer to: a build needs no network, and two
# builds of one commit have the same links. A test looks up each name in Python.
intersphinx_mapping = {
    "python": ("https://docs.python.org/3", "inventories/python.inv"),
    "sqlalchemy": ("https://docs.sqlalchemy.org/en/20", "inventories/sqlalchemy.inv"),
}
_DOCUMENTED_AS = {
    "sqlalchemy.engine.base.": "sqlalchemy.engine.",
    "sqlalchemy.ext.asyncio.engine.": "sqlalchemy.ext.asyncio.",
    "sqlalchemy.ext.asyncio.session.": "sqlalchemy.ext.asyncio.",
    "sqlalchemy.orm.session.": "sqlalchemy.orm.",
    "sqlalchemy.sql.elements.": "sqlalchemy.sql.expression.",
}
"""The module under which SQLAlchemy's documentation lists the classes of a module."""

# References are checked (-n). Names of other libraries that no inventory has stay plain text.
# Aliases of types are data, which a type can't refer to.
_FOREIGN = (
    r"asyncio|collections|contextlib|datetime|inspect|logging|opentelemetry|sqlalchemy|types|typing"
    r"|taskiq|uuid|weakref"
)
_INTERNAL = r"aksara_signals\.(dispatch|orm|testing|contrib\.outbox)(\.[a-z_]+)+"
_ALIASES = (
    r"~P|AnySession|AnySignal|Delivery|Changes|Event|ModelT|Publish|Receiver|ReceiverT|Responses|Sender|Senders"
    r"|ASGIApp|Circumstances|QueryableAttribute|MetaData|Mode|Sessions|Source|T"
)
nitpick_ignore_regex = [
    (r"py:.*", rf"({_FOREIGN})\..*"),
    (r"py:.*", rf"{_INTERNAL}\..*"),
    (
        r"py:.*",
        rf"(aksara_signals\.(types|orm\.session\.current|contrib\.outbox(\.[a-z]+)+)\.)?({_ALIASES})",
    ),
    (
        r"py:.*",
        r"(aksara_signals\.types\.V|Any|BaseException|Exception|[A-Z][A-Za-z]*Error|None|bool|str|int|type|dict|list)",
    ),
]


def keep_colon(app, what, name, obj, options, lines):  # noqa: PLR0917 - autodoc's signature
    """Keep napoleon from taking what stands before a colon in a value's docstring for its type."""
    if what in {"attribute", "data"} and lines:
        lines[0] = f":{lines[0]}"


_SHOWN = {
    "reference/coming-from.rst": (
        "compatibility/seeds/test_*.py",
        "compatibility/peers/test_django_differs_*.py",
    ),
    "howto/from-blinker.rst": ("compatibility/peers/test_blinker_differs_*.py",),
}
"""The tests that a page has to list, each once, and no others."""


def check_promises(app):
    """Compare the pages about other libraries with the tests that show what they say."""
    for page, patterns in _SHOWN.items():
        text = (Path(app.srcdir) / page).read_text(encoding="utf-8")
        listed = re.findall(r"``(test_\w+\.test_\w+)``", text)
        tests = Path(app.srcdir).parent / "tests"
        shown = {
            f"{path.stem}.{node.name}"
            for pattern in patterns
            for path in tests.glob(pattern)
            for node in ast.parse(path.read_text(encoding="utf-8")).body
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
            and node.name.startswith("test_")
            and path.stem != "test_the_tests_mean_it"
        }
        if not shown or shown != set(listed) or len(listed) != len(set(listed)):
            differing = sorted(shown.symmetric_difference(listed))
            raise ExtensionError(
                f"{page} and {', '.join(patterns)} differ in {differing}, or a test is listed twice"
            )


def refer_as_documented(app, env, node, contnode):
    """Give a class of SQLAlchemy the name under which its own documentation lists it."""
    module, dot, name = node.get("reftarget", "").rpartition(".")
    if module + dot in _DOCUMENTED_AS:
        node["reftarget"] = _DOCUMENTED_AS[module + dot] + name


def setup(app):
    """Connect the hooks that autodoc calls, before napoleon at 500, and our own checks."""
    app.connect("missing-reference", refer_as_documented, priority=400)  # intersphinx is at 500
    app.connect("builder-inited", check_promises)
    app.connect("autodoc-process-docstring", keep_colon, priority=400)
