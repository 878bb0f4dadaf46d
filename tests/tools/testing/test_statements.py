"""``--signals-statements``: the pytest plugin names statements for which receivers aren't called."""

from __future__ import annotations

import re

import pytest

APP = """
    from aksara_signals import post_delete, post_save, post_update, pre_delete, pre_save
    from aksara_signals.orm import SignalMixin
    from sqlalchemy import ForeignKey, create_engine
    from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
    from sqlalchemy.pool import StaticPool

    class Base(SignalMixin, DeclarativeBase):
        pass

    class Post(Base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)
        title: Mapped[str] = mapped_column(default="")

    class Tag(Base):
        __tablename__ = "tag"
        id: Mapped[int] = mapped_column(primary_key=True)

    class Animal(Base):
        __tablename__ = "animal"
        __mapper_args__ = {"polymorphic_on": "kind", "polymorphic_identity": "animal"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    class Cat(Animal):
        __tablename__ = "cat"
        __mapper_args__ = {"polymorphic_identity": "cat"}
        id: Mapped[int] = mapped_column(ForeignKey("animal.id"), primary_key=True)

    class Book(Animal):
        __tablename__ = "book"
        __mapper_args__ = {"concrete": True, "polymorphic_identity": "book"}
        id: Mapped[int] = mapped_column(primary_key=True)
        kind: Mapped[str]

    @post_save(Post)
    def index(instance, **kwargs): ...

    @post_update(Post)
    def count(instance, **kwargs): ...

    @pre_delete(Post)
    def check(instance, **kwargs): ...

    @post_save(Cat)
    def feed(instance, **kwargs): ...

    @post_save(Book)
    def shelve(instance, **kwargs): ...
"""

CONFTEST = """
    import pytest
    from app import *

    @pytest.fixture
    def session():
        engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(engine)
        with Session(engine) as session:
            session.add(Post(id=1))
            session.flush()
            yield session
        engine.dispose()
"""

IMPORTS = """
import pytest
from app import *
from sqlalchemy import delete, insert, select, text, update
from sqlalchemy.dialects import sqlite
from aksara_signals import AksaraSignalsWarning, SignalContext, StatementSignalError
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with an application whose classes have receivers."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(app=APP)
    pytester.makeconftest(CONFTEST)
    pytester.makeini(INI)
    return pytester


INI = "[pytest]\nasyncio_default_fixture_loop_scope = function\nasyncio_mode = auto\n"


def run(
    project: pytest.Pytester, code: str, *options: str, in_process: bool = True
) -> pytest.RunResult:
    """Run a test module; in a process of its own if warnings of this one would be in the way."""
    project.makepyfile(test_it=IMPORTS + _dedented(code))
    arguments = ["-p", "no:aksara_signals", "-p", "aksara_signals.testing.plugin", *options]
    arguments += ["-p", "no:cacheprovider"]
    return (project.runpytest_inprocess if in_process else project.runpytest_subprocess)(*arguments)


def _dedented(code: str) -> str:
    return re.sub(r"^ {8}", "", code, flags=re.MULTILINE)


def warned(result: pytest.RunResult) -> list[str]:
    return [line for line in result.outlines if "AksaraSignalsWarning: " in line]


SILENT = """
        def test_statements(session):
            session.execute(insert(Post).values(title="a"))
            session.execute(insert(Post), [{"title": "b"}, {"title": "c"}])
            session.execute(update(Post).values(title="d"))
            session.execute(update(Post), [{"id": 1, "title": "e"}])
            session.execute(delete(Post).where(Post.id == 2))
            session.query(Post).filter_by(id=1).update({"title": "f"})
            session.query(Post).filter_by(id=7).delete()
            session.execute(update(Animal).values(kind="cat"))
"""


def test_each_statement_is_named_with_what_isnt_called(project: pytest.Pytester) -> None:
    """A warning for each place: the statement, the receivers, the line and the ways out."""
    result = run(project, SILENT, "--signals-statements=warn", in_process=False)
    result.assert_outcomes(passed=1, warnings=8)
    found = warned(result)
    kinds = ["insert", "insert", "update", "update", "delete", "update", "delete", "update"]
    assert [re.search(r"(\w+)\(app\.", line).group(1) for line in found] == kinds  # type: ignore[union-attr]
    lines = [int(re.search(r"test_it\.py:(\d+) doesn't", line).group(1)) for line in found]  # type: ignore[union-attr]
    assert lines == [*range(lines[0], lines[0] + 8)]
    app = r"app\.py"
    at = r"at test_it\.py:\d+"
    index, count = (
        rf"app\.index \({app}:\d+\) of post_save",
        rf"app\.count \({app}:\d+\) of post_update",
    )
    check = rf"app\.check \({app}:\d+\) of pre_delete"
    silently = r"or execute it with execution_options=\{'signals': False\}"
    assert re.search(
        rf"insert\(app\.Post\) {at} doesn't call {index}; connect with statements=True, "
        rf"add objects to the session, which sends every signal, {silently}$",
        found[0],
    )
    assert re.search(
        rf"update\(app\.Post\) {at} doesn't call {count} and {index}; connect with "
        rf"statements=True, write it as objects\.filter\(…\)\.with_signals\(\)\.update\(\), which "
        rf"sends every signal, {silently}$",
        found[2],
    )
    assert re.search(
        rf"delete\(app\.Post\) {at} doesn't call {check}; write it as "
        rf"objects\.filter\(…\)\.with_signals\(\)\.delete\(\), which sends every signal, {silently}$",
        found[4],
    )
    assert "app.feed" in found[7]
    assert "app.shelve" not in found[7]


def test_a_statement_raises_before_it_writes(project: pytest.Pytester) -> None:
    """With ``error``, nothing is flushed or written, the session works, each time."""
    code = """
        @pytest.mark.parametrize("make", [
            lambda session: session.execute(insert(Post).values(title="a")),
            lambda session: session.execute(update(Post).values(title="a")),
            lambda session: session.execute(delete(Post)),
            lambda session: session.query(Post).update({"title": "a"}),
            lambda session: session.query(Post).delete(),
        ])
        def test_statement(session, make):
            session.add(Post(id=9))
            for _ in range(2):
                with pytest.raises(StatementSignalError, match="doesn't call app.* AKS-306"):
                    make(session)
            assert len(session.new) == 1
            assert session.execute(select(Post.id, Post.title).order_by(Post.id)).all() == [
                (1, ""), (9, "")
            ]
            session.commit()
    """.replace(" AKS", ".*AKS")
    run(project, code, "--signals-statements=error").assert_outcomes(passed=5)


ALLOWED = r"""
        def test_silenced_once(session):
            for statement in (insert(Post), update(Post).values(title="a"), delete(Post)):
                session.execute(statement, execution_options={"signals": False})
            session.query(Post).execution_options(signals=False).update({"title": "a"})

        def test_silenced_by_a_context(session):
            with SignalContext(Post):
                session.execute(insert(Post))
            with SignalContext.disable_for(receivers=[index, count]):
                session.execute(update(Post).values(title="a"))

        def test_silenced_by_a_fixture(session, silenced_signals):
            session.execute(delete(Post))

        @pytest.fixture
        def written(session):
            session.execute(insert(Post))
            yield
            session.execute(delete(Post))

        def test_written_by_a_fixture(written): ...

        def test_recorded(session, captured_signals):
            session.execute(insert(Tag))

        def test_without_receivers(session):
            session.execute(insert(Tag))
            session.execute(delete(Tag))
            session.execute(insert(Animal).values(kind="animal"))
            session.execute(delete(Animal))
            session.execute(delete(Book))

        def test_with_the_right_receivers(session, restored_signals):
            for signal, receiver in ((post_save, index), (post_update, count)):
                signal.disconnect(receiver, Post)
                signal.connect(receiver, Post, statements=True)
            pre_delete.disconnect(check, Post)
            session.execute(update(Post).values(title="a"))

        def test_filtered_by_created(session, restored_signals):
            post_save.disconnect(index, Post)
            post_update.disconnect(count, Post)
            post_save.connect(index, Post, created=False)
            session.execute(insert(Post))
            with pytest.raises(StatementSignalError):
                session.execute(sqlite.insert(Post).values(id=1).on_conflict_do_update(
                    index_elements=["id"], set_={"title": "a"}
                ))
            post_save.disconnect(index, Post)
            post_save.connect(index, Post, created=True)
            session.execute(update(Post).values(title="a"))

        def test_narrowed_to_other_attributes(session, restored_signals):
            post_save.disconnect(index, Post)
            post_update.disconnect(count, Post)
            post_save.connect(index, Post, fields=["title"])
            post_save.connect(count, Post, transition={"title": ("a", "b"), "id": (..., ...)})
            session.execute(update(Post).values(id=3))
            with pytest.raises(StatementSignalError, match=r"call app.index \S+ of post_save; "):
                session.execute(update(Post).values(title="a"))

        def test_others(session):
            session.execute(update(Post.__table__).values(title="a"))
            session.execute(text("UPDATE post SET title = 'b'"))
            session.execute(select(Post)).all()
            post = session.get(Post, 1)
            post.title = "c"
            session.flush()
            session.refresh(post)
            session.delete(post)
            session.commit()
"""


def test_what_is_meant_to_be_silent_is_not_named(project: pytest.Pytester) -> None:
    """Nor what fixtures write, what is no ORM statement, and classes whose receivers are called."""
    run(project, ALLOWED, "--signals-statements=error").assert_outcomes(passed=10)


def test_statements_of_the_library_itself_are_not_named(project: pytest.Pytester) -> None:
    """Bulk methods and ``with_signals()`` send signals of their own."""
    code = """
        async def test_of_the_library():
            engine = create_async_engine("sqlite+aiosqlite://")
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            async with AsyncSession(engine) as session:
                posts = await Post.objects.bulk_create([Post(), Post()], session=session)
                await Post.objects.bulk_update(posts, ["title"], session=session)
                every = Post.objects.filter().with_signals()
                await every.update(title="a", session=session)
                await every.delete(session=session)
            await engine.dispose()
    """
    run(project, code, "--signals-statements=error").assert_outcomes(passed=1)


def test_a_place_is_named_once_in_each_test(project: pytest.Pytester) -> None:
    """A loop is one place, and the next test names it again."""
    code = """
        @pytest.mark.parametrize("test", [1, 2])
        def test_loop(session, test):
            for _ in range(3):
                session.execute(delete(Post)); session.execute(delete(Animal).where(Animal.id == 1))
                session.execute(insert(Post))
    """
    result = run(project, code, "--signals-statements=warn", in_process=False)
    result.assert_outcomes(passed=2, warnings=4)


def test_the_line_is_that_of_the_user(project: pytest.Pytester) -> None:
    """Under an AsyncSession, in ``run_sync``, by query sets and in receivers, too."""
    code = """
        def by_sync(session):
            session.execute(delete(Post))  # line

        async def by_awaiting(session):
            await session.execute(delete(Post))  # line

        @post_save(Tag)
        async def follow(session, **kwargs):
            await session.execute(delete(Post))  # line

        async def test_lines():
            engine = create_async_engine("sqlite+aiosqlite://")
            async with engine.begin() as connection:
                await connection.run_sync(Base.metadata.create_all)
            async with AsyncSession(engine) as session:
                await by_awaiting(session)
                await session.run_sync(by_sync)
                await Post.objects.filter().delete(session=session)  # line
                session.add(Tag())
                await session.flush()
                import asyncio
                await asyncio.create_task(session.execute(delete(Post)))  # no line
            await engine.dispose()
    """
    result = run(project, code, "--signals-statements=warn", in_process=False)
    result.assert_outcomes(passed=1, warnings=5)
    source = (project.path / "test_it.py").read_text().splitlines()
    lines = {number for number, line in enumerate(source, 1) if line.endswith("# line")}
    found = warned(result)
    named = [re.search(r"test_it\.py:(\d+) doesn't", line) for line in found]
    assert {int(match.group(1)) for match in named if match} == lines
    assert sum("at test_it.py::test_lines doesn't call" in line for line in found) == 1


def test_warnings_can_be_errors(project: pytest.Pytester) -> None:
    """``-W error`` refuses a statement before it writes, and each time; a filter allows it."""
    code = """
        def test_error(session):
            for _ in range(2):
                with pytest.raises(AksaraSignalsWarning):
                    session.execute(delete(Post))
            assert session.scalars(select(Post)).one()

        @pytest.mark.filterwarnings("ignore:delete.app.Post:aksara_signals.AksaraSignalsWarning")
        def test_ignored(session):
            session.execute(delete(Post))
    """
    result = run(project, code, "--signals-statements=warn", "-W", "error")
    result.assert_outcomes(passed=2)


@pytest.mark.parametrize(
    ("setting", "options", "failed"),
    [
        ("", [], 0),
        ("signals_statements = error", [], 1),
        ("signals_statements = error", ["--signals-statements=off"], 0),
        ("signals_statements = warn", ["--signals-statements=error"], 1),
        ("signals_statements = error", ["-n", "1"], 1),
    ],
)
def test_it_is_off_by_default(
    project: pytest.Pytester, setting: str, options: list[str], failed: int
) -> None:
    """A setting turns it on, the command line goes before it, and off means no listener."""
    project.makeini(f"{INI}{setting}\n")
    code = """
        from sqlalchemy import event

        def test_listener():
            listens = bool(list(Session().dispatch.do_orm_execute))
            assert listens is EXPECTED

        def test_statement(session):
            session.execute(delete(Post))
    """.replace("EXPECTED", str(bool(failed)))
    run(project, code, *options).assert_outcomes(passed=2 - failed, failed=failed)


def test_a_setting_that_means_nothing_is_refused(project: pytest.Pytester) -> None:
    """The message names the choices."""
    project.makeini(f"{INI}signals_statements = loud\n")
    result = run(project, "def test_it(): ...")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*signals_statements is 'loud'*off, warn, error*"])


def test_nothing_is_left_after_a_run(project: pytest.Pytester) -> None:
    """The listener goes when pytest is done, for those who go on in the same process."""
    project.makepyfile(
        test_it=f"{IMPORTS}def test_it():\n    assert list(Session().dispatch.do_orm_execute)",
        script="""
        import pytest
        status = pytest.main(
            ["-q", "-p", "no:aksara_signals", "-p", "aksara_signals.testing.plugin",
             "-p", "no:cacheprovider", "--signals-statements=error"]
        )
        from sqlalchemy.orm import Session
        print("STATUS", int(status), list(Session().dispatch.do_orm_execute))
        """,
    )
    result = project.runpython(project.path / "script.py")
    result.stdout.fnmatch_lines(["STATUS 0 []"])
