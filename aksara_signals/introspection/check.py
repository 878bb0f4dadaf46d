"""Every check, one after the other."""

from __future__ import annotations

import gc
import warnings
from dataclasses import dataclass

from sqlalchemy.orm import configure_mappers

from aksara_signals import all_signals
from aksara_signals.exceptions import AksaraSignalsWarning
from aksara_signals.introspection.audience import Audiences
from aksara_signals.introspection.deletes import check_deletes
from aksara_signals.introspection.duplicates import check_duplicates
from aksara_signals.introspection.findings import Finding
from aksara_signals.introspection.senders import check_senders
from aksara_signals.orm.bridge.classes import mapped_classes
from aksara_signals.orm.mapping.registered import wired_classes

__all__ = ["Seen", "check", "look"]


@dataclass(frozen=True, slots=True)
class Seen:
    """How much there was to check."""

    receivers: int
    """Connections, of all signals."""
    models: int
    """Mapped classes that send signals."""
    other_classes: int
    """Mapped classes that don't."""

    @property
    def remarks(self) -> list[str]:
        """What is missing, for a check that finds nothing because it sees nothing."""
        remarks: list[str] = []
        if not self.receivers:
            remarks.append(
                "no receiver is connected by what was imported; name the modules that connect "
                "receivers, too"
            )
        if not self.models and self.other_classes:
            remarks.append(
                "no mapped class sends signals; inherit SignalMixin, or register() the classes"
            )
        elif not self.models:
            remarks.append("no mapped class was imported; name the modules that map classes, too")
        return remarks


def look() -> Seen:
    """Count what there is to check."""
    models = len(wired_classes())
    return Seen(
        receivers=sum(len(signal.connections) for signal in all_signals()),
        models=models,
        other_classes=len(list(mapped_classes())) - models,
    )


def check() -> list[Finding]:
    """Look for what is wrong with the live connections.

    Returns:
        Findings about senders, then about deletes, then about duplicates.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The classes can't be mapped as they are declared.
    """
    gc.collect()  # classes are cyclic garbage: one that nobody can reach is not live
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AksaraSignalsWarning)  # what it says is a finding here
        configure_mappers()
    audiences = Audiences()
    return [*check_senders(audiences), *check_deletes(), *check_duplicates(audiences)]
