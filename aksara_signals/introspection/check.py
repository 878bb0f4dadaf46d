"""Every check, one after the other."""

from __future__ import annotations

import gc

from sqlalchemy.orm import configure_mappers

from aksara_signals.introspection.audience import Audiences
from aksara_signals.introspection.deletes import check_deletes
from aksara_signals.introspection.duplicates import check_duplicates
from aksara_signals.introspection.findings import Finding
from aksara_signals.introspection.senders import check_senders

__all__ = ["check"]


def check() -> list[Finding]:
    """Look for what is wrong with the live connections.

    Returns:
        Findings about senders, then about deletes, then about duplicates.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The classes can't be mapped as they are declared.
    """
    gc.collect()  # classes are cyclic garbage: one that nobody can reach is not live
    configure_mappers()
    audiences = Audiences()
    return [*check_senders(audiences), *check_deletes(), *check_duplicates(audiences)]
