"""The keys under which a turn is remembered."""

from __future__ import annotations

import tracemalloc
import uuid

from hypothesis import given
from hypothesis import strategies as st

from otel_llm_sessions.sessions.keys import MAX_KEY, response_key, session_key, unscoped_key
from otel_llm_sessions.sessions.randomness import UNIQUE_BITS, bits_of

OPENAI = "resp_68a0c5f1e2d3c4b5a69788796a5b4c3d2e1f0"


def test_an_id_that_is_one_of_a_kind_is_known_whichever_server_sent_it():
    assert response_key(OPENAI, "one:1") == response_key(OPENAI, "two:2")


def test_any_other_id_counts_for_its_own_server_only():
    assert response_key("resp_2", "one:1") != response_key("resp_2", "two:2")


@given(st.text(), st.text())
def test_keys_of_sessions_and_of_responses_are_never_the_same(one, two):
    assert session_key(one) != response_key(two, "server")
    assert (session_key(one) == session_key(two)) == (one == two)


@given(st.text(), st.text())
def test_two_ids_of_one_server_have_two_keys(one, two):
    assert (response_key(one, "127.0.0.1:80") == response_key(two, "127.0.0.1:80")) == (one == two)


@given(st.text(max_size=400), st.sampled_from(["a.test:80", "b.test:80", "a.test:80:b.test:80"]))
def test_no_id_can_be_made_so_that_it_is_known_for_another_servers(id_, server):
    for other in ("a.test:80", "b.test:80"):
        for forged in (f"{server}:{id_}", f"{server} {id_}", f"@{server} {id_}", response_key(id_, server)):
            assert response_key(forged, other) != response_key(id_, server)


def test_an_id_that_holds_an_address_is_not_known_for_that_servers():
    address = "tenant-a.test:80:resp_123"
    assert response_key(address, "tenant-b.test:80") != response_key("resp_123", "tenant-a.test:80")


@given(st.text(max_size=1024), st.text(max_size=300))
def test_keys_are_bounded(id_, server):
    assert len(response_key(id_, server)) <= MAX_KEY + 2


@given(st.from_regex(r"[a-z]{2,5}_[0-9a-f]{36,52}", fullmatch=True) | st.text(max_size=200))
def test_an_id_has_a_key_that_is_anybodys_if_it_is_one_of_a_kind(id_):
    key = unscoped_key(id_)
    assert bool(key) == (bits_of(id_) >= UNIQUE_BITS)
    assert key == "" or key == response_key(id_, "one:1") == response_key(id_, "two:2")


def test_of_the_ids_that_were_judged_only_the_last_few_are_kept():
    ids = [f"resp_{uuid.uuid4().hex}{uuid.uuid4().hex}" for _ in range(2_000)]
    unscoped_key(ids[0])
    tracemalloc.start()
    try:
        for id_ in ids:
            unscoped_key(id_)
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept < 40_000  # bytes; all of them take 300,000
