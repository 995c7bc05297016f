"""Which session a call belongs to: every combination of evidence and of what the store knows."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import example, given
from hypothesis import strategies as st

from otel_llm_sessions.sessions.keys import session_key
from otel_llm_sessions.sessions.link import GIVEN_SOURCES, SessionId, SessionLink, SpanRef
from otel_llm_sessions.sessions.resolver import (
    KEY,
    NEW,
    NONE,
    Evidence,
    Resolution,
    lookup_keys,
    only_key,
    resolve,
    tie_by,
)
from otel_llm_sessions.sessions.sources import Given

IDS = st.sampled_from([SessionId(name) for name in ("A", "B", "C")])
ALL_SOURCES = sorted(GIVEN_SOURCES | {"new", "chain_partial"})


def link(session_id: str, turn: int = 1, source: str = "new") -> SessionLink:
    return SessionLink(SessionId(session_id), source, turn, SpanRef(1, turn, 1), 0, 0)  # type: ignore[arg-type]


GIVEN = st.none() | st.builds(Given, IDS, st.sampled_from(sorted(GIVEN_SOURCES)))
LINKS = st.none() | st.builds(link, IDS, st.integers(1, 600), st.sampled_from(ALL_SOURCES))


@st.composite
def situations(draw):
    """Return evidence, what the look-ups find, and whether the call starts sessions, as they can occur together."""
    given_ = draw(GIVEN)
    previous = draw(st.none() | st.sampled_from(["resp_1", "resp_2"]))
    name = SessionId(f"{previous}@a.test~0a1b2c3d")
    ties = (tie_by("chain", f"r:{previous}"),)
    evidence = Evidence(given_, ties, previous, name) if previous else Evidence(given_)
    known = {}
    if previous and (found := draw(LINKS)):
        known[f"r:{previous}"] = found
    if given_ and draw(st.booleans()):
        known[session_key(given_.session_id)] = link(given_.session_id, draw(st.integers(1, 600)), given_.source)
    return evidence, known, draw(st.booleans())


def resolved(evidence, known, starts_session) -> Resolution:
    return resolve(evidence, [known.get(key) for key in lookup_keys(evidence)], starts_session)


FROM_BAGGAGE = Evidence(
    Given(SessionId("A"), "baggage"), (tie_by("chain", "r:resp_1"),), "resp_1", SessionId("resp_1@a.test~0a1b2c3d")
)


@example((FROM_BAGGAGE, {"r:resp_1": link("B")}, True))
@given(situations())
def test_a_given_session_wins_over_all_but_baggage_does_not(situation):
    evidence, known, starts_session = situation
    resolution = resolved(evidence, known, starts_session)
    tied = known.get(f"r:{evidence.previous_id}")
    if evidence.given is not None and evidence.given.source == "baggage" and tied is not None:
        assert (resolution.session_id, resolution.source) == (tied.session_id, "chain")  # it comes from outside
    elif evidence.given is not None:
        assert (resolution.session_id, resolution.source) == evidence.given
        assert resolution.origin == resolution.source


@given(situations())
def test_a_turn_is_one_more_than_the_one_before_it(situation):
    resolution = resolved(*situation)
    if resolution.previous is not None:
        assert resolution.turn == resolution.previous.turn + 1
    else:
        assert resolution.turn == (2 if resolution.source == "chain_partial" else 1)


@given(situations())
def test_whatever_is_known_of_the_previous_response_is_linked_to(situation):
    evidence, known, starts_session = situation
    resolution = resolved(evidence, known, starts_session)
    found = known.get(f"r:{evidence.previous_id}")
    if found is not None:
        assert found in (resolution.previous, resolution.other)


@given(situations())
def test_the_other_session_is_another_one(situation):
    resolution = resolved(*situation)
    if resolution.other is not None:
        assert resolution.other.session_id != resolution.session_id


@given(situations())
def test_the_turn_before_is_of_the_same_session_if_that_has_one(situation):
    evidence, known, starts_session = situation
    resolution = resolved(evidence, known, starts_session)
    same = [found for found in known.values() if found.session_id == resolution.session_id]
    if same:
        assert resolution.previous in same


@given(situations())
def test_without_a_given_session_a_known_chain_is_followed(situation):
    evidence, known, starts_session = situation
    resolution = resolved(replace(evidence, given=None), known, starts_session)
    found = known.get(f"r:{evidence.previous_id}")
    if found is not None:
        assert resolution == Resolution(
            found.session_id, "chain", found.source, found.turn + 1, found, None, key=evidence.ties[0][KEY]
        )
    elif evidence.previous_id is not None:
        assert (resolution.session_id, resolution.source) == (evidence.previous_name, "chain_partial")
    else:
        assert resolution == (NEW if starts_session else NONE)


def test_a_call_without_evidence_looks_nothing_up():
    assert lookup_keys(Evidence()) == []


def test_a_chain_and_the_session_it_is_given_are_looked_up_together():
    evidence = Evidence(Given(SessionId("A"), "metadata"), (tie_by("chain", "r:resp_1"),), "resp_1")
    assert lookup_keys(evidence) == ["r:resp_1", "s:A"]


def test_a_given_session_goes_on_from_its_own_turn_and_knows_the_chain_it_was_given_over():
    evidence = Evidence(Given(SessionId("A"), "metadata"), (tie_by("chain", "r:resp_1"),), "resp_1")
    known = {"r:resp_1": link("B", 7), "s:A": link("A", 3, "metadata")}
    assert resolved(evidence, known, True) == Resolution(
        SessionId("A"), "metadata", "metadata", 4, known["s:A"], known["r:resp_1"], key="r:resp_1"
    )


def test_the_one_key_to_look_up_is_that_of_the_list():
    given, chain, item = Given(SessionId("A"), "header"), tie_by("chain", "r:resp_1"), tie_by("item", "i:msg_1")
    for evidence in (Evidence(given), Evidence(None, (chain,))):
        assert lookup_keys(evidence) == [only_key(evidence)]
    several = (Evidence(given, (chain,)), Evidence(None, (chain, item)), Evidence(None, (chain,), doubt="h?h:1"))
    assert [only_key(evidence) for evidence in (Evidence(), *several)] == ["", "", "", ""]
