"""See it: a page that shows live what is sent, who receives it, and how it ends.

::

    from aksara_signals.contrib.inspector import Inspector

    app.mount("/signals", Inspector(debug=True))
"""

from __future__ import annotations

try:
    import jinja2 as _jinja2
    import starlette as _starlette
except ImportError as _error:
    raise ImportError(
        "aksara_signals.contrib.inspector needs Starlette and Jinja2: "
        "pip install 'aksara-signals[inspector]'"
    ) from _error

from aksara_signals.contrib.inspector.inspector import Inspector

__all__ = ["Inspector"]

del _jinja2, _starlette
