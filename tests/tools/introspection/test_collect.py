"""Who listens to what, as plain values."""

from __future__ import annotations

import json

import pytest

MODELS = """
    import enum

    from sqlalchemy import Column, ForeignKey, Table
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship

    from aksara_signals import Signal, m2m_changed, post_save
    from aksara_signals.orm import SignalMixin

    class Base(SignalMixin, DeclarativeBase):
        pass

    links = Table(
        "links",
        Base.metadata,
        Column("leaflet_id", ForeignKey("leaflet.id"), primary_key=True),
        Column("label_id", ForeignKey("label.id"), primary_key=True),
    )

    class Leaflet(Base):
        __tablename__ = "leaflet"
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str | None]
        labels: Mapped[list["Label"]] = relationship(secondary=links)

    class Label(Base):
        __tablename__ = "label"
        id: Mapped[int] = mapped_column(primary_key=True)
"""


def received(project, *arguments):
    status, out, err = project.run("receivers", *arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)["receivers"]


def names(found):
    return [(each["signal"], each["sender"], each["receiver"].partition(".")[2]) for each in found]


def test_receivers_come_in_call_order(project):
    """Priority first, concurrent ones after the sequential, deferred ones last."""
    project.write(
        "order",
        MODELS
        + """
    @post_save(Leaflet, phase="after_commit")
    async def deferred(**kwargs): ...

    @post_save(Leaflet, concurrent=True, priority=9)
    async def together(**kwargs): ...

    @post_save(Label)
    def usual(**kwargs): ...

    @post_save(priority=1)
    async def first(**kwargs): ...
    """,
    )
    assert names(received(project, "order")) == [
        ("post_save", None, "first"),
        ("post_save", "order.Label", "usual"),
        ("post_save", "order.Leaflet", "together"),
        ("post_save", "order.Leaflet", "deferred"),
    ]
    assert names(received(project, "order", "--sender", "Leaflet")) == [
        ("post_save", None, "first"),
        ("post_save", "order.Leaflet", "together"),
        ("post_save", "order.Leaflet", "deferred"),
    ]


def test_only_options_that_differ_are_shown(project):
    """Options with their default value are left out, and values JSON lacks are named by type."""
    project.write(
        "options",
        MODELS
        + """
    class Secretive:
        def __repr__(self): raise AssertionError("nobody may ask")

    @post_save(Leaflet)
    def plain(**kwargs): ...

    @post_save(
        Leaflet, phase="after_commit", created=True, weak=True, exact=True, dispatch_uid="one",
        coalesce=True, timeout_seconds=1.5, priority=float("inf"),
    )
    def everything(**kwargs): ...

    @post_save(Leaflet, dispatch_uid=Secretive(), concurrent=True)
    async def odd(**kwargs): ...

    class Level(enum.Enum):
        LOW = 1

    @post_save(
        Leaflet,
        fields=["id"],
        transition={Leaflet.id: ({1, 2, None}, ...), "kind": (Level.LOW, Secretive())},
    )
    def narrowed(**kwargs): ...
    """,
    )
    options = {
        each["receiver"].partition(".")[2]: each["options"] for each in received(project, "options")
    }
    assert options == {
        "plain": {},
        "everything": {
            "priority": "inf",
            "phase": "after_commit",
            "created": True,
            "weak": True,
            "exact": True,
            "dispatch_uid": "one",
            "coalesce": True,
            "timeout_seconds": 1.5,
        },
        "odd": {"concurrent": True, "dispatch_uid": "<Secretive object>"},
        "narrowed": {
            "fields": ["id"],
            "transition": {
                "id": [[1, 2, None], "..."],
                "kind": ["Level.LOW", "<Secretive object>"],
            },
        },
    }


def test_every_kind_of_sender_has_a_name(project):
    """Classes, strings, tables, relationships, numbers and objects are distinguished."""
    project.write(
        "kinds",
        MODELS
        + """
    custom = Signal("custom")
    thing = object()
    senders = [None, Leaflet, "shop", links, Leaflet.labels, 7, thing]

    @custom.connect(sender=senders)
    def notify(**kwargs): ...
    """,
    )
    assert [(each["sender_kind"], each["sender"]) for each in received(project, "kinds")] == [
        ("all", None),
        ("class", "kinds.Leaflet"),
        ("name", "shop"),
        ("table", "links"),
        ("relationship", "kinds.Leaflet.labels"),
        ("number", "7"),
        ("object", "<object object>"),
    ]
    table = project.run("receivers", "kinds")[1]
    assert [line.split("kinds.notify")[0].split("custom")[1].strip() for line in table.splitlines() if "notify" in line] == [
        "all", "kinds.Leaflet", "'shop'", "table links", "kinds.Leaflet.labels", "7",
        "<object object>",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sender", "expected"),
    [
        ("Leaflet", ["all", "base", "class", "name"]),
        ("chosen.Leaflet", ["all", "base", "class", "name"]),
        ("chosen.Base", ["all", "base"]),
        ("chosen.Plain", ["all"]),
        ("chosen.Outer.Inner", ["all"]),
        ("links", ["all", "table"]),
        ("Leaflet.labels", ["all", "relationship"]),
        ("chosen.Leaflet.labels", ["all", "relationship"]),
        ("shop", ["all", "string"]),
    ],
)
def test_receivers_of_one_sender(project, sender, expected):
    """``--sender`` takes names and paths, and shows all that a send by it reaches."""
    project.write(
        "chosen",
        MODELS
        + """
    class Plain: ...
    class Outer:
        class Inner: ...

    custom = Signal("custom")
    receivers = {
        "all": None, "base": Base, "class": Leaflet, "name": "Leaflet", "table": links,
        "relationship": Leaflet.labels, "string": "shop", "other": Label,
    }
    def connect(name, sender):
        def notify(**kwargs): ...
        notify.__qualname__ = name
        custom.connect(notify, sender=sender)
    for name, sender in receivers.items():
        connect(name, sender)
    """,
    )
    found = received(project, "chosen", "--sender", sender, "--signal", "custom")
    assert [each["receiver"] for each in found] == [f"chosen.{name}" for name in expected]


@pytest.mark.parametrize("sender", ["nowhere.Leaflet", "chosen_b.Nothing", "chosen_b.custom"])
def test_path_that_leads_to_no_class_is_refused(project, sender):
    """A path must lead to a class of an imported module."""
    project.write("chosen_b", 'from aksara_signals import Signal\ncustom = Signal("custom")')
    status, _, err = project.run("receivers", "chosen_b", "--sender", sender, "--json")
    assert status == 2
    assert f"no sender is named '{sender}'" in err


def test_place_outside_the_current_folder_is_absolute(project, monkeypatch):
    """Files below the current folder are shown relative to it, others in full."""
    project.write(
        "far", 'from aksara_signals import Signal\ns = Signal("s")\n@s\ndef f(**k): ...\n'
    )
    (project.folder / "inner").mkdir()
    monkeypatch.syspath_prepend(project.folder)
    monkeypatch.chdir(project.folder / "inner")
    [found] = received(project, "far")
    assert found["file"] == str(project.folder / "far.py")


def test_receiver_without_source_has_no_place(project):
    """An object that can be called is named by its class, without file and line."""
    project.write(
        "objects",
        """
        from aksara_signals import Signal

        class Audit:
            def __call__(self, **kwargs): ...

        s = Signal("s")
        s.connect(Audit())
        """,
    )
    [found] = received(project, "objects")
    assert (found["receiver"], found["file"], found["line"]) == ("objects.Audit object", None, None)
    assert " ? " in project.run("receivers", "objects")[1]
