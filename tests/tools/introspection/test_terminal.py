"""The receivers on terminals of any width."""

from __future__ import annotations

import os

import pytest

SHOP = """
    from aksara_signals import Signal

    paid = Signal("paid")

    @paid.connect(sender="shop", priority=2, dispatch_uid="[bold]thanks")
    async def thank_the_customer_for_the_payment(**kwargs): ...

    @paid.connect
    def count(**kwargs): ...
"""


@pytest.fixture
def shop(project):
    project.write("a_shop_with_a_long_name", SHOP)
    return project


def test_below_a_hundred_columns_each_receiver_has_a_block(shop, monkeypatch):
    """No name is cut, none stands in a column of three letters, and what is empty is left out."""
    monkeypatch.setenv("COLUMNS", "60")
    status, out, err = shop.run("receivers", "a_shop_with_a_long_name")
    assert (status, err) == (0, "")
    assert [line.rstrip() for line in out.splitlines()] == [
        "paid",
        "    sender     'shop'",
        "    receiver   a_shop_with_a_long_name.thank_the_customer_fo",
        "               r_the_payment",
        "    file:line  a_shop_with_a_long_name.py:5",
        "    options    priority=2, dispatch_uid=[bold]thanks",
        "    kind       async",
        "",
        "paid",
        "    sender     all",
        "    receiver   a_shop_with_a_long_name.count",
        "    file:line  a_shop_with_a_long_name.py:8",
        "    kind       sync",
    ]
    assert max(map(len, out.splitlines())) <= 60


@pytest.mark.parametrize(("columns", "is_table"), [("99", False), ("100", True), ("140", True)])
def test_from_a_hundred_columns_on_it_is_a_table(shop, monkeypatch, columns, is_table):
    """As wide as it may be."""
    monkeypatch.setenv("COLUMNS", columns)
    out = shop.run("receivers", "a_shop_with_a_long_name")[1]
    assert ("file:line" in out.splitlines()[1]) is is_table
    assert max(map(len, out.splitlines())) <= int(columns)


@pytest.mark.parametrize("columns", [None, "0", "wide", "80"])
def test_a_pipe_has_no_width(shop, monkeypatch, columns):
    """One line for each receiver, unless a width is asked for."""
    monkeypatch.setenv("LINES", "24")  # with 80, what readline exports without being asked
    monkeypatch.delenv("COLUMNS", raising=False)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    out = shop.run("receivers", "a_shop_with_a_long_name")[1]
    assert len([line for line in out.splitlines() if "paid" in line]) == 2


def test_a_terminal_has_its_own_width(shop, monkeypatch):
    """That which the terminal says it has."""
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setattr("os.get_terminal_size", lambda *_: os.terminal_size((70, 20)))
    out = shop.run("receivers", "a_shop_with_a_long_name")[1]
    assert "    kind       async" in out


def test_no_receivers_are_a_sentence(shop):
    """And no head of a table without rows."""
    choice = ["a_shop_with_a_long_name", "--signal", "post_save"]
    assert shop.run("receivers", *choice) == (0, "no receiver matches\n", "")
