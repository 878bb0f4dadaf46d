"""Compares what receivers are sent with what the database sees."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import inspect
from sqlalchemy.orm.exc import UnmappedColumnError

from aksara_signals import (
    m2m_changed,
    post_delete,
    post_relation_add,
    post_relation_remove,
    post_save,
    post_update,
    pre_delete,
    pre_save,
    pre_update,
)
from kit.properties.blueprints import BY_UPDATES
from kit.properties.row_log import SILENT, WrittenRow
from kit.properties.stories import Story
from kit.properties.testimony import (
    KINDS,
    ORDER,
    Frame,
    Key,
    SentLinks,
    SentRelation,
    SentSignal,
    assert_alike,
)

__all__ = ["Witness"]


class Witness:
    """Receivers of everything, and what they saw.

    Args:
        story: The receivers are connected to its classes, and act when it lets them.
        waits: Whether async receivers really wait; a plain session can't.
    """

    def __init__(self, story: Story, *, waits: bool) -> None:
        self.story = story
        self.timeline: list[SentSignal | SentLinks | SentRelation | WrittenRow] = []
        self.delivered: list[tuple[str, Key, str]] = []
        self.expected: list[list[tuple[str, Key, str]]] = [[]]
        """What is to be delivered after the commit: of the transaction, and of each savepoint."""
        self._waits = waits
        self._tables = {
            story.blueprint.table(number): story.blueprint.table(story.blueprint.root(number))
            for number in range(len(story.blueprint.models))
        }
        self._has_own_deletes = any(
            link.passive_deletes == "True" for link in story.blueprint.links
        )

    # -- receivers -----------------------------------------------------------------------------

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Connect the receivers for as long as the block runs."""
        connected = [
            (signal, signal.connect(receiver, sender=self.story.base, **options))
            for signal, receiver, options in self._receivers()
        ]
        try:
            yield
        finally:
            for signal, receiver in connected:
                assert signal.disconnect(receiver, sender=self.story.base)

    def _receivers(self) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
        rows = {"statements": True}
        for signal in (pre_save, pre_update, pre_delete):
            yield signal, self._receive, {}
        for signal in (post_update, post_delete):
            yield signal, self._receive, rows
        yield post_save, self._receive_changes, rows
        yield m2m_changed, self._receive_links, {}
        yield post_relation_add, self._receive_relation, {}
        yield post_relation_remove, self._receive_relation, {}
        for signal in (post_save, post_delete):
            yield signal, self._receive_committed, {"phase": "after_commit", **rows}
        for signal in (pre_save, pre_delete):
            yield signal, self._read, {}
        for signal in (post_save, post_delete):
            yield signal, self._read, rows
        for signal in (pre_save, pre_update, pre_delete):
            yield signal, self._react, {"priority": -1}
        for signal in (post_update, post_save, post_delete):
            yield signal, self._react, {"priority": -1, **rows}

    def _receive(self, signal: Any, instance: Any, created: bool | None = None, **_: Any) -> None:
        kind = "deleted" if "delete" in signal.name else "created" if created else "updated"
        self.timeline.append(SentSignal(signal.name, kind, instance, None))

    def _receive_changes(
        self, signal: Any, instance: Any, created: bool, changes: Any, **_: Any
    ) -> None:
        kind = "created" if created else "updated"
        self.timeline.append(SentSignal(signal.name, kind, instance, dict(changes)))

    def _receive_links(
        self, sender: Any, instance: Any, action: str, pk_set: Any, reverse: bool, **_: Any
    ) -> None:
        own = instance.id
        link = self.story.blueprint.links[int(sender.name.removeprefix("link"))]
        is_source = link.is_forward is not reverse
        links = [(sender.name, *((own, pk) if is_source else (pk, own))) for pk in pk_set or ()]
        self.timeline.append(SentLinks(action, links))

    def _receive_relation(
        self, signal: Any, instance: Any, child: Any, relation_name: str, **_: Any
    ) -> None:
        number = relation_name.removeprefix("r")
        if number.isdigit() and not self.story.blueprint.links[int(number)].is_many_to_many:
            relation = (f"key{number}", self.key_of(instance), self.key_of(child))
            self.timeline.append(SentRelation(signal is post_relation_add, relation))

    def _receive_committed(self, signal: Any, instance: Any, **_: Any) -> None:
        self.delivered.append((signal.name, self.key_of(instance), instance.name))

    async def _read(self, instance: Any, session: Any, **_: Any) -> None:
        """Whatever is a column, and not deferred, can be read by an async receiver."""
        if self._waits:
            await asyncio.sleep(0)
        for attribute in inspect(instance).mapper.column_attrs:
            if not attribute.deferred:
                getattr(instance, attribute.key)

    def _react(self, signal: Any, **_: Any) -> None:
        self.story.react(signal.name)

    # -- judgement -----------------------------------------------------------------------------

    def key_of(self, instance: Any) -> Key:
        """The row of an instance: its class's first table, and its key."""
        table = self._tables[type(instance).__mapper__.local_table.name]
        state = inspect(instance)
        return table, state.identity[0] if state.identity else state.dict["id"]

    def judge(self, lines: list[str], *, has_failed: bool) -> None:
        """Look at what the last line of the story has done, and forget it.

        Args:
            lines: Of the story, so far.
            has_failed: Whether the last was refused and rolled back; what it sent before counts
                for nothing.
        """
        if not has_failed:
            self._judge_rows([*self.timeline])
        self.timeline.clear()
        self._judge_outcome(lines[-1], has_failed=has_failed)

    def _judge_rows(
        self, timeline: list[SentSignal | SentLinks | SentRelation | WrittenRow]
    ) -> None:
        keys = {
            id(sent.instance): self.key_of(sent.instance)
            for sent in timeline
            if isinstance(sent, SentSignal) and sent.signal.startswith("post")
        }
        frames: dict[Key, list[Frame]] = {}
        for each in timeline:
            if isinstance(each, WrittenRow):
                if each.table in self._tables:
                    self._write(frames, each)
            elif isinstance(each, SentSignal):
                key = keys.get(id(each.instance)) or self._key_if_any(each.instance)
                self._place(frames.setdefault(key, []), each, key)
        open_frames = {
            key: left
            for key, stack in frames.items()
            if (left := [frame for frame in stack if not self._is_own_delete(frame)])
        }
        if self.story.has_reacted:  # a receiver may undo or overtake what others were sent
            open_frames = {
                key: stack
                for key, stack in open_frames.items()
                if any(frame.written for frame in stack)
            }
        assert not open_frames, f"sent before, but not after: {open_frames}"
        gone = {
            self._key_of_row(row)
            for row in timeline
            if isinstance(row, WrittenRow)
            and row.operation == "DELETE"
            and row.table in self._tables
        }
        self._judge_links(timeline, gone)
        self._judge_relations(timeline, gone)

    def _is_own_delete(self, frame: Frame) -> bool:
        """Whether the database may have deleted a row because a statement has deleted another one."""
        is_by_statement = frame.by is not None and frame.kind == "deleted"
        return self._has_own_deletes and is_by_statement and not frame.post

    def _key_if_any(self, instance: Any) -> Key:
        state = inspect(instance)
        return self.key_of(instance) if state.identity else ("unwritten", id(instance))

    def _key_of_row(self, row: WrittenRow) -> Key:
        return self._tables[row.table], (row.new or row.old)["id"]

    def _write(self, frames: dict[Key, list[Frame]], row: WrittenRow) -> None:
        key = self._key_of_row(row)
        stack = frames.get(key)
        if row.by is not None:
            if row.by != SILENT:
                self._write_by_statement(frames.setdefault(key, []), row)
            return
        if not stack:
            is_own = self._has_own_deletes and row.operation == "DELETE"
            assert is_own, f"not sent before: {row}"
            return  # the database's own ON DELETE CASCADE
        stack[-1].written.append(row)

    def _write_by_statement(self, stack: list[Frame], row: WrittenRow) -> None:
        """A row without pre signals; one of a joined class is written in several tables."""
        if not stack or stack[-1].by != row.by or stack[-1].post:
            kind = KINDS[row.operation]
            stack.append(Frame(kind, row.by, pre=ORDER[kind][0]))
        stack[-1].written.append(row)

    def _place(self, stack: list[Frame], sent: SentSignal, key: Key) -> None:
        before, after = ORDER[sent.kind]
        if sent.signal.startswith("pre"):
            if sent.signal == before[0]:
                stack.append(Frame(sent.kind))
            assert stack, f"{sent} of {key} comes alone"
            frame = stack[-1]
            assert frame.kind == sent.kind, f"{sent} of {key} comes within {frame}"
            assert not frame.written, f"{sent} of {key} comes after {frame.written}"
            frame.pre.append(sent.signal)
            assert frame.pre == before[: len(frame.pre)], f"{sent} of {key} comes twice"
            return
        assert stack, f"{sent} of {key} comes without what comes before it"
        if self.story.has_reacted:
            while len(stack) > 1 and not stack[-1].written and stack[-1].kind != sent.kind:
                stack.pop()
        while len(stack) > 1 and stack[-1].kind != sent.kind and self._is_own_delete(stack[-1]):
            stack.pop()
        frame = stack[-1]
        assert (frame.kind, frame.pre) == (sent.kind, before), f"{sent} of {key} after {frame}"
        assert frame.written, f"{sent} of {key}: nothing was written"
        frame.post.append(sent.signal)
        assert frame.post == after[: len(frame.post)], f"{sent} of {key} comes twice"
        if sent.changes is not None:
            self._judge_changes(sent, frame)
        if frame.post == after:
            stack.pop()
            while self.story.has_reacted and stack and not stack[-1].written:
                stack.pop()  # overtaken: sent as updated, then deleted by another receiver
        if sent.signal in ("post_save", "post_delete"):
            self.expected[-1].append((sent.signal, key, self._name_in(frame)))

    def _name_in(self, frame: Frame) -> str | None:
        """The name as it was written; None where it wasn't, as when the row was deleted."""
        names = [name for row in frame.written if (name := row.new.get("name"))]
        return names[-1] if names else None

    def _judge_outcome(self, line: str, *, has_failed: bool) -> None:
        """Follow the transaction: what is delivered after a commit is what it committed."""
        if has_failed or line == "session.rollback()":
            self.expected = [[]]
        elif "begin_nested" in line:
            self.expected.append([])
        elif line.startswith("savepoint"):
            last = self.expected.pop()
            if line.endswith("commit()"):
                self.expected[-1] += last
        elif line == "session.commit()":
            expected = [sent for level in self.expected for sent in level]
            sent = [each[:2] for each in expected]
            delivered = [each[:2] for each in self.delivered]
            if self.story.reactions:  # what a flush in a receiver sends comes in between
                assert Counter(delivered) == Counter(sent), (
                    f"delivered {delivered}, expected {sent}"
                )
            else:
                assert delivered == sent, f"delivered {delivered}, expected {sent}"
                for each, known in zip(self.delivered, expected, strict=True):
                    assert known[2] in (None, each[2]), f"delivered {each}, written {known}"
            self.expected = [[]]
            self.delivered.clear()
        assert not self.delivered, f"delivered although nothing was committed: {self.delivered}"

    def _judge_changes(self, sent: SentSignal, frame: Frame) -> None:
        mapper = inspect(sent.instance).mapper
        real: dict[str, tuple[Any, Any]] = {}
        for row in frame.written:
            for name, value in row.new.items():
                column = mapper.local_table.metadata.tables[row.table].columns[name]
                try:
                    attribute = mapper.get_property_by_column(column).key
                except UnmappedColumnError:
                    continue  # another class's column in the same table
                first = real.get(attribute, (row.old.get(name),))[0]
                real[attribute] = (first, value)
        assert sent.changes is not None
        # What the write adds by itself is on the instance, and no change that anybody made.
        expected = {
            key: pair
            for key, pair in real.items()
            if pair[0] != pair[1]
            and (key in sent.changes or not key.startswith((*BY_UPDATES, "served_")))
        }
        if frame.by is not None and sent.kind == "created":  # nor is what it wasn't given
            expected = {
                key: pair for key, pair in expected.items() if key in ("name", *sent.changes)
            }
        known = {key: pair for key, pair in sent.changes.items() if pair[0] != pair[1]}
        assert known == expected, f"changes {known} of {sent.instance}, written {expected}"

    def _judge_links(self, timeline: list[Any], gone: set[Key]) -> None:
        """Each link that was added or removed is sent once, but for those of what was deleted."""
        sent: Counter[Any] = Counter()
        written: Counter[Any] = Counter()
        for each in timeline:
            if isinstance(each, SentLinks) and each.action.startswith("post"):
                sent.update((each.action == "post_add", *link) for link in each.links)
            elif (
                isinstance(each, WrittenRow) and each.by is None and each.table not in self._tables
            ):
                row = each.new or each.old
                written[
                    each.operation == "INSERT", each.table, row["left_id"], row["right_id"]
                ] += 1
        assert_alike("links", sent, written, lambda link: self._is_end_gone(link, gone))

    def _judge_relations(self, timeline: list[Any], gone: set[Key]) -> None:
        """Each foreign key that a collection or its other side has set is sent for its owners."""
        sent: Counter[Any] = Counter()
        written: Counter[Any] = Counter()
        for each in timeline:
            if isinstance(each, SentRelation):
                if self._is_judged(int(each.relation[0].removeprefix("key")), each.is_added):
                    sent[each.is_added, *each.relation] += 1
            elif isinstance(each, WrittenRow) and each.by is None and each.table in self._tables:
                written.update(self._set_keys(each))
        assert_alike("relations", sent, written, lambda relation: not gone.isdisjoint(relation[2:]))

    def _is_judged(self, place: int, is_added: bool) -> bool:
        """Whether each foreign key of a relationship has to be sent.

        A collection that leaves its former children their key doesn't know when they lose it.
        """
        link = self.story.blueprint.links[place]
        if link.kind == "many_to_one" or place in self.story.set_by_column:
            return False
        return is_added or link.kind != "one_to_many" or link.passive_deletes != '"all"'

    def _set_keys(self, row: WrittenRow) -> Iterator[tuple[bool, str, Key, Key]]:
        blueprint = self.story.blueprint
        for place, link in enumerate(blueprint.links):
            column = f"key{place}"
            owner = blueprint.table(blueprint.root(link.source))
            child = self._key_of_row(row)
            old, new = row.old.get(column), row.new.get(column)
            for is_added, value in ((False, old), (True, new)):
                if old != new and value is not None and self._is_judged(place, is_added):
                    yield is_added, column, (owner, value), child

    def _is_end_gone(self, link: tuple[bool, str, Any, Any], gone: set[Key]) -> bool:
        _, table, left, right = link
        blueprint = self.story.blueprint
        declared = blueprint.links[int(table.removeprefix("link"))]
        ends = [
            (blueprint.table(blueprint.root(number)), key)
            for number, key in ((declared.source, left), (declared.target, right))
        ]
        return not gone.isdisjoint(ends)
