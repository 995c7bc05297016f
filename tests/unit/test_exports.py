"""The sessions in thirty recorded exports, whatever of them arrives, in whatever order, and however often."""

from __future__ import annotations

import random
import time

import pytest
from export_scenes import SCENES
from exports_kit import FOLDER, Export, differences, load, load_all, names

from otel_llm_sessions.view.reading import is_root
from otel_llm_sessions.view.sessions import sessions_of

ALL = names()
BY_ROOTS = frozenset({"parents", "children"})
"""What roots alone say."""


@pytest.fixture(scope="module")
def exports() -> list[Export]:
    return load_all()


def test_there_are_thirty_and_each_has_its_scene():
    assert len(ALL) == 30
    assert sorted(SCENES) == ALL
    assert {file.name for file in FOLDER.iterdir()} == {
        f"{name}{end}" for name in ALL for end in (".jsonl", ".sessions.json")
    }


@pytest.mark.parametrize("name", ALL)
def test_the_sessions_of_an_export_are_those_of_its_books(name):
    export = load(name)
    assert differences(export.sessions, sessions_of(export.spans, export.logs)) == []


@pytest.mark.parametrize("name", ALL)
def test_they_are_so_whatever_comes_twice_or_in_another_order(name):
    export = load(name)
    spans, logs = export.spans * 2, export.logs * 2
    random.Random(name).shuffle(spans)
    random.Random(name).shuffle(logs)
    assert differences(export.sessions, sessions_of(spans, logs)) == []
    assert differences(export.sessions, sessions_of(sorted(spans, key=is_root), logs)) == [], "roots come last"


@pytest.mark.parametrize("seed", range(3))
def test_all_of_them_at_once_are_all_sessions(exports, seed):
    spans = [span for export in exports for span in export.spans]
    logs = [log for export in exports for log in export.logs]
    random.Random(seed).shuffle(spans)
    assert differences([book for export in exports for book in export.sessions], sessions_of(spans, logs)) == []


@pytest.mark.parametrize("name", ALL)
def test_turns_keep_their_session_when_its_roots_are_lost(name):
    export = load(name)
    books = [{fact: value for fact, value in book.items() if fact not in BY_ROOTS} for book in export.sessions]
    found = sessions_of([span for span in export.spans if not is_root(span)], export.logs)
    assert differences(books, found) == []


@pytest.mark.parametrize("name", ALL)
def test_an_export_is_moved_to_now_with_ids_of_its_own(name):
    now = time.time_ns()
    old, new = load(name), load(name, now=now, fresh="again")
    assert max(span.end for span in new.spans) == now
    assert [span.end - span.start for span in new.spans] == [span.end - span.start for span in old.spans]
    for of in ("trace_id", "span_id"):
        assert not {getattr(span, of) for span in old.spans} & {getattr(span, of) for span in new.spans}
    assert not {book["id"] for book in old.sessions} & {book["id"] for book in new.sessions}
    assert differences(new.sessions, sessions_of(new.spans, new.logs)) == []
    assert len(sessions_of([*old.spans, *new.spans], [*old.logs, *new.logs])) == 2 * len(old.sessions)


def test_what_is_not_as_the_books_say_is_told():
    export = load("chain")
    (book,) = export.sessions
    found = sessions_of(export.spans)
    assert differences([], found) == [f"{book['id']} is in no book"]
    assert differences([book], []) == [f"{book['id']} did not arrive"]
    assert "turns" in differences([{**book, "turns": book["turns"][:2]}], found)[0]
    assert "turns" in differences([{**book, "turns": [*book["turns"], {}]}], found)[0]
    assert differences([{**book, "user": "u"}], found) == [f"{book['id']}: user '', expected 'u'"]
