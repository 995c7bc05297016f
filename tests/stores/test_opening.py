"""A URL names a store, or is one clear error."""

from __future__ import annotations

import sys

import pytest

from otel_llm_sessions.settings import settings_from
from otel_llm_sessions.stores.guarded import GuardedStore
from otel_llm_sessions.stores.memory import MemoryStore
from otel_llm_sessions.stores.opening import SETTING, MissingExtraError, open_store
from otel_llm_sessions.stores.urls import SCHEMES, redacted


def test_memory_needs_no_guard(closing):
    assert isinstance(closing(open_store("memory://")), MemoryStore)


def test_the_number_of_keys_is_a_setting(closing):
    assert closing(open_store("memory://", max_keys=7))._max_keys == 7


def test_sqlite_makes_its_file_when_it_is_first_used(closing, tmp_path):
    path = tmp_path / "sessions of today.db"
    store = closing(open_store(f"sqlite:///{path}".replace(" ", "%20")))
    assert isinstance(store, GuardedStore)
    assert not path.exists()
    store.get_all(["s:1"])[0]
    assert path.exists()


def test_three_slashes_are_a_path_from_here_also_when_the_process_goes_elsewhere(closing, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    store = closing(open_store("sqlite:///here.db"))
    monkeypatch.chdir("/")
    store.get_all(["s:1"])[0]
    assert (tmp_path / "here.db").exists()


REDIS = [
    *("redis://localhost", "redis://user:pw@[::1]:6380/3", "rediss://host:6379/0?ssl_cert_reqs=none"),
    *("valkey://localhost/2", "valkeys://:pw@host", "unix:///run/redis.sock", "unix://user@/run/redis.sock?db=2"),
    *("redis+cluster://one,two:7001", "rediss+cluster://user:pw@one:7000,[::1]:7001/0?ssl_cert_reqs=none"),
    *("redis+sentinel://one,two:26380/main", "redis+sentinel://:pw@one/main/3", "Redis://localhost"),
]


@pytest.mark.parametrize("url", REDIS)
def test_redis_is_not_connected_by_opening_it(closing, url):
    pytest.importorskip("redis")
    assert isinstance(closing(open_store(url)), GuardedStore)


@pytest.mark.parametrize("url", ["memory://", "sqlite:///here.db", *REDIS])
def test_whatever_names_a_store_is_a_setting(url):
    assert settings_from({"store": url}).store == url
    assert settings_from({}, {SETTING: url}).store == url


def test_every_scheme_is_one_of_those_that_are_tried_here():
    assert {url.partition("://")[0].lower() for url in ("memory://", "sqlite:///", *REDIS)} == set(SCHEMES)


WRONG = [
    *("", "memory", "/var/lib/sessions.db", "mysql://host/db", "://", "memory://there", "unix://"),
    *("sqlite://", "sqlite:///", "sqlite:///:memory:", "sqlite://host/file.db", "sqlite:///file.db?mode=ro"),
    *("redis://host:99999", "redis://[::1", "redis://host/0?no_such_option=1"),
    *("redis://host/sessions", "redis://host/1/2", "rediss://host/-1"),
    *("redis+cluster://one,two/3", "redis+cluster://", "rediss+cluster://one,,two"),
    *("redis+sentinel://one", "redis+sentinel://one/", "redis+sentinel://one/main/x", "redis+sentinel:///main"),
]


@pytest.mark.parametrize("url", [*WRONG, None, 7])
def test_a_wrong_url_is_an_error_that_says_what_is_allowed(url):
    with pytest.raises(ValueError, match="OTEL_LLM_SESSIONS_STORE") as error:
        open_store(url)
    assert repr(str(url)) in str(error.value)
    assert "memory://" in str(error.value)
    assert "rediss://" in str(error.value)


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host/db",
        "redis://:hunter2@host:port",
        "redis://u:a@hunter2@h:x",
        "redis://h?password=hunter2&x=1",
        "redis://h?password=a@hunter2&x=1",
        "redis://:hunter2/more@host/0",
        "redis://user:hunter2",
        "redis://:hunter2℀@host",
        "redis:/:hunter2@host",
        "user:hunter2@host",
        "redis://h/x?passwd=hunter2",
        "redis://h/x?db=1&pass=hunter2&x=y",
        "redis://h/x?PASSWORD=hunter2",
        "redis://h/x?p%61ssword=hunter2",
        "redis://h/x?ssl_password=hunter2",
        "redis://h/x?password=a#hunter2",
        "redis://h/x?password=a=hunter2",
        "redis://h/x?client_secret=hunter2",
        "redis://h/x?auth=hunter2",
        "redis://h/x?key=hunter2",
        "redis://h/x?password=a&hunter2",
        "redis://h/x?password=a&b&hunter2&db=1",
        "redis://[::1]:hunter2",
        "redis://[::1]:hunter2/0",
        "redis://one:1,hunter2:2/0",
        "redis+cluster://one:hunter2,two",
        "redis+sentinel://user:hunter2,two/main",
    ],
)
def test_an_error_never_shows_a_password(url):
    with pytest.raises(ValueError, match=r"\*\*\*") as error:
        open_store(url)
    assert "hunter2" not in str(error.value)
    assert "hunter2" not in redacted(url)


def test_what_is_no_secret_is_shown():
    url = "rediss://host:6380/3?ssl_ca_certs=/etc/ssl/ca.pem&socket_keepalive=true"
    assert redacted(url) == url


def test_a_missing_extra_is_an_error_that_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    for name in ("redis", "redis_lines"):
        monkeypatch.delitem(sys.modules, f"otel_llm_sessions.stores.{name}", raising=False)
    with pytest.raises(MissingExtraError, match=r"OTEL_LLM_SESSIONS_STORE.*pip install 'redis>=5'") as error:
        open_store("redis://localhost")
    assert isinstance(error.value, ValueError)
    assert isinstance(error.value, ImportError)
