"""The pytest plugin, as a project that uses the library has it."""

from __future__ import annotations

from pathlib import Path

import pytest

APP = """
    from aksara_signals import Signal, on_delivery_error, post_save
    from aksara_signals.orm import SignalMixin
    from sqlalchemy import create_engine
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
    from sqlalchemy.pool import StaticPool

    class Base(SignalMixin, DeclarativeBase):
        pass

    class Post(Base):
        __tablename__ = "post"
        id: Mapped[int] = mapped_column(primary_key=True)

    paid = Signal("paid")

    def write():
        engine = create_engine("sqlite://", poolclass=StaticPool)
        Base.metadata.create_all(engine)
        try:
            with Session(engine) as session, session.begin():
                session.add(Post())
        finally:
            engine.dispose()
"""


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> pytest.Pytester:
    """A folder with an application; the plugin is named, as its entry point would name it."""
    monkeypatch.delenv("PYTEST_ADDOPTS", raising=False)
    pytester.makepyfile(app=APP)
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    return pytester


def run(project: pytest.Pytester, *options: str, in_process: bool = False) -> pytest.RunResult:
    arguments = ["-p", "no:aksara_signals", "-p", "aksara_signals.testing.plugin"]
    arguments += ["-p", "no:cacheprovider", *options]
    return (project.runpytest_inprocess if in_process else project.runpytest_subprocess)(*arguments)


@pytest.mark.parametrize(
    "options",
    [["--asyncio-mode=auto"], ["--asyncio-mode=strict"], ["--asyncio-mode=auto", "-n", "2"]],
    ids=["auto", "strict", "xdist"],
)
def test_fixtures_work_in_every_mode(project: pytest.Pytester, options: list[str]) -> None:
    """Captured, silenced and restored signals, in functions, coroutines and methods."""
    project.makepyfile(
        """
        import pytest
        from app import Post, paid, write
        from aksara_signals import Signal, post_save

        def test_captured(captured_signals):
            write()
            captured_signals.assert_called_once_with("post_save", sender=Post, created=True)

        @pytest.mark.asyncio
        async def test_captured_in_a_coroutine(captured_signals):
            await paid.send(Post, amount=5)
            assert captured_signals[0].amount == 5
            assert captured_signals.names == ["paid"]

        def test_silenced(captured_signals, silenced_signals):
            write()
            captured_signals.assert_not_called()

        @pytest.mark.asyncio
        @pytest.mark.parametrize("amount", [1, 2])
        async def test_silenced_in_a_coroutine(captured_signals, silenced_signals, amount):
            await paid.send(Post, amount=amount)
            captured_signals.assert_not_called()

        class TestMethods:
            @pytest.mark.asyncio
            @pytest.mark.usefixtures("silenced_signals")
            async def test_silenced_in_a_method(self, captured_signals):
                await paid.send(Post)
                captured_signals.assert_not_called()

        @pytest.fixture
        def written(captured_signals):
            write()

        def test_fixtures_are_not_silenced(written, captured_signals, silenced_signals):
            captured_signals.assert_called("post_save")

        def test_restored(restored_signals):
            @post_save(Post)
            def reject(**kwargs):
                raise ValueError
            with pytest.raises(ValueError):
                write()

        def test_after_it():
            write()
        """
    )
    run(project, *options).assert_outcomes(passed=9)


@pytest.mark.parametrize("in_process", [False, True], ids=["subprocess", "in process"])
def test_a_receiver_that_fails_after_the_commit_fails_its_test(
    project: pytest.Pytester, in_process: bool
) -> None:
    """Its own error is shown; a test that expects it asks for it."""
    project.makepyfile(
        """
        import sys
        import pytest
        from app import Post, write
        from aksara_signals import post_save

        @post_save(Post, phase="after_commit")
        def notify(**kwargs):
            raise LookupError("no such mailbox")

        def test_that_commits():
            write()

        def test_that_expects_it(delivery_errors):
            write()
            [error] = delivery_errors
            assert isinstance(error, LookupError)

        def test_that_fails_anyway():
            write()
            assert False, "its own"

        @pytest.mark.usefixtures("captured_signals", "restored_signals")
        def test_fixtures_without_a_use():
            pass

        @pytest.mark.usefixtures("silenced_signals")
        def test_silent():
            write()
        """
    )
    result = run(project, in_process=in_process)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(
        [
            "*1 receiver failed after the outcome of a transaction*",
            "*LookupError: no such mailbox*",
        ]
    )
    result.stdout.fnmatch_lines(["*AssertionError: its own*"])


def test_a_test_that_is_the_first_to_import_the_library_fails_too(
    project: pytest.Pytester,
) -> None:
    """It makes no difference who imports it, and when; several failures are counted."""
    project.makepyfile(
        """
        import sys

        def test_that_imports_it_late():
            assert "aksara_signals.dispatch" not in sys.modules
            from app import Post, write
            from aksara_signals import post_save

            @post_save(Post, phase="after_commit")
            def notify(**kwargs):
                raise LookupError("no such mailbox")

            write()
            write()
        """
    )
    result = run(project)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*2 receivers failed after the outcome of a transaction*"])


def test_projects_that_dont_use_the_library_pay_nothing(project: pytest.Pytester) -> None:
    """The plugin imports its own few lines, and nothing that pytest itself wouldn't import."""
    project.makepyfile(
        """
        import sys

        def test_nothing(): ...

        def teardown_module():
            print("IMPORTED", *sorted(sys.modules))
        """
    )
    others = ["-s", "-p", "no:asyncio", "-p", "no:anyio", "-p", "no:faker", "-p", "no:xdist"]
    options = ["-p", "no:hypothesispytest", "-p", "no:aksara_signals", *others]
    without = project.runpytest_subprocess(*options)
    with_it = run(project, *others, "-p", "no:hypothesispytest")
    before, after = (
        {name for line in result.outlines if "IMPORTED" in line for name in line.split()}
        for result in (without, with_it)
    )
    assert "_pytest.main" in before
    assert after - before == {
        "aksara_signals",
        "aksara_signals.failures",
        "aksara_signals.testing",
        "aksara_signals.testing.plugin",
    }


def test_the_plugin_is_installed_by_name() -> None:
    """The entry point is what pytest looks for."""
    text = (Path(__file__).parents[3] / "setup.cfg").read_text()
    assert "pytest11 =\n    aksara_signals = aksara_signals.testing.plugin" in text
