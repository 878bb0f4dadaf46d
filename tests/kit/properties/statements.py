"""Random ORM statements, as lines of a story."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kit.properties.blueprints import Blueprint

if TYPE_CHECKING:
    from kit.properties.stories import Story

__all__ = ["INSERTS", "STATEMENTS", "StatementLines"]

INSERTS = ["insert", "insert_many", "insert_select"]
SEVERAL = ["insert_many", "insert_select", "upsert"]
"""The verbs of INSERTs that may write several rows, or none."""
STATEMENTS = ["update", "update", "update_by_key", "delete_where", *INSERTS, "upsert"]
"""The verbs of the statements."""
MODES = ('"auto"', '"evaluate"', '"fetch"', "False")


class StatementLines:
    """The lines that execute statements.

    Args:
        story: The lines are about its objects and classes.
    """

    def __init__(self, story: Story) -> None:
        self._story = story
        self._in_receiver = False

    @property
    def _blueprint(self) -> Blueprint:
        return self._story.blueprint

    @property
    def _dialect(self) -> Any:
        return self._story.session.get_bind().dialect

    def line_of(
        self, verb: str, name: str, choice: int, how: int, *, in_receiver: bool = False
    ) -> str:
        """What a statement comes to now, or an empty line: nothing.

        Args:
            verb: One of ``STATEMENTS``.
            name: The object that it is about.
            choice: Chooses among classes and columns.
            how: Chooses among the forms of the statement.
            in_receiver: Whether a receiver executes it.
        """
        self._in_receiver = in_receiver
        if verb in SEVERAL and not self._dialect.insert_returning:
            return ""  # refused
        make = {
            "update": self._update,
            "update_by_key": self._update_by_key,
            "delete_where": self._delete,
            "insert": self._insert,
            "insert_many": self._insert_many,
            "insert_select": self._insert_select,
            "upsert": self._upsert,
        }
        return make[verb](name, choice, how)

    # -- the statements ------------------------------------------------------------------------

    def _update(self, name: str, choice: int, how: int) -> str:
        number = self._class_of(name, choice)
        cls = self._blueprint.name(number)
        columns = self._columns(number, is_everywhere=False)
        if not columns:
            return ""
        count = self._story.next_number()
        column = columns[choice % len(columns)]
        value = (f'"s{count}"', f'func.upper("s{count}")', f'{cls}.{column} + "+"')[count % 3]
        statement = f"update({cls}){self._criteria(name, number, how)}.values({column}={value})"
        return self._executed(statement, number, count)

    def _update_by_key(self, name: str, choice: int, how: int) -> str:
        number = self._class_of(name, choice)
        root = self._blueprint.models[self._blueprint.root(number)]
        if "version" in root.extras:
            return ""  # SQLAlchemy can't check the version of rows that it hasn't loaded
        columns = self._columns(number, is_everywhere=True)
        count = self._story.next_number()
        known = self._story.known([number])
        start = known.index(name)
        rows = [
            f'{{"id": {each}.id, "{columns[(choice + place) % len(columns)]}": "s{count}"}}'
            for place, each in enumerate([*known[start:], *known[:start]][: 1 + how % 3])
        ]
        mode = MODES[0 if how % 2 else 1]
        return (
            f"session.execute(update({self._blueprint.name(number)}), [{', '.join(rows)}], "
            f'execution_options={{"synchronize_session": {mode}}})'
        )

    def _delete(self, name: str, choice: int, how: int) -> str:
        number = self._class_of(name, choice)
        if not all(self._is_in_one_table(each) for each in [number, self._story.number_of(name)]):
            return ""  # SQLAlchemy deletes the row of one table only, and leaves half an object
        statement = (
            f"delete({self._blueprint.name(number)}).where({self._is_one_of(number, [name])})"
        )
        return self._executed(statement, number, self._story.next_number(), how % 3)

    def _insert(self, name: str, choice: int, how: int) -> str:
        number = self._class_of(name, choice)
        count = self._story.next_number()
        values = self._values(number, count, 0)
        if not values or not self._is_in_one_table(number):
            return ""
        given = ", ".join(f"{key}={value}" for key, value in values.items())
        statement = f"insert({self._blueprint.name(number)}).values({given})"
        return self._executed(statement, number, count)

    def _insert_many(self, name: str, choice: int, how: int) -> str:
        number = self._class_of(name, choice)
        count = self._story.next_number()
        rows = []
        for place in range(1 + how % 3):
            values = self._values(number, count, place)
            if not values:
                return ""
            pairs = ", ".join(f'"{key}": {value}' for key, value in values.items())
            rows.append(f"{{{pairs}}}")
        statement = f"insert({self._blueprint.name(number)})"
        return self._executed(statement, number, count, parameters=f", [{', '.join(rows)}]")

    def _insert_select(self, name: str, choice: int, how: int) -> str:
        number = self._class_of(name, choice)
        if not self._is_in_one_table(number):
            return ""
        count = self._story.next_number()
        cls = self._blueprint.name(number)
        values = {key: f"{cls}.{key}" for key in self._values(number, count, 0)}
        if not values:
            return ""
        values["name"] = f'{cls}.name + "~"'
        if "id" in values:
            values["id"] = f"{cls}.id + {1000 * count}"
        # What a class is copied from must not be one of its subclasses, whose key may be elsewhere.
        found = f'select({", ".join(values.values())}).where({cls}.kind == "{cls}")'
        if how % 2:
            found += f".where({cls}.id == {name}.id)"
        columns = [key.replace("plain_", "column_") for key in values]
        statement = f"insert({cls}).from_select({columns}, {found})"
        return self._executed(statement, number, count)

    def _upsert(self, name: str, _: int, how: int) -> str:
        number = self._story.number_of(name)
        count = self._story.next_number()
        values = self._values(number, count, 0)
        if "id" not in values or not self._is_in_one_table(number):
            return ""
        dialect: str = self._dialect.name.replace("mariadb", "mysql")
        if how % 2:
            values["id"] = f"{name}.id"
        given = ", ".join(f"{key}={value}" for key, value in values.items())
        statement = f"{dialect}.insert({self._blueprint.name(number)}).values({given})"
        if self._story.knows_upserted and how % 3:
            conflict = f'on_conflict_do_update(index_elements=["id"], set_={{"name": "s{count}"}})'
        elif dialect == "mysql":
            conflict = 'prefix_with("IGNORE")'
        else:
            conflict = "on_conflict_do_nothing()"
        # The session doesn't know which of its objects an INSERT changes.
        return self._executed(f"{statement}.{conflict}", number, count) + (
            f"; session.refresh({name})"
        )

    # -- their parts ---------------------------------------------------------------------------

    def _executed(
        self, statement: str, number: int, count: int, mode: int | None = None, parameters: str = ""
    ) -> str:
        """The line that executes a statement; RETURNING, mode and silence depend on its number."""
        cls = self._blueprint.name(number)
        ending = ""
        if statement.startswith("update") and not self._dialect.update_returning:
            pass
        elif count % 4 == 1:
            statement, ending = f"{statement}.returning({cls}.id)", ".all()"
        elif count % 4 == 2 and self._is_in_one_table(number):
            statement, ending = f"{statement}.returning({cls})", ".all()"
        options = f'"story": {count}'
        if "insert(" not in statement:
            chosen = MODES[count % 4 if mode is None else mode]
            # What a receiver expires, others couldn't read.
            if chosen == "False" and self._in_receiver:
                chosen = MODES[0]
            options += f', "synchronize_session": {chosen}'
            if chosen == "False":
                ending += "; session.expire_all()"
        if count % 7 == 0:
            options += ', "signals": False'
        return f"session.execute({statement}{parameters}, execution_options={{{options}}}){ending}"

    def _criteria(self, name: str, number: int, how: int) -> str:
        cls = self._blueprint.name(number)
        known = self._story.known([number])
        return (
            "",
            f".where({self._is_one_of(number, [name])})",
            f".where({self._is_one_of(number, known[:3])})",
            f'.where({cls}.name.like("n%"))' if self._is_in_one_table(number) else "",
        )[how % 4]

    def _is_one_of(self, number: int, names: list[str]) -> str:
        cls = self._blueprint.name(number)
        keys = ", ".join(f"{name}.id" for name in names)
        return f"{cls}.id.in_([{keys}])"

    def _class_of(self, name: str, choice: int) -> int:
        """The class of an object, or one that it inherits from."""
        lineage = self._blueprint.lineage(self._story.number_of(name))
        return lineage[choice % len(lineage)]

    def _is_in_one_table(self, number: int) -> bool:
        return self._blueprint.table(number) == self._blueprint.table(self._blueprint.root(number))

    def _columns(self, number: int, *, is_everywhere: bool) -> list[str]:
        """The attributes of a class whose columns are in its own table, or in all of its tables."""
        blueprint = self._blueprint
        found = ["name"] if is_everywhere or self._is_in_one_table(number) else []
        for each in blueprint.lineage(number):
            if not is_everywhere and blueprint.table(each) != blueprint.table(number):
                continue
            low = blueprint.name(each).lower()
            extras = blueprint.models[each].extras
            found += [f"plain_{low}"] * ("column" in extras)
            found += [f"late_{low}"] * ("deferred" in extras)
            found += [f"served_{low}"] * ("server_default" in extras)
        return found

    def _values(self, number: int, count: int, place: int) -> dict[str, str]:
        """What a new row is given; nothing if it needs to refer to another one, and there is none."""
        blueprint, story = self._blueprint, self._story
        root = blueprint.models[blueprint.root(number)]
        found = {"name": f'"s{count}"', "kind": f'"{blueprint.name(number)}"'}
        if root.has_given_key:
            found["id"] = str(10_000 * (1 + place) + count)
        if "version" in root.extras:
            found["version"] = "1"
        for column in self._columns(number, is_everywhere=True)[1:]:
            if count % 2:
                found[column] = f'"s{count}"'
        for key, link in enumerate(blueprint.links):
            if link.is_required and not link.is_many_to_many:
                if link.target not in blueprint.lineage(number):
                    continue
                known = story.known([link.source])
                if not known:
                    return {}
                found[f"key{key}"] = f"{known[count % len(known)]}.id"
                story.set_by_column.add(key)
        return found
