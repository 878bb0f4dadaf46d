"""Run every check, one after the other."""

from __future__ import annotations

import gc
import warnings
from dataclasses import dataclass

from sqlalchemy.orm import configure_mappers

from aksara_signals import all_signals
from aksara_signals.exceptions import AksaraSignalsWarning
from aksara_signals.introspection.built_in_senders import BuiltInSenders
from aksara_signals.introspection.duplicates import find_duplicates
from aksara_signals.introspection.findings import Finding
from aksara_signals.introspection.of_statements import find_of_statements
from aksara_signals.introspection.silent_deletes import find_silent_deletes
from aksara_signals.introspection.wrong_fields import find_wrong_fields
from aksara_signals.introspection.wrong_senders import find_wrong_senders
from aksara_signals.orm.bridge.classes import mapped_classes
from aksara_signals.orm.mapping.registered import wired_classes

__all__ = ["Inventory", "check", "take_inventory"]


@dataclass(frozen=True, slots=True)
class Inventory:
    """How much there is to check."""

    receivers: int
    """The number of connections, of all signals."""
    models: int
    """The number of mapped classes that send signals."""
    other_classes: int
    """The number of mapped classes that don't."""

    @property
    def remarks(self) -> list[str]:
        """Hints for a check that finds nothing because there is nothing to check."""
        remarks: list[str] = []
        if not self.receivers:
            remarks.append(
                "no receiver is connected by what was imported; also name the modules that connect "
                "receivers"
            )
        if not self.models and self.other_classes:
            remarks.append(
                "no mapped class sends signals; inherit SignalMixin, or register() the classes"
            )
        elif not self.models:
            remarks.append("no mapped class was imported; also name the modules that map classes")
        return remarks


def take_inventory() -> Inventory:
    """Count what there is to check."""
    models = len(wired_classes())
    return Inventory(
        receivers=sum(len(signal.connections) for signal in all_signals()),
        models=models,
        other_classes=len(list(mapped_classes())) - models,
    )


def check() -> list[Finding]:
    """Look for mistakes in the live connections.

    Returns:
        Findings about senders, then those about attributes, deletes, duplicates and statements.

    Raises:
        sqlalchemy.exc.SQLAlchemyError: The classes can't be mapped as they are declared.
    """
    gc.collect()  # a class refers to itself: one that is used no longer is only freed here
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AksaraSignalsWarning)  # they are reported as findings
        configure_mappers()
    built_in = BuiltInSenders()
    return [
        *find_wrong_senders(built_in),
        *find_wrong_fields(built_in),
        *find_silent_deletes(),
        *find_duplicates(built_in),
        *find_of_statements(),
    ]
