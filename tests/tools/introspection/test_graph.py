"""The graph in its three formats: every edge is there, and no name can break out of its place."""

from __future__ import annotations

import html
import re
from xml.etree import ElementTree as ET

import pytest

HOSTILE = '"]; <script>&amp;\\N\n{x}|`#59;'
SHOWN = HOSTILE.replace("\n", "\\n")

MODULE = f"""
from aksara_signals import Signal

Hostile = type({HOSTILE!r}, (), {{}})
Usual = type("Usual", (), {{}})

paid = Signal("paid")
sold = Signal({HOSTILE!r})

@paid.connect(sender=Hostile, dispatch_uid={HOSTILE!r})
@paid.connect(sender=Usual)
@sold.connect(sender=Usual, priority=1)
def one(**kwargs): ...

@paid
@sold.connect(sender=Usual)
def two(**kwargs): ...
two.__qualname__ = {HOSTILE!r}
"""

EDGES = {
    ("Usual", "paid", ""),
    ("Usual", SHOWN, ""),
    (SHOWN, "paid", ""),
    ("all senders", "paid", ""),
    ("paid", "one", ""),
    ("paid", "one", f"dispatch_uid={SHOWN}"),
    (SHOWN, "one", "priority=1"),
    ("paid", SHOWN, ""),
    (SHOWN, SHOWN, ""),
}


def drawn(project, form):
    project.write("hostile", MODULE)
    status, out, err = project.run("graph", "hostile", "--format", form)
    assert (status, err) == (0, "")
    return out


def short(title):
    return title.partition("<LINE>")[0].removeprefix("hostile.")


def read_mermaid(text):
    def unescape(found):
        assert not re.search(r'["<>&\\\n{}|`]', found.replace("<br/>", ""))
        return re.sub(r"#(\d+);", lambda one: chr(int(one[1])), found.replace("<br/>", "<LINE>"))

    first, *lines = text.splitlines()
    assert first == "flowchart LR"
    titles, edges = {}, []
    for line in lines:
        if node := re.fullmatch(r'    (\w+)\["(.*)"\]', line):
            titles[node[1]] = short(unescape(node[2]))
        else:
            edge = re.fullmatch(r'    (\w+) -->(?:\|"(.*)"\|)? (\w+)', line)
            assert edge, line
            edges.append((edge[1], edge[3], unescape(edge[2] or "")))
    return titles, edges


def read_dot(text):
    quoted = r'"((?:[^"\\]|\\.)*)"'

    def unescape(found):
        found = re.sub(r"\\(.)", lambda one: "<LINE>" if one[1] == "n" else one[1], found)
        return html.unescape(found)

    lines = text.splitlines()
    assert [*lines[:3], lines[-1]] == [
        "digraph signals {", "    rankdir=LR;", "    node [shape=box];", "}",
    ]  # fmt: skip
    titles, edges = {}, []
    for line in lines[3:-1]:
        if node := re.fullmatch(rf"    (\w+) \[label={quoted}\];", line):
            titles[node[1]] = short(unescape(node[2]))
        else:
            edge = re.fullmatch(rf"    (\w+) -> (\w+)(?: \[label={quoted}\])?;", line)
            assert edge, line
            edges.append((edge[1], edge[2], unescape(edge[3] or "")))
    return titles, edges


@pytest.mark.parametrize(("form", "read"), [("mermaid", read_mermaid), ("dot", read_dot)])
def test_text_has_every_edge_and_escapes_names(project, form, read):
    """Read back, the text gives the very names and edges that went in."""
    titles, edges = read(drawn(project, form))
    assert {(titles[start], titles[end], label) for start, end, label in edges} == EDGES
    assert len(edges) == len(EDGES)


def test_signal_has_a_box_for_each_of_its_senders(project):
    """Whose receivers are whose can be followed along the arrows."""
    titles, edges = read_mermaid(drawn(project, "mermaid"))
    paths = {
        (titles[start], titles[middle], titles[end])
        for start, middle, _ in edges
        for inner, end, _ in edges
        if middle == inner
    }
    assert paths == {
        (SHOWN, "paid", "one"),
        ("Usual", "paid", "one"),
        ("Usual", SHOWN, "one"),
        ("Usual", SHOWN, SHOWN),
        ("all senders", "paid", SHOWN),
    }


def read_svg(text):
    root = ET.fromstring(text)
    return root, {"svg": "http://www.w3.org/2000/svg"}


def test_svg_has_every_edge_and_escapes_names(project):
    """The picture is well-formed XML with a box for every name and an arrow for every edge."""
    root, space = read_svg(drawn(project, "svg"))
    boxes = {each.get("id"): each.get("class") for each in root.iterfind("svg:rect[@id]", space)}
    arrows = [
        (each.get("data-from"), each.get("data-to"))
        for each in root.iterfind("svg:path[@data-from]", space)
    ]
    assert sorted(boxes.values()) == ["receiver"] * 2 + ["sender"] * 3 + ["signal"] * 4
    assert len(arrows) == len(EDGES)
    assert {end for pair in arrows for end in pair} == set(boxes)
    texts = [each.text for each in root.iterfind("svg:text", space)]
    assert texts.count(SHOWN) == 1
    assert {f"hostile.{SHOWN}", "paid", "hostile.py:9", "priority=1"} <= set(texts)
    assert f"dispatch_uid={SHOWN}" in texts
    assert not list(root.iter("script"))


def test_boxes_of_the_svg_do_not_overlap(project):
    """No two boxes share a point, and all lie within the picture."""
    root, space = read_svg(drawn(project, "svg"))
    sizes = [
        tuple(float(each.get(key)) for key in ("x", "y", "width", "height"))
        for each in root.iterfind("svg:rect[@id]", space)
    ]
    for index, (x, y, width, height) in enumerate(sizes):
        assert x >= 0
        assert x + width <= float(root.get("width"))
        assert y + height <= float(root.get("height"))
        for x2, y2, width2, height2 in sizes[index + 1 :]:
            assert x + width < x2 or x2 + width2 < x or y + height < y2 or y2 + height2 < y


@pytest.mark.parametrize(
    ("form", "expected"),
    [("mermaid", "flowchart LR\n"), ("dot", "digraph signals {"), ("svg", "no receivers")],
)
def test_nothing_connected_is_an_empty_graph(project, form, expected):
    """Without receivers the graph is empty and still valid."""
    project.write("silent", "")
    status, out, _ = project.run("graph", "silent", "--format", form)
    assert status == 0
    assert expected in out
