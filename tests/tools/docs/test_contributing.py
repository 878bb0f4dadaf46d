"""What the pages for contributors say about the package, the checks and the words is so."""

from __future__ import annotations

import ast
import configparser
import re
import tomllib
from pathlib import Path

import pytest

import aksara_signals

PACKAGE = Path(aksara_signals.__file__).parent
ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "docs" / "contributing"
PAGES = sorted(FOLDER.glob("*.rst"))


def page(name: str) -> str:
    """The text of a page."""
    return (FOLDER / f"{name}.rst").read_text(encoding="utf-8")


def rows(text: str, columns: int) -> list[list[str]]:
    """The cells of the list-tables of a text, without their headers."""
    found = []
    for table in text.split(".. list-table::")[1:]:
        cells = re.split(r"\n   (?:\* |  )- ", re.split(r"\n(?=\S)", table)[0])[1:]
        plain = [" ".join(cell.split()) for cell in cells]
        assert len(plain) % columns == 0, plain
        found += [plain[at : at + columns] for at in range(columns, len(plain), columns)]
    return found


def tree(text: str) -> list[str]:
    """The modules and folders of the tree, as paths below the package; folders end in a slash."""
    _, _, after = text.partition(".. code-block:: text\n\n")
    lines = re.split(r"\n(?=\S)", after)[0].splitlines()
    found: list[str] = []
    folders: list[str] = []
    for line in filter(None, lines):
        depth, odd = divmod(len(line) - len(line.lstrip()) - 3, 2)
        name, _, says = line.strip().partition(" ")
        assert not odd, line
        assert says.strip(), f"nothing is said about {name}"
        del folders[depth:]
        found.append("".join([*folders[1:], name] if depth else []))
        if name.endswith("/"):
            folders.append(name)
    return [each for each in found if each]


def modules() -> set[str]:
    """The modules and folders of the package, in the same form."""
    files = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py")}
    return {
        f"{path.parent.as_posix()}/" if path.name == "__init__.py" else path.as_posix()
        for path in files
        if path.as_posix() != "__init__.py"
    }


def test_where_answers_twenty_eight_questions():
    """Each with a module of its own, which there is."""
    found = rows(page("where"), 2)
    questions = {question for question, _ in found}
    answers = [answer.strip("`") for _, answer in found]
    assert (len(found), len(questions), len(set(answers))) == (28, 28, 28)
    assert set(answers) <= modules()


def test_the_tree_names_each_module_once():
    """Every module and folder of the package stands in the tree, and nothing else does."""
    named = tree(page("architecture"))
    assert sorted(modules()) == sorted(named)


def test_the_tree_is_in_the_order_of_the_layers():
    """What may import stands above what it may import."""
    named = tree(page("architecture"))
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = [
        each
        for each in settings["tool"]["importlinter"]["contracts"]
        if each["type"] == "layers" and len(each["containers"]) == 1
    ]
    assert contracts
    for contract in contracts:
        inside = contract["containers"][0].split(".")[1:]
        parent = "".join(f"{each}/" for each in inside)
        of_container = [
            each.removeprefix(parent).removesuffix("/").removesuffix(".py")
            for each in named
            if re.fullmatch(rf"{parent}[^/]+/?", each)
        ]
        layers = [re.findall(r"\w+", layer) for layer in contract["layers"]]
        order = {name: at for at, layer in enumerate(layers) for name in layer}
        assert sorted(of_container, key=order.__getitem__) == of_container


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_paths_on_the_pages_exist(path):
    """A file that a page names is one of the package or of the repository."""
    named = re.findall(r"``(\w[\w./-]*/[\w.-]*)``", path.read_text(encoding="utf-8"))
    missing = [
        each for each in named if not (PACKAGE / each).exists() and not (ROOT / each).exists()
    ]
    assert missing == []


def test_values_are_where_the_page_says():
    """Each value that is passed on is a class of the module named beside it."""
    _, _, section = page("architecture").partition("The values that are passed on\n")
    values = rows(section.partition("What the code relies on\n")[0], 3)
    assert values
    for name, module, _ in values:
        code = ast.parse((PACKAGE / module.strip("`")).read_text(encoding="utf-8"))
        classes = {node.name for node in code.body if isinstance(node, ast.ClassDef)}
        assert name.strip("`") in classes, f"{module} has no class {name}"


def test_every_check_has_its_command():
    """Each environment of tox is on the page, and each that is on the page is one of tox."""
    settings = configparser.ConfigParser(interpolation=None)
    settings.read(ROOT / "tox.ini", encoding="utf-8")
    known = {each.removeprefix("testenv:") for each in settings if each.startswith("testenv:")}
    shown = set(re.findall(r"tox run -e ([\w-]+)", page("setup")))
    assert {*known, "py311-sqlalchemy20"} == shown


def test_the_words_that_were_given_up_are_on_the_page():
    """Every identifier that a test refuses is in the table."""
    code = ast.parse((ROOT / "tests" / "unit" / "test_words.py").read_text(encoding="utf-8"))
    [refused] = [
        ast.literal_eval(node.value.args[0])
        for node in code.body
        if isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Call)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "GIVEN_UP"
    ]
    text = page("words").partition("Prose and messages")[0].replace("\\", "")
    words = {word for row in rows(text, 2) for cell in row for word in re.findall(r"\w+", cell)}
    assert set(refused) - words == set()
