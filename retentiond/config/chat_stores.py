"""Secondary stores of chats: their addresses, and the names of their columns and fields."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr

from retentiond.config.section import Conflict, Section
from retentiond.config.values import AbsolutePath, HttpUrls, repeated_urls

_NAME_LIMIT: Final = 255


def _name(text: str) -> str:
    if not text.strip() or len(text) > _NAME_LIMIT or not text.isprintable():
        raise ValueError(f"must be a name of 1 to {_NAME_LIMIT} characters")
    return text


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


Name = Annotated[str, AfterValidator(_name)]
"""The name of a table, a column, an index or a field."""


Kind = Annotated[str, BeforeValidator(_as_text, json_schema_input_type=str | int)]
"""A kind of messages; it may be written as a number."""
WithoutChat = Literal["keep", "purge"]
_WITHOUT_CHAT: Final = (
    "What to do with {0} without a chat's ID, or with all {0} if no {1} has it: they cannot be compared with the "
    "database. keep: they stay. purge: they are deleted by account and date alone."
)
_URL: Final = "The {0}, or a list `[a, b]` of servers with the same data: if one fails, the next one is used."


def _url_conflicts(given: Mapping[str, Any]) -> Iterator[Conflict]:
    """Yield the URLs that are listed twice."""
    for place, first in repeated_urls(given.get("url")):
        yield Conflict(("url", place), f"is the same server as entry {first + 1}; keep one of them")


class ClickHouseStore(Section):
    """The statistics in ClickHouse."""

    url: HttpUrls = Field(description=_URL.format("HTTP interface"), examples=["http://localhost:8123"])
    table: Name = Field(default="webim_stats.thread", description="The table with its database.")
    account_column: Name = Field(default="account", description="The column with the account's name.")
    date_column: Name = Field(
        default="created", description="The column with the date by which rows are purged."
    )
    thread_column: Name | None = Field(
        default=None,
        description="The column with the chat's ID. Rows are deleted only if the database does not have their chat.",
        examples=["threadid"],
    )
    visitor_column: Name | None = Field(
        default=None,
        description="The column with the visitor's ID. With it the erasure of a visitor finds rows of chats that the database no longer "
        "has.",
        examples=["visitorid"],
    )
    without_chat: WithoutChat = Field(default="keep", description=_WITHOUT_CHAT.format("rows", "column"))
    cluster: Name | None = Field(
        default=None,
        description="The name of the cluster, if the table is on several servers.",
        examples=["main"],
    )
    user: str | None = Field(default=None, description="The user name.", examples=["retentiond"])
    password: SecretStr | None = Field(
        default=None, description="The password.", examples=["credential:clickhouse"]
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the URLs that are listed twice."""
        yield from _url_conflicts(given)


class ElasticsearchStore(Section):
    """The search, in Elasticsearch or OpenSearch."""

    url: HttpUrls = Field(description=_URL.format("URL"), examples=["http://localhost:9200"])
    index: Name = Field(description="The index, or an alias of it.", examples=["chats"])
    account_field: Name = Field(default="account", description="The field with the account's name.")
    date_field: Name = Field(
        default="created", description="The field with the date by which documents are purged."
    )
    thread_field: Name | None = Field(
        default=None,
        description="The field with the chat's ID. Documents are deleted only if the database does not have their chat.",
        examples=["threadid"],
    )
    visitor_field: Name | None = Field(
        default=None,
        description="The field with the visitor's ID. With it the erasure of a visitor finds documents of chats that the database no longer "
        "has.",
        examples=["visitorid"],
    )
    without_chat: WithoutChat = Field(default="keep", description=_WITHOUT_CHAT.format("documents", "field"))
    kind_field: Name | None = Field(
        default=None,
        description="The field with the kind of a message, if each message is a document of its own. With `text_kinds`, the texts of chats "
        "that are kept for their messages with files are purged, too.",
        examples=["kind"],
    )
    text_kinds: tuple[Kind, ...] = Field(
        default=(),
        description="The kinds of messages without a file, as that field has them. Documents of other kinds are kept with their chat.",
        examples=[[1, 2, 10]],
    )
    user: str | None = Field(default=None, description="The user name.", examples=["retentiond"])
    password: SecretStr | None = Field(
        default=None, description="The password.", examples=["credential:elasticsearch"]
    )
    api_key: SecretStr | None = Field(
        default=None, description="An API key, instead of user and password.", examples=["credential:api_key"]
    )
    ca_file: AbsolutePath | None = Field(
        default=None,
        description="The certificate of the authority that signed the server's certificate.",
        examples=["/etc/ssl/search-ca.pem"],
    )

    @classmethod
    def conflicts(cls, given: Mapping[str, Any]) -> Iterator[Conflict]:
        """Yield the URLs that are listed twice, and that there are two ways to log in."""
        yield from _url_conflicts(given)
        if (given.get("kind_field") is None) != (not given.get("text_kinds")):
            lacking = "text_kinds" if given.get("kind_field") is not None else "kind_field"
            yield Conflict((), f"needs `{lacking}` too, which distinguishes texts from files; add it")
        if given.get("api_key") is not None and (given.get("user") or given.get("password")) is not None:
            yield Conflict(("api_key",), "cannot stand beside `user` and `password`; keep one of them")
