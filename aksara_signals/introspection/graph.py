"""The connections as a graph of senders, signals and receivers; as Mermaid and as DOT."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from aksara_signals.introspection.collect import ReceiverEntry
from aksara_signals.introspection.names import printable

__all__ = ["Graph", "GraphRow", "Node", "make_graph", "to_dot", "to_mermaid"]


@dataclass(frozen=True, slots=True)
class Node:
    """A box of the graph."""

    key: str
    """An identifier that is valid in every format."""
    title: str
    """The text in the box: printable, not yet escaped for any format."""
    hint: str = ""
    """File and line of a receiver."""


@dataclass(frozen=True, slots=True)
class GraphRow:
    """One connection: a path from a sender through one of its signals to a receiver.

    A signal has a separate box for each of its senders. One box for all of them would not show
    which sender reaches which receiver.
    """

    sender: Node
    signal: Node
    receiver: Node
    label: str
    """The options, shown between the signal and the receiver."""


@dataclass(frozen=True, slots=True)
class Graph:
    """All connections, grouped by sender, and within it by signal."""

    rows: tuple[GraphRow, ...]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Every box, once."""
        found = [each for row in self.rows for each in (row.sender, row.signal, row.receiver)]
        return tuple(dict.fromkeys(found))

    @property
    def edges(self) -> tuple[tuple[Node, Node, str], ...]:
        """Start, end and label of every arrow, from senders to signals and on to receivers."""
        found: dict[tuple[Node, Node, str], None] = {}
        for row in self.rows:
            found[row.sender, row.signal, ""] = None
            found[row.signal, row.receiver, row.label] = None
        return tuple(found)


def make_graph(entries: Iterable[ReceiverEntry]) -> Graph:
    """The graph of some connections."""
    keys: dict[object, str] = {}

    def node(kind: str, identity: object, title: str, hint: str = "") -> Node:
        key = keys.setdefault((kind, identity), f"{kind}{len(keys)}")
        return Node(key, printable(title), printable(hint))

    rows = [
        GraphRow(
            node("sender", entry.sender, sender_title(entry)),
            node("signal", (entry.sender, entry.signal), entry.signal),
            node("receiver", entry.receiver, entry.receiver.name, entry.receiver.title),
            printable(entry.options_text),
        )
        for entry in entries
    ]
    order = {node.key: place for place, node in enumerate(Graph(tuple(rows)).nodes)}
    rows.sort(key=lambda row: (order[row.sender.key], order[row.signal.key]))
    return Graph(tuple(rows))


def sender_title(entry: ReceiverEntry) -> str:
    """What is in the box of a sender."""
    return "all senders" if entry.sender.name is None else entry.sender.title


# -- Mermaid --------------------------------------------------------------------------------------


def to_mermaid(graph: Graph) -> str:
    """The graph as a Mermaid flowchart."""
    lines = ["flowchart LR"]
    for node in graph.nodes:
        title = _mermaid(node.title)
        lines.append(
            f'    {node.key}["{title}<br/>{_mermaid(node.hint)}"]'
            if node.hint
            else f'    {node.key}["{title}"]'
        )
    for start, end, label in graph.edges:
        arrow = f'-->|"{_mermaid(label)}"|' if label else "-->"
        lines.append(f"    {start.key} {arrow} {end.key}")
    return "\n".join(lines) + "\n"


def _mermaid(text: str) -> str:
    """Escape text between quotes, where only Mermaid's numeric entities are safe."""
    return re.sub(r"[^\w .,=:/()-]", lambda found: f"#{ord(found[0])};", text)


# -- DOT ------------------------------------------------------------------------------------------


def to_dot(graph: Graph) -> str:
    """The graph in the language of Graphviz."""
    lines = ["digraph signals {", "    rankdir=LR;", "    node [shape=box];"]
    for node in graph.nodes:
        hint = f"\\n{_dot(node.hint)}" if node.hint else ""
        lines.append(f'    {node.key} [label="{_dot(node.title)}{hint}"];')
    for start, end, label in graph.edges:
        attributes = f' [label="{_dot(label)}"]' if label else ""
        lines.append(f"    {start.key} -> {end.key}{attributes};")
    return "\n".join([*lines, "}"]) + "\n"


def _dot(text: str) -> str:
    """Escape text between quotes, where Graphviz reads HTML entities, too."""
    return text.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"')
