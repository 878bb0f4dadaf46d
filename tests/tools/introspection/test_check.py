"""What ``aksara-signals check`` finds, and what it leaves alone."""

from __future__ import annotations

import json

import pytest

from aksara_signals.introspection.names import Place, place_of_connection

MODELS = """
    from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Table, select
    from sqlalchemy.orm import DeclarativeBase, Mapped, backref, mapped_column, relationship

    from aksara_signals import *
    from aksara_signals.orm import SignalMixin, register

    class Base(SignalMixin, DeclarativeBase):
        pass

    links = Table(
        "links",
        Base.metadata,
        Column("leaflet_id", ForeignKey("leaflet.id"), primary_key=True),
        Column("label_id", ForeignKey("label.id"), primary_key=True),
    )
    one_way = Table(
        "one_way",
        Base.metadata,
        Column("leaflet_id", ForeignKey("leaflet.id"), primary_key=True),
        Column("stamp_id", ForeignKey("stamp.id"), primary_key=True),
    )
    unused = Table("unused", Base.metadata, Column("id", ForeignKey("leaflet.id")))

    class Leaflet(Base):
        __tablename__ = "leaflet"
        id: Mapped[int] = mapped_column(primary_key=True)
        labels: Mapped[list["Label"]] = relationship(secondary=links, back_populates="leaflets")
        stamps: Mapped[list["Stamp"]] = relationship(secondary=one_way)

    class Brochure(Leaflet):
        pass

    class Label(Base):
        __tablename__ = "label"
        id: Mapped[int] = mapped_column(primary_key=True)
        leaflets: Mapped[list[Leaflet]] = relationship(secondary=links, back_populates="labels")

    class Stamp(Base):
        __tablename__ = "stamp"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Reader(Base):
        __tablename__ = "reader"
        id: Mapped[int] = mapped_column(primary_key=True)
        leaflet_id: Mapped[int] = mapped_column(ForeignKey("leaflet.id"))
        leaflet: Mapped[Leaflet] = relationship()

    class Shelf(Base):
        __tablename__ = "shelf"
        id: Mapped[int] = mapped_column(primary_key=True)
        room_id: Mapped[int | None] = mapped_column(ForeignKey("room.id"))

    class Room(Base):
        __tablename__ = "room"
        id: Mapped[int] = mapped_column(primary_key=True)
        shelves: Mapped[list[Shelf]] = relationship()

    class Unwired(DeclarativeBase):
        pass

    class Pencil(Unwired):
        __tablename__ = "pencil"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Abstract(Base):
        __abstract__ = True

    class Novel(Abstract):
        __tablename__ = "novel"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Unmapped: ...

    def notify(**kwargs): ...
"""


def check(project, code, *arguments, models=MODELS, name="checked"):
    project.write(name, models + code)
    status, out, err = project.run("check", name, "--json", *arguments)
    assert err == ""
    found = json.loads(out)
    assert found["models"]
    for each in found["findings"]:
        assert set(each) == {"code", "severity", "what", "receiver", "file", "line", "remedy"}
        assert each["remedy"]
    severities = [each["severity"] for each in found["findings"]]
    errors = severities.count("error")
    assert found["errors"] == errors
    assert found["warnings"] == severities.count("warning")
    assert found["notes"] == severities.count("note")
    assert len(severities) == errors + found["warnings"] + found["notes"]
    assert status == int(errors > 0 or ("--strict" in arguments and found["warnings"] > 0))
    return found["findings"]


def codes(found):
    return [each["code"] for each in found]


@pytest.mark.parametrize(
    "connect",
    [
        "post_save.connect(notify)",
        "post_save.connect(notify, Leaflet)",
        "post_save.connect(notify, 'Leaflet')",
        "post_save.connect(notify, 'checked.Leaflet')",
        "post_save.connect(notify, Base)",
        "post_save.connect(notify, 'Base')",
        "post_save.connect(notify, Abstract)",
        "post_init.connect(notify, Brochure, exact=True)",
        "register(Unwired); post_delete.connect(notify, Pencil)",
        "post_bulk_create.connect(notify, Leaflet)",
        "m2m_changed.connect(notify)",
        "m2m_changed.connect(notify, links)",
        "m2m_changed.connect(notify, Leaflet)",
        "m2m_changed.connect(notify, Label)",
        "m2m_changed.connect(notify, Brochure)",
        "m2m_changed.connect(notify, 'Leaflet')",
        "m2m_changed.connect(notify, Leaflet.labels)",
        "m2m_changed.connect(notify, Label.leaflets)",
        "post_save.connect(notify, created=True); post_save.connect(notify, Leaflet, created=False)",
        "post_save.connect(notify, Leaflet.id); post_save.connect(notify, Brochure, fields='id')",
        "post_save.connect(notify, Base, fields='id')",
        "post_save.connect(notify, Leaflet, transition={'id': (1, 2)}, created=False)",
        "post_save.connect(notify, Leaflet, transition={'id': ({None, 1}, ...)}, created=True)",
        "post_save.connect(notify, Leaflet, transition={'id': (1, True)})",
        "post_relation_add.connect(notify, Leaflet)",
        "post_relation_add.connect(notify, Room)",
        "pre_migrate.connect(notify, 'upgrade')",
        "Signal('paid').connect(notify, 'shop')",
        "paid = Signal('paid'); paid.connect(notify, ['shop', 'Leaflet', Unmapped, links, 7])",
        "@post_save(Leaflet, weak=True)\n    def gone(**kwargs): ...\n    del gone",
    ],
)
def test_sound_connections_are_left_alone(project, connect):
    """Whatever is sent to its receiver is no finding, and the status is 0."""
    assert check(project, f"\n    {connect}\n") == []


@pytest.mark.parametrize(
    ("connect", "what", "remedy"),
    [
        ("post_save.connect(notify, Unmapped)", "neither it nor a subclass is mapped", "map it"),
        ("post_save.connect(notify, Pencil)", "without SignalMixin", "register()"),
        ("post_save.connect(notify, Unwired)", "without SignalMixin", "register()"),
        ("post_save.connect(notify, 'Pencil')", "without SignalMixin", "register()"),
        ("post_save.connect(notify, 'Unwired')", "no class of this name sends", "SignalMixin"),
        ("post_save.connect(notify, Abstract, exact=True)", "only its subclasses", "exact"),
        ("m2m_changed.connect(notify, Room)", "has no many-to-many", "give a class that has one"),
        ("m2m_changed.connect(notify, Stamp)", "has no many-to-many", "give a class that has one"),
        ("m2m_changed.connect(notify, 'Room')", "has no many-to-many", "give a class that has one"),
        ("m2m_changed.connect(notify, unused)", "no many-to-many relationship of", "secondary="),
        ("m2m_changed.connect(notify, Pencil)", "without SignalMixin", "register()"),
        (
            "post_relation_add.connect(notify, Reader)",
            "no relationship to many objects",
            "the other side",
        ),
        ("pre_migrate.connect(notify, Leaflet)", "commands of Alembic", "'upgrade'"),
    ],
)
def test_receiver_that_is_never_sent_anything(project, connect, what, remedy):
    """A receiver on a signal that its sender never sends is an error."""
    [found] = check(project, f"\n    {connect}\n")
    assert (found["code"], found["severity"]) == ("never-sent", "error")
    assert what in found["what"]
    assert remedy in found["remedy"]
    assert (found["receiver"], found["file"]) == ("checked.notify", "checked.py")
    assert found["line"] == MODELS.strip().splitlines().index("    def notify(**kwargs): ...") + 1


@pytest.mark.parametrize(
    ("connect", "severity", "offer"),
    [
        ("post_save.connect(notify, 'Leafle')", "error", "did you mean 'Leaflet'?"),
        (
            "m2m_changed.connect(notify, 'checked.Leafet')",
            "error",
            "did you mean 'checked.Leaflet'?",
        ),
        ("post_save.connect(notify, 'Qqqqqqqq')", "error", "names no mapped class"),
        ("post_migrate.connect(notify, 'upgrad')", "error", "did you mean 'upgrade'?"),
        ("post_migrate.connect(notify, 'Leaflet')", "error", "names no command of Alembic"),
        ("paid = Signal('paid'); paid.connect(notify, 'Leafle')", "warning", "'Leaflet'?"),
    ],
)
def test_string_that_names_nothing(project, connect, severity, offer):
    """A misspelt string sender is found; on a custom signal it may be meant, so it is a warning."""
    [found] = check(project, f"\n    {connect}\n")
    assert (found["code"], found["severity"]) == ("unresolved-sender", severity)
    assert offer in found["what"]


def test_string_that_names_two_classes(project):
    """A string that became ambiguous after it was connected is an error."""
    [found] = check(
        project,
        """
    post_save.connect(notify, "Leaflet")

    class Other:
        class Leaflet(Unwired):
            __tablename__ = "other"
            id: Mapped[int] = mapped_column(primary_key=True)
    """,
    )
    assert (found["code"], found["severity"]) == ("ambiguous-sender", "error")
    assert "checked.Leaflet, checked.Other.Leaflet" in found["what"]
    status, _, err = project.run("receivers", "checked", "--sender", "checked.Leaflet", "--json")
    assert status == 2
    assert "[AKS-103]" in err


FAMILY = """
    from sqlalchemy import Column, ForeignKey, ForeignKeyConstraint, Integer, Table
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

    from aksara_signals import post_delete, post_save, pre_delete
    from aksara_signals.orm import SignalMixin

    class Base(SignalMixin, DeclarativeBase):
        pass

    class Child(Base):
        __tablename__ = "child"
        id: Mapped[int] = mapped_column(primary_key=True)
        parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id", ondelete={rule!r}))

    class Parent(Base):
        __tablename__ = "parent"
        id: Mapped[int] = mapped_column(primary_key=True)
        {relationship}

    def notify(**kwargs): ...
    def notify_too(**kwargs): ...
"""
CHILDREN = "children: Mapped[list[Child]] = relationship({})"
CONNECT = "\n    post_delete.connect(notify, Child)\n"


def family(rule, relationship):
    return FAMILY.replace("{rule!r}", repr(rule)).replace("{relationship}", relationship)


@pytest.mark.parametrize(
    ("rule", "relationship", "what"),
    [
        ("CASCADE", CHILDREN.format("passive_deletes=True"), "passive_deletes=True: children that"),
        (None, CHILDREN.format("passive_deletes=True"), "passive_deletes=True: children that are"),
        ("cascade", CHILDREN.format("passive_deletes='all'"), "passive_deletes='all': children ("),
        (
            "CASCADE",
            CHILDREN.format("cascade='all, delete-orphan', passive_deletes=True"),
            "Parent.children has",
        ),
        ("CASCADE", "", "child.parent_id is ON DELETE CASCADE to parent"),
        ("CASCADE", CHILDREN.format("viewonly=True"), "no relationship from there leads to"),
    ],
)
def test_children_that_the_database_deletes(project, rule, relationship, what):
    """Delete receivers of rows that go without the session's knowledge are warned of."""
    [found] = check(project, CONNECT, models=family(rule, relationship))
    assert (found["code"], found["severity"]) == ("silent-delete", "warning")
    assert what in found["what"]
    assert "checked.Child" in found["what"]
    assert found["receiver"] == "checked.notify"
    assert codes(check(project, CONNECT, "--strict", models=family(rule, relationship))) == [
        "silent-delete"
    ]


@pytest.mark.parametrize(
    ("rule", "relationship", "connect"),
    [
        ("CASCADE", CHILDREN.format("passive_deletes=True"), "post_save.connect(notify, Child)"),
        ("CASCADE", CHILDREN.format("passive_deletes=True"), "post_delete.connect(notify, Parent)"),
        ("CASCADE", CHILDREN.format("cascade='all, delete-orphan'"), CONNECT.strip()),
        ("CASCADE", CHILDREN.format(""), CONNECT.strip()),
        ("SET NULL", CHILDREN.format("passive_deletes=True"), CONNECT.strip()),
        (None, CHILDREN.format(""), CONNECT.strip()),
        (None, "", CONNECT.strip()),
        (
            "CASCADE",
            "",
            "Child.parent = relationship(Parent, backref='children'); " + CONNECT.strip(),
        ),
    ],
)
def test_deletes_by_the_session_or_without_receivers(project, rule, relationship, connect):
    """No warning where the session deletes the children, they stay, or no receiver is connected."""
    assert check(project, f"\n    {connect}\n", models=family(rule, relationship)) == []


def test_relationship_without_a_foreign_key_is_left_to_the_database(project):
    """Without a foreign key in the metadata, the database may have any."""
    children = CHILDREN.format(
        "primaryjoin='Parent.id == foreign(Child.number)', passive_deletes=True"
    )
    models = family(None, children).replace(
        'parent_id: Mapped[int | None] = mapped_column(ForeignKey("parent.id", ondelete=None))',
        "number: Mapped[int]",
    )
    assert codes(check(project, CONNECT, models=models)) == ["silent-delete"]


@pytest.mark.parametrize("children", [CHILDREN.format("passive_deletes=True"), ""])
def test_several_receivers_of_one_delete_are_one_finding(project, children):
    """The first receiver is named, the others are counted; subclasses don't repeat the warning."""
    found = check(
        project,
        """
    class Grandchild(Child):
        pass

    class Uncle(Parent):
        pass

    pre_delete.connect(notify, Base)
    post_delete.connect(notify_too, [Child, Grandchild])
    """,
        models=family("CASCADE", children),
    )
    assert codes(found) == ["silent-delete", "reached-twice"]
    assert found[0]["what"].endswith("without calling checked.notify and 1 more")


def test_child_whose_foreign_key_is_its_base_class(project):
    """A cascade to the row of the base class takes the object of the subclass with it."""
    found = check(
        project,
        """
    class Grandchild(Child):
        __tablename__ = "grandchild"
        id: Mapped[int] = mapped_column(ForeignKey("child.id"), primary_key=True)

    post_delete.connect(notify, Grandchild)
    """,
        models=family("CASCADE", ""),
    )
    assert codes(found) == ["silent-delete"]


def test_row_of_a_base_class_is_no_parent(project):
    """Joined inheritance deletes both rows itself, whatever the foreign key says."""
    models = """
    from sqlalchemy import ForeignKey, Integer, column, table
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

    from aksara_signals import post_delete
    from aksara_signals.orm import SignalMixin, register

    class Base(SignalMixin, DeclarativeBase):
        pass

    class Sheet(Base):
        __tablename__ = "sheet"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Map(Sheet):
        __tablename__ = "map"
        id: Mapped[int] = mapped_column(ForeignKey("sheet.id", ondelete="CASCADE"), primary_key=True)
        other_id: Mapped[int | None] = mapped_column(ForeignKey("sheet.id"))
        __mapper_args__ = {"inherit_condition": id == Sheet.id}

    class Pin(Base):
        __tablename__ = "pin"
        id: Mapped[int] = mapped_column(primary_key=True)
        map_id: Mapped[int] = mapped_column(ForeignKey("map.id"))

    Map.pins = relationship(Pin, passive_deletes=True)

    class View(Base):
        __table__ = table("view", column("id", Integer))
        __mapper_args__ = {"primary_key": [__table__.c.id]}
        pins = relationship(Pin, viewonly=True, primaryjoin="View.id == foreign(Pin.map_id)")

    Sheet.views = relationship(
        View, primaryjoin="Sheet.id == foreign(View.id)", passive_deletes=True
    )

    def notify(**kwargs): ...
    post_delete.connect(notify, [Sheet])
    """
    assert check(project, "", models=models) == []
    found = check(
        project, "\n    post_delete.connect(notify, View)\n", models=models, name="checked_b"
    )
    assert codes(found) == ["silent-delete"]
    assert "Sheet.views" in found[0]["what"]


def test_module_that_was_executed_twice(project):
    """A module that was loaded again has replaced its receivers: nothing is found."""
    project.write(
        "twice",
        """
        from aksara_signals import Signal, post_save
        import registry_of_signals

        @registry_of_signals.paid.connect(sender="shop")
        def notify(**kwargs): ...
        """,
    )
    project.write("registry_of_signals", "from aksara_signals import Signal\npaid = Signal('paid')")
    project.write("again", "import twice, importlib\nold = twice.notify\nimportlib.reload(twice)")
    status, out, _ = project.run("check", "again", "--json")
    assert (status, json.loads(out)["findings"]) == (0, [])


def test_module_that_was_imported_under_two_names(project):
    """One source under two module names is found, too."""
    (project.folder / "package").mkdir()
    (project.folder / "package" / "inner.py").write_text(
        "import registry_of_signals\n\n@registry_of_signals.paid\ndef notify(**kwargs): ...\n"
    )
    project.write("registry_of_signals", "from aksara_signals import Signal\npaid = Signal('paid')")
    project.write(
        "both",
        "import os, sys\nsys.path.append(os.path.abspath('package'))\n"
        "import package.inner, inner\nsys.path.pop()",
    )
    [found] = json.loads(project.run("check", "both", "--json")[1])["findings"]
    assert found["code"] == "duplicate-receiver"
    assert "of inner and package.inner are connected to paid for all" in found["what"]


def test_function_that_connects_was_called_twice(project):
    """Receivers made inside a function are copies if they are exactly the same."""
    found = check(
        project,
        """
    def connect():
        @post_save(Leaflet)
        def inner(**kwargs): ...

    connect()
    connect()
    """,
    )
    assert codes(found) == ["duplicate-receiver"]


@pytest.mark.parametrize(
    "code",
    [
        "for n in range(2): post_save.connect(lambda n=n, **kwargs: n, Leaflet)",
        (
            "def make(n):\n        return lambda **kwargs: n\n"
            "    post_save.connect(make(1), Leaflet); post_save.connect(make(2), Leaflet)"
        ),
        (
            "for n in range(2):\n        def make(*, n=n, **kwargs): ...\n"
            "        make.__qualname__ = 'f.<locals>.make'\n        post_save.connect(make, Leaflet)"
        ),
        "post_save.connect(lambda **kwargs: 1, Leaflet); post_save.connect(lambda **k: 2, Leaflet)",
        "@post_save(Leaflet)\n    def _(**kwargs): ...\n    @post_save(Leaflet)\n    def _(**k): ...",
        (
            "class A:\n        def f(self, **kwargs): ...\n"
            "    post_save.connect(A().f, Leaflet); post_save.connect(A().f, Leaflet)"
        ),
        "post_save.connect(notify, Leaflet); post_save.connect(notify, Label)",
        "post_save.connect(notify, Leaflet); post_save.connect(notify, Leaflet, phase='after_commit')",
        "post_save.connect(notify, Leaflet, exact=True); post_save.connect(notify, Brochure)",
        "post_save.connect(notify, Leaflet); post_delete.connect(notify, Leaflet)",
    ],
)
def test_receivers_that_only_look_alike(project, code):
    """Receivers that differ in what they hold, or in where they are written, are no copies."""
    assert check(project, f"\n    {code}\n") == []


@pytest.mark.parametrize(
    "code",
    [
        "post_save.connect(notify); post_save.connect(notify, Leaflet)",
        "post_save.connect(notify, Leaflet); post_save.connect(notify, Brochure)",
        "post_save.connect(notify, 'Leaflet'); post_save.connect(notify, Leaflet)",
        "post_save.connect(notify, Leaflet); post_save.connect(notify, Leaflet, dispatch_uid='other')",
        "post_save.connect(notify, created=True); post_save.connect(notify, Leaflet)",
        "m2m_changed.connect(notify, links); m2m_changed.connect(notify, Leaflet.labels)",
        "m2m_changed.connect(notify, Label); m2m_changed.connect(notify, Leaflet)",
        "paid = Signal('paid'); paid.connect(notify, 7); paid.connect(notify)",
        (
            "class A:\n        def f(self, **kwargs): ...\n    a = A()\n"
            "    post_save.connect(a.f, Leaflet); post_save.connect(a.f, Base)"
        ),
    ],
)
def test_receiver_that_two_connections_lead_to(project, code):
    """One sender reaching one receiver by two connections is a warning: it is called once."""
    [found] = check(project, f"\n    {code}\n")
    assert (found["code"], found["severity"]) == ("reached-twice", "warning")
    assert "called once" in found["what"]


@pytest.mark.parametrize(
    ("code", "what"),
    [
        (
            """
    post_save.connect(notify, Leaflet, statements=True)
    post_delete.connect(notify, Leaflet)
    """,
            "connected to post_save of checked.Leaflet with statements=True, and to post_delete",
        ),
        (
            """
    post_save.connect(notify, Base)
    post_update.connect(notify, Leaflet, statements=True)
    post_delete.connect(notify, Leaflet, statements=True)
    """,
            "to post_update and post_delete of checked.Leaflet with statements=True, and to post_save",
        ),
    ],
)
def test_receiver_that_a_part_of_the_statements_calls(project, code, what):
    """A warning for each: the option was forgotten on one of its connections."""
    [found] = check(project, code)
    assert (found["code"], found["severity"]) == ("partly-called", "warning")
    assert found["receiver"] == "checked.notify"
    assert what in found["what"]


@pytest.mark.parametrize(
    ("mapping", "why"),
    [
        (
            "__table_args__ = {'implicit_returning': False}",
            "table quiet has implicit_returning=Fal",
        ),
        ("", None),
    ],
)
@pytest.mark.parametrize(
    ("connect", "is_asking"),
    [
        ("post_save.connect(notify, Quiet, statements=True)", True),
        ("post_save.connect(notify, Quiet)", False),
        ("post_save.connect(notify, Quiet, created=False, statements=True)", False),
        ("post_delete.connect(notify, Quiet, statements=True)", False),
    ],
)
def test_class_whose_statements_are_refused(project, mapping, why, connect, is_asking):
    """Nothing returns the rows of an INSERT, and a receiver asks for them."""
    code = f"""
    class Quiet(Base):
        __tablename__ = "quiet"
        {mapping}
        id: Mapped[int] = mapped_column(primary_key=True)

    {connect}
    """
    found = check(project, code)
    if why is None or not is_asking:
        assert found == []
    else:
        [finding] = found
        assert (finding["code"], finding["severity"]) == ("refused-statements", "warning")
        assert f"connected to checked.Quiet with statements=True, and {why}" in finding["what"]


def test_class_that_is_not_mapped_to_a_table(project):
    """What is mapped to a join can't be written by statements that return its rows."""
    code = """
    class Both(Base):
        __table__ = Shelf.__table__.join(Room.__table__)
        id = column_property(Shelf.__table__.c.id)
        its_room = column_property(Room.__table__.c.id, Shelf.__table__.c.room_id)

    post_save.connect(notify, Both, statements=True)
    """
    models = MODELS.replace("import DeclarativeBase, ", "import column_property, DeclarativeBase, ")
    [found] = check(project, code, models=models)
    assert found["code"] == "refused-statements"
    assert "it is not mapped to a table" in found["what"]


@pytest.mark.parametrize(
    "code",
    [
        "post_save.connect(notify, Leaflet, statements=True)",
        "post_save.connect(notify, Leaflet); post_save.connect(audit, Leaflet)",
        "post_save.connect(notify, Leaflet); post_save.connect(audit, Label, statements=True)",
        "pre_save.connect(notify, Leaflet); post_save.connect(audit, Leaflet, statements=True)",
        """post_save.connect(notify, Leaflet, statements=True)
    post_delete.connect(notify, Leaflet, statements=True)
    post_bulk_create.connect(notify)""",
    ],
)
def test_receivers_of_which_statements_call_all_or_none(project, code):
    """Also beside those that statements can't call: there is nothing to say."""
    assert check(project, f"\n    def audit(**kwargs): ...\n    {code}\n") == []


def test_class_with_receivers_that_statements_call_and_others(project):
    """It is often meant so: a note, once for a class and its subclasses, which fails nothing."""
    code = """
    def audit(**kwargs): ...
    def count(**kwargs): ...

    post_save.connect(notify, Leaflet)
    post_delete.connect(audit, Leaflet, statements=True)
    post_update.connect(count, Leaflet)
    """
    [found] = check(project, code, "--strict")
    assert (found["code"], found["severity"]) == ("mixed-receivers", "note")
    assert found["receiver"] == "checked.notify"
    assert found["what"] == (
        "statements on checked.Leaflet call checked.audit, and not checked.notify and 1 more"
    )
    status, out, _ = project.run("check", "checked")
    assert status == 0
    assert out.splitlines()[-1] == "errors: 0, warnings: 0, notes: 1"


@pytest.mark.parametrize(
    ("sender", "option"),
    [
        ("Base", "fields=['room_id', 'id']"),
        ("Abstract", "fields='room_id'"),
        ("'Base'", "transition={'room_id': (..., 1)}"),
    ],
)
def test_an_attribute_that_a_class_lacks(project, sender, option):
    """Its flushes would fail: the first class that lacks it is named, once."""
    [found] = check(project, f"\n    post_save.connect(notify, {sender}, {option})\n")
    assert (found["code"], found["severity"]) == ("unknown-field", "error")
    assert "'room_id'" in found["what"]
    assert found["receiver"] == "checked.notify"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ("transition={'id': (1, 1)}", "the same"),
        ("transition={'room_id': ('x', 'x'), 'id': (1, 2)}", "the same"),
        ("transition={'id': (1, 2)}, created=True", "of a new row is None"),
        ("transition={'id': ({1, 2}, ...)}, created=True", "of a new row is None"),
    ],
)
def test_a_transition_that_no_row_makes(project, options, what):
    """Its receiver is never called."""
    [found] = check(project, f"\n    post_save.connect(notify, Shelf, {options})\n")
    assert (found["code"], found["severity"]) == ("impossible-transition", "warning")
    assert what in found["what"]


def test_text_names_place_code_and_way_out(project):
    """Without ``--json`` a finding is two lines, the first as compilers write it."""
    project.write("checked", MODELS + "\n    post_save.connect(notify, 'Leafle')\n")
    status, out, _ = project.run("check", "checked")
    line = MODELS.strip().splitlines().index("    def notify(**kwargs): ...") + 1
    assert status == 1
    assert out.splitlines() == [
        (
            f"checked.py:{line}: error unresolved-sender: sender='Leafle' of post_save names no mapped "
            f"class; did you mean 'Leaflet'?"
        ),
        "    fix the name, or also name the module that defines the class on the command line",
        "errors: 1, warnings: 0",
    ]


def test_nothing_found_is_said(project):
    """A sound project gives a line and the status 0."""
    project.write("sound", MODELS + "\n    post_save.connect(notify, Leaflet)\n")
    assert project.run("check", "sound") == (0, "errors: 0, warnings: 0\n", "")


def test_mapping_that_cannot_be_configured(project):
    """Classes that SQLAlchemy can't map are a problem of the import, not a finding."""
    project.write("torn", family(None, 'children = relationship("Nowhere")'))
    status, out, err = project.run("check", "torn")
    assert (status, out) == (2, "")
    assert "could not configure the mapped classes: InvalidRequestError" in err


def test_receiver_that_was_just_collected_has_no_place():
    """A weak receiver may go between two looks at it."""

    class Gone:
        receiver = None

    found = place_of_connection(Gone())
    assert found == Place("a receiver that is gone", None, None)
