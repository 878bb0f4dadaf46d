"""What is known of a statement before it is executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Mapper, ORMExecuteState

from aksara_signals.orm.bridge.statements import (
    entity_of,
    is_upsert,
    strategy_of,
    updated_by_default,
    upserted_names,
    written_names,
)
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.mapping.info import info_of
from aksara_signals.orm.statements.layout import RowLayout, layout_of_class, layout_of_table
from aksara_signals.orm.statements.refusals import refused, require_known_rows

OPTION = "signals"
"""The execution option that silences one statement."""
SILENT: dict[str, Any] = {OPTION: False}
"""The execution options of a statement that calls no receivers."""

_UPSERT = (Kind.CREATE, Kind.UPDATE, Kind.UPSERT)


def kinds_of(state: ORMExecuteState) -> tuple[Kind, ...]:
    """What a statement may do with a row; first what it does if nothing else is known."""
    if state.is_delete:
        return (Kind.DELETE,)
    if state.is_update:
        return (Kind.UPDATE,)
    return _UPSERT if is_upsert(state.statement) else (Kind.CREATE,)


@dataclass(frozen=True, slots=True, eq=False)
class OrmStatement:
    """An ORM statement whose rows are sent."""

    state: ORMExecuteState
    """The statement, as SQLAlchemy's listener gets it."""
    mapper: Mapper[Any]
    """The mapper of the class that it names."""
    kind: Kind
    """What it does with a row if nothing else is known."""
    entity: Any
    """What it writes to, as its criteria name it: the mapper, or an alias."""
    layout: RowLayout
    """How its rows are read."""
    names: frozenset[str]
    """The attributes that it sets, those that the database computes included."""
    names_written: frozenset[str]
    """The same, with those that an upsert sets only of rows that exist already."""

    @classmethod
    def of(cls, state: ORMExecuteState, mapper: Mapper[Any]) -> OrmStatement:
        """The facts about a statement.

        Raises:
            StatementSignalError: Its rows can't be known, whatever the database is.
        """
        require_known_rows(state, mapper)
        names = frozenset[str]() if state.is_delete else written_names(state, mapper)
        if state.is_update:
            names |= updated_by_default(mapper)
        written = names | upserted_names(state.statement, mapper)
        if state.is_insert and strategy_of(state) == "bulk" and len(mapper.tables) > 1:
            layout: RowLayout | None = layout_of_class(mapper, written)
        else:
            layout = layout_of_table(mapper, written)
        if layout is None:
            raise refused(
                state,
                mapper,
                f"the table {mapper.local_table} doesn't have its primary key",
                "add, change or delete the instances",
            )
        kind = kinds_of(state)[0]
        return cls(state, mapper, kind, entity_of(state.statement), layout, names, written)

    @property
    def returned(self) -> list[Any]:
        """What a RETURNING has to be given to return the rows."""
        if self.entity is self.mapper:
            return self.layout.returned
        return self.layout.returned_of(self.selectable)

    @property
    def selectable(self) -> Any:
        """The table that it writes to, or its alias."""
        return self.mapper.local_table if self.entity is self.mapper else self.entity.selectable

    @property
    def key_attributes(self) -> list[Any]:
        """The attributes of the primary key, for criteria."""
        return [getattr(self.entity.entity, name) for name in info_of(self.mapper).key_names]
