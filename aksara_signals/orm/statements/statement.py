"""What is known of a statement before it is executed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Mapper, ORMExecuteState

from aksara_signals.orm.bridge.statements import is_upsert, updated_by_default, written_names
from aksara_signals.orm.kind import Kind
from aksara_signals.orm.statements.layout import RowLayout, layout_of

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
    layout: RowLayout
    """How its rows are read."""
    names: frozenset[str]
    """The attributes that it sets, those that the database computes included."""

    @classmethod
    def of(cls, state: ORMExecuteState, mapper: Mapper[Any]) -> OrmStatement:
        """The facts about a statement whose rows can be known."""
        names = frozenset[str]() if state.is_delete else written_names(state, mapper)
        if state.is_update:
            names |= updated_by_default(mapper)
        table: Any = mapper.local_table
        return cls(state, mapper, kinds_of(state)[0], layout_of(mapper, table), names)
