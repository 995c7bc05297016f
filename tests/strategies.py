"""Strategies for what links, records and headers hold."""

from __future__ import annotations

from hypothesis import strategies as st

flags = st.integers(0, 255)
states = st.sampled_from(("", "ot=th:8", "ot=th:8,acme@vendor=a b"))
