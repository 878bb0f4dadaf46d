"""``aksara-signals check`` walks packages, and says what it has not seen."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from aksara_signals.introspection.check import Inventory

MODELS = """
    from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
    from aksara_signals.orm import SignalMixin

    class Base(SignalMixin, DeclarativeBase):
        pass

    class Leaflet(Base):
        __tablename__ = "leaflet"
        id: Mapped[int] = mapped_column(primary_key=True)
"""

RECEIVER = """
    from aksara_signals import post_save

    @post_save("Leafle")
    async def notify(**kwargs): ...
"""


SIGNAL = """
    from aksara_signals import Signal

    paid = Signal("paid")
    paid.connect(lambda **kwargs: None)
"""


def run_alone(project, *arguments):
    """A command in a process of its own, where nothing else is mapped."""
    done = subprocess.run(
        [sys.executable, "-m", "aksara_signals", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=project.folder,
    )
    return done.returncode, done.stdout, done.stderr


def package(project, name, **modules):
    """Write a package; ``__`` in a name stands for a dot."""
    for module, code in {"": "", **modules}.items():
        path = "/".join((name, *module.split("__"))) if module else name
        is_package = not module or any(each.startswith(f"{module}__") for each in modules)
        (project.folder / path).parent.mkdir(exist_ok=True, parents=True)
        if is_package:
            (project.folder / path).mkdir(exist_ok=True)
            path += "/__init__"
        project.write(path, code)


def test_receivers_below_a_package_are_seen(project):
    """At any depth, though the package imports nothing itself."""
    package(project, "shop_k", models=MODELS, jobs="", jobs__receivers=RECEIVER)
    status, out, err = project.run("check", "shop_k")
    assert (status, err) == (1, "")
    assert "shop_k/jobs/receivers.py:3: error unresolved-sender" in out
    assert out.endswith("errors: 1, warnings: 0\n")
    found = json.loads(run_alone(project, "check", "shop_k", "--json")[1])
    assert (found["receivers"], found["models"], found["not_imported"]) == (1, 1, [])


def test_what_is_named_alone_is_imported_alone(project):
    """A module is no package, and the other commands show what an application imports."""
    package(project, "shop_l", models=MODELS, receivers=RECEIVER)
    assert project.run("receivers", "shop_l") == (0, "no receiver is connected\n", "")
    assert "no receiver is connected" in project.run("check", "shop_l.models")[1]
    assert "error unresolved-sender" in project.run("check", "shop_l.receivers")[1]


def test_modules_that_fail_are_reported_and_the_rest_is_checked(project):
    """With the status 2: what they would have connected was not checked."""
    package(
        project,
        "shop_m",
        a_broken="raise LookupError('no settings')",
        b_missing="import no_such_module",
        c_models=MODELS,
        d_receivers=RECEIVER,
    )
    status, out, err = project.run("check", "shop_m")
    assert status == 2
    assert "error unresolved-sender" in out
    first, second = err.splitlines()
    assert "could not import shop_m.a_broken: LookupError: no settings (" in first
    assert "could not import shop_m.b_missing: ModuleNotFoundError: No module named" in second
    status, out, err = project.run("check", "shop_m", "--json", "--traceback")
    assert status == 2
    assert json.loads(out)["not_imported"] == ["shop_m.a_broken", "shop_m.b_missing"]
    assert "Traceback" in err


def test_modules_can_be_left_out(project):
    """With what is below them; a program is never run."""
    package(project, "shop_n", models=MODELS, migrations="1 / 0", migrations__env="", old="1 / 0")
    project.write("shop_n/__main__", "raise SystemExit('it ran')")
    exclude = ["--exclude", "shop_n.migrations", "--exclude", "shop_n.old"]
    assert project.run("check", "shop_n", *exclude)[::2] == (0, "")
    assert "shop_n.old" in project.run("check", "shop_n", *exclude[:2])[2]


@pytest.mark.parametrize(
    ("code", "remarks"),
    [
        (RECEIVER.replace("Leafle", "Leaflet") + MODELS, []),
        (MODELS, ["no receiver is connected by what was imported; also name the modules that"]),
        (
            "from aksara_signals import Signal\nSignal('x').connect(lambda **kwargs: None)",
            ["no receiver is connected", "no mapped class was imported"],
        ),
        (
            SIGNAL,
            ["no mapped class was imported; also name the modules that map classes"],
        ),
        (
            MODELS.replace("(SignalMixin, ", "("),
            ["no receiver", "no mapped class sends signals; inherit SignalMixin, or register()"],
        ),
        ("", ["no receiver", "no mapped class was imported"]),
    ],
    ids=["both", "no receiver", "a signal that is gone", "no model", "not wired", "nothing"],
)
def test_a_check_that_has_seen_nothing_says_so(project, code, remarks):
    """Else it would be green for ever."""
    project.write("shop_o", code)
    status, out, err = run_alone(project, "check", "shop_o")
    *said, last = out.splitlines()
    assert (status, last, err) == (0, "errors: 0, warnings: 0", "")
    for line, remark in zip(said, remarks, strict=True):
        assert line.startswith(remark)


def test_remarks_of_what_was_seen():
    """Nothing is said where there is something of both."""
    assert Inventory(receivers=1, models=1, other_classes=1).remarks == []
    assert len(Inventory(receivers=0, models=0, other_classes=0).remarks) == 2
    assert Inventory(1, 0, 2).remarks[0].startswith("no mapped class sends signals")
    assert Inventory(1, 0, 0).remarks[0].startswith("no mapped class was imported")
