import os
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest
from asyncpg.connect_utils import _parse_connect_dsn_and_args  # type: ignore[attr-defined] # not in the stubs
from hypothesis import given, settings
from hypothesis import strategies as st

from retentiond.config.connection import ConnectionStringError, SqliteError, redacted, to_url

UNHURRIED = settings(deadline=None)
SECRET = "hunter2"
ANY_WORD = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=20)


@pytest.fixture(autouse=True, scope="module")
def no_defaults_of_this_machine() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PG")]:
            patch.delenv(name)
        yield


def as_asyncpg_reads(url: str) -> dict[str, Any]:
    given: dict[str, Any] = dict.fromkeys([
        *("host", "port", "user", "password", "passfile", "database", "ssl", "service", "servicefile"),
        *("direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib"),
    ])  # fmt: skip
    addresses, parameters = _parse_connect_dsn_and_args(**{**given, "dsn": url})
    return {"addresses": addresses, **parameters._asdict()}


def pairs(**values: str) -> str:
    escaped = {name: value.replace("\\", "\\\\").replace("'", "\\'") for name, value in values.items()}
    return " ".join(f"{name} = '{value}'" for name, value in escaped.items())


@UNHURRIED
@given(user=ANY_WORD, password=ANY_WORD, database=ANY_WORD)
def test_key_value_pairs_reach_asyncpg_unchanged(user: str, password: str, database: str) -> None:
    read = as_asyncpg_reads(to_url(pairs(user=user, password=password, dbname=database, host="db.example")))
    assert (read["user"], read["password"], read["database"]) == (user, password, database)
    assert read["addresses"] == [("db.example", 5432)]


@UNHURRIED
@given(user=ANY_WORD, password=ANY_WORD, database=ANY_WORD)
def test_a_url_reaches_asyncpg_unchanged(user: str, password: str, database: str) -> None:
    userinfo = f"{quote(user, safe='')}:{quote(password, safe='')}"
    read = as_asyncpg_reads(to_url(f"postgres://{userinfo}@db.example:5433/{quote(database, safe='')}"))
    assert (read["user"], read["password"], read["database"]) == (user, password, database)
    assert read["addresses"] == [("db.example", 5433)]


@UNHURRIED
@given(ANY_WORD, ANY_WORD)
def test_what_was_turned_into_a_url_stays_as_it_is(user: str, password: str) -> None:
    url = to_url(pairs(user=user, password=password))
    assert to_url(url) == url


@UNHURRIED
@given(
    st.text(max_size=60), st.sampled_from(["", "postgresql://", "host=", "password='", "postgres://u:p@h?"])
)
def test_nonsense_is_an_error_or_a_url_and_nothing_else(text: str, start: str) -> None:
    try:
        assert to_url(start + text).startswith("postgresql://")
    except ConnectionStringError:
        assert redacted(start + text) == "(a connection string that cannot be read)"


@pytest.mark.parametrize(
    ("text", "password"),
    [
        (r"password=a\ b", "a b"),
        (r"password=a\ ", "a "),
        (r"password='a b'", "a b"),
        (r"password = 'it\'s \\ here'", r"it's \ here"),
        ("password=it's", "it's"),
        ("  password\t=\nx  ", "x"),
        ("postgresql://u:a@b@localhost", "a@b"),
        ("postgresql://u@localhost?password=a%2Bb+c", "a+b c"),
    ],
)
def test_quoting_is_read_as_lib_pq_reads_it(text: str, password: str) -> None:
    assert as_asyncpg_reads(to_url(text))["password"] == password


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("dbname=dendrite", [("localhost", 5432)]),
        ("postgresql:///dendrite", [("localhost", 5432)]),
        ("host=/run/postgresql", ["/run/postgresql/.s.PGSQL.5432"]),
        ("host=/run/postgresql port=5433", ["/run/postgresql/.s.PGSQL.5433"]),
        ("postgresql:///d?host=/run/postgresql", ["/run/postgresql/.s.PGSQL.5432"]),
        ("postgresql://u:p@%2Frun%2Fpg/d", ["/run/pg/.s.PGSQL.5432"]),
        ("host='/run/a:b c'", ["/run/a:b c/.s.PGSQL.5432"]),
        ("host=::1 port=1", [("::1", 1)]),
        ("postgresql://[fe80::1%25eth0]:7/d", [("fe80::1%eth0", 7)]),
        ("postgresql://a:1,b/d", [("a", 1), ("b", 5432)]),
        ("host=a,::1,/run port=1,2,3", [("a", 1), ("::1", 2), "/run/.s.PGSQL.3"]),
        ("host=a,b port=7", [("a", 7), ("b", 7)]),
    ],
)
def test_hosts_and_ports_reach_asyncpg(text: str, addresses: list[object]) -> None:
    assert as_asyncpg_reads(to_url(text))["addresses"] == addresses


def test_a_user_without_a_database_is_not_given_one_without_a_name() -> None:
    assert as_asyncpg_reads(to_url("postgresql://alice@localhost/"))["database"] == "alice"


def test_what_only_other_drivers_know_is_left_out() -> None:
    others = "binary_parameters=yes fallback_application_name=x application_name=y connect_timeout=5 krbspn=z"
    assert as_asyncpg_reads(to_url(f"host=h {others}"))["server_settings"] is None


def test_settings_of_the_session_go_to_the_server_as_with_lib_pq() -> None:
    url = to_url("postgresql://h/d?search_path=matrix%2Cpublic&sslmode=disable")
    assert as_asyncpg_reads(url)["server_settings"] == {"search_path": "matrix,public"}


@pytest.mark.parametrize("mode", ["disable", "require"])
def test_the_ssl_mode_is_kept(mode: str) -> None:
    assert as_asyncpg_reads(to_url(f"postgresql://h/d?sslmode={mode}"))["sslmode"].name == mode


def test_certificates_mean_nothing_on_a_unix_socket() -> None:
    url = to_url("host=/run/postgresql sslmode=verify-full sslrootcert=/nowhere/root.crt")
    assert not as_asyncpg_reads(url)["ssl"]


def test_a_service_says_the_host_itself() -> None:
    assert to_url("service=dendrite") == "postgresql://?service=dendrite"


@pytest.mark.parametrize(
    "text",
    [
        "",
        SECRET,
        f"mysql://u:{SECRET}@h/d",
        f"postgresql://u:{SECRET}/x@h/d",
        f"postgresql://u:{SECRET}#@h/d",
        f"postgresql://u:{SECRET}%@h/d",
        f"postgresql://u:{SECRET}%FF@h/d",
        f"postgresql://u:{SECRET}@h:port/d",
        f"postgresql://u:{SECRET}@::1/d",
        f"postgresql://u:{SECRET}@h:0/d",
        f"postgresql://u:{SECRET}@h:65536/d",
        f"postgresql://u:{SECRET}@h/d?sslmode",
        f"postgresql://u:{SECRET}@h/d?sslmode=no",
        f"postgresql://h/d?password={SECRET}&password={SECRET}",
        f"password='{SECRET}",
        f"password={SECRET}\\",
        f"password=a {SECRET}",
        f"password={SECRET} ho-st=x",
        f"password={SECRET} host=a/b",
        f"password={SECRET} host=x:y",
        f"password={SECRET} host=a,b,c port=1,2",
        f"password={SECRET} requirepeer=root",
        f"password={SECRET} channel_binding=require",
        f"password={SECRET}\0",
        f"password={SECRET}\udcff",
    ],
)
def test_an_error_never_shows_the_password(text: str) -> None:
    with pytest.raises(ConnectionStringError) as caught:
        to_url(text)
    assert SECRET not in str(caught.value)
    assert caught.value.__cause__ is None
    assert SECRET not in redacted(text)


def test_sqlite_is_told_apart() -> None:
    with pytest.raises(SqliteError, match="PostgreSQL only"):
        to_url("file:dendrite.db")


def test_what_asks_for_nothing_that_asyncpg_lacks_is_no_error() -> None:
    assert to_url("host=h channel_binding=prefer gssencmode=disable") == "postgresql://h"


@UNHURRIED
@given(
    ANY_WORD.filter(lambda word: word not in "postgresql://alice@db.example:5433/dendrite?sslmode=require")
)
def test_the_redacted_form_names_the_place_and_no_secret(secret: str) -> None:
    text = (
        pairs(
            user="alice",
            password=secret,
            host="db.example",
            port="5433",
            dbname="dendrite",
            sslmode="require",
        )
        + " "
        + pairs(pasword=secret, sslpassword=secret)
    )
    assert redacted(text) == "postgresql://alice@db.example:5433/dendrite?sslmode=require"
