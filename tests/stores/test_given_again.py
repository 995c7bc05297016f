"""A server that counts begins again when it restarts: then an id is another response's, for all who share a store."""

from __future__ import annotations

import pytest
from waiting import until

from otel_llm_sessions.sessions.keys import response_key
from otel_llm_sessions.sessions.link import SessionId, SessionLink, SpanRef
from otel_llm_sessions.stores.opening import open_store

SERVER = "a.test:80"


def first_turn(session_id: str, start: int) -> SessionLink:
    return SessionLink(SessionId(session_id), "new", 1, SpanRef(start, start, 1), start, start + 1)


@pytest.fixture(params=["sqlite", "redis"])
def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/db"
    return request.getfixturevalue("_emptied")("redis").url


@pytest.mark.parametrize("id_", ["resp_1", "resp_" + "1" * 300])
def test_what_another_process_got_under_the_same_id_is_found_by_the_one_that_had_it_first(url, id_):
    stores = [open_store(url, ttl=10**9, max_keys=100) for _ in range(2)]
    key = response_key(id_, SERVER)
    now = 1_764_000_000_000_000_000
    for store, session_id, start in zip(stores, ("before", "after"), (now, now + 1_000_000_000), strict=True):
        store.put((key,), first_turn(session_id, start))

    def found() -> list[str]:
        return [link.session_id for store in stores for link in store.get_all((key,)) if link is not None]

    until(lambda: found() == ["after", "after"])  # a file that is late has not said yet what it has
    for store in stores:
        store.close()
