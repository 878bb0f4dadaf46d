"""The graph as a picture, drawn without any other program.

Every connection has a row of its own. Its label is in that row, next to the signal, and the box of
a sender or a signal is as high as all of its rows. So nothing can overlap, whatever is connected.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from xml.sax.saxutils import escape, quoteattr

from aksara_signals.introspection.graph import Graph, Node

__all__ = ["_STYLE", "to_svg"]

ROW = 44
"""Height of a row, in pixels, like all numbers below."""
BOX = 32
MARGIN = 16
GAP = 72
"""Space between columns, for the arrows."""
LETTER = 7.9
"""Width of a letter of the monospaced font at 13 pixels, rounded up."""
HINT_LETTER = 6.7

_STYLE = (
    "text{font:13px monospace;fill:#222}"
    ".hint,.label{font-size:11px;fill:#666}"
    "rect{stroke:#555;rx:5}.sender{fill:#dbeafe}.signal{fill:#fef3c7}.receiver{fill:#dcfce7}"
    "path{fill:none;stroke:#777}marker path{fill:#777}"
)
"""What the picture looks like."""

_ARROW = (
    '<defs><marker id="arrow" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="8" '
    'markerHeight="8" orient="auto"><path d="M0,0 L8,4 L0,8 z"/></marker></defs>'
)


def to_svg(graph: Graph, *, style: bool = True, links: Mapping[Node, str] | None = None) -> str:
    """The graph as an SVG document.

    Args:
        graph: The connections.
        style: Whether the style is within it. A page that holds the picture, and allows no style
            but its own files, has rules of its own.
        links: Addresses that boxes lead to.
    """
    rows = graph.rows
    senders = _width(row.sender for row in rows)
    signals = _width(row.signal for row in rows)
    labels = max((_length(row.label) * HINT_LETTER for row in rows), default=0)
    x_signal = MARGIN + senders + GAP
    x_label = x_signal + signals + 8
    x_receiver = x_label + labels + GAP
    width = x_receiver + _width(row.receiver for row in rows) + MARGIN
    height = 2 * MARGIN + ROW * max(len(rows), 1)
    placed: dict[Node, float] = {}
    size = f'width="{width:.0f}" height="{height:.0f}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} viewBox="0 0 {width:.0f} {height:.0f}">',
        "<title>signals and their receivers</title>",
    ]
    if style:
        parts.append(f"<style>{_STYLE}</style>")
    parts.append(_ARROW)
    if style:
        parts.append(f'<rect {size} style="fill:#fff;stroke:none"/>')
    if not rows:
        parts.append(f'<text x="{MARGIN}" y="{MARGIN + 20}">no receivers</text>')
    for kind, x in (("sender", MARGIN), ("signal", x_signal), ("receiver", x_receiver)):
        nodes = [getattr(row, kind) for row in rows]
        for node in dict.fromkeys(nodes):
            first = nodes.index(node)
            # A receiver is drawn in its first row; the rows of a sender or signal are adjacent.
            count = 1 if kind == "receiver" else nodes.count(node)
            tall = (count - 1) * ROW + BOX
            placed[node] = MARGIN + first * ROW + count * ROW / 2
            box = _box(kind, node, x=x, middle=placed[node], tall=tall)
            address = links.get(node) if links else None
            if address is None:
                parts.extend(box)
            else:
                parts.extend((f"<a href={quoteattr(address)}>", *box, "</a>"))
    drawn: set[Node] = set()
    for index, row in enumerate(rows):
        y = MARGIN + index * ROW + ROW / 2
        if row.signal not in drawn:
            drawn.add(row.signal)
            # The arrow is horizontal, because a signal's rows are among its sender's rows.
            y_signal = placed[row.signal]
            start = MARGIN + _width([row.sender])
            path = f"M{start:.0f},{y_signal:.0f} H{x_signal:.0f}"
            parts.append(_edge(row.sender, row.signal, path))
        start, bend = x_signal + _width([row.signal]), x_label + labels
        end, middle = placed[row.receiver], (bend + x_receiver) / 2
        path = (
            f"M{start:.0f},{y:.0f} H{bend:.0f} "
            f"C{middle:.0f},{y:.0f} {middle:.0f},{end:.0f} {x_receiver:.0f},{end:.0f}"
        )
        parts.append(_edge(row.signal, row.receiver, path))
        if row.label:
            parts.append(
                f'<text class="label" x="{x_label:.0f}" y="{y - 4:.0f}">{escape(row.label)}</text>'
            )
    return "\n".join([*parts, "</svg>"]) + "\n"


def _box(kind: str, node: Node, *, x: float, middle: float, tall: float) -> Iterator[str]:
    yield (
        f'<rect class="{kind}" id="{node.key}" x="{x:.0f}" y="{middle - tall / 2:.0f}" '
        f'width="{_width([node]):.0f}" height="{tall:.0f}"/>'
    )
    x += 8
    if node.hint:
        yield f'<text x="{x:.0f}" y="{middle - 2:.0f}">{escape(node.title)}</text>'
        yield f'<text class="hint" x="{x:.0f}" y="{middle + 11:.0f}">{escape(node.hint)}</text>'
    else:
        yield f'<text x="{x:.0f}" y="{middle + 4:.0f}">{escape(node.title)}</text>'


def _edge(start: Node, end: Node, path: str) -> str:
    return (
        f'<path d="{path}" marker-end="url(#arrow)" data-from="{start.key}" data-to="{end.key}"/>'
    )


def _width(nodes: Iterable[Node]) -> float:
    """The width of the widest box."""
    return max(
        (
            max(_length(each.title) * LETTER, _length(each.hint) * HINT_LETTER) + 16
            for each in nodes
        ),
        default=0,
    )


def _length(text: str) -> int:
    """The length in columns of a monospaced font, where East Asian letters take two."""
    return sum(2 if unicodedata.east_asian_width(each) in "WF" else 1 for each in text)
