"""The ways to an administrator: a ping, a webhook, or a service of Apprise; each sends one notice, or says why not."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qsl, urlencode, urlsplit

import aiohttp

from retentiond import __version__
from retentiond.config.notify import apprise_class
from retentiond.model.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from retentiond.config.notify import Notify, Ping, Webhook
    from retentiond.model.notices import Notice, Occasion, Wording

TIMEOUT: Final = 15.0
"""Seconds that a channel has for one notice."""
_CONNECT_TIMEOUT: Final = 5.0
_LONGEST_BODY: Final = 10_000


class NotSentError(Exception):
    """A notice could not be sent; `again`: a later attempt may succeed. The message shows no URL."""

    def __init__(self, message: str, *, again: bool) -> None:
        super().__init__(message)
        self.again = again


class Channel(Protocol):
    """A way to send notices; `name` may be shown and logged."""

    @property
    def name(self) -> str:
        """Its kind and host, without anything secret."""

    @property
    def is_ping(self) -> bool:
        """Whether its notices are sent at once, in quiet hours, too."""

    def wants(self, notice: Notice) -> bool:
        """Return whether this notice is for it."""

    async def send(self, notice: Notice) -> None:
        """Send it; raise NotSentError."""


def channels_of(notify: Notify, host: str) -> list[Channel]:
    """Return the configured channels."""
    return [
        *(PingChannel(ping) for ping in notify.ping),
        *(WebhookChannel(webhook, notify, host) for webhook in notify.webhooks),
        *(AppriseChannel(url.get_secret_value(), notify, host) for url in notify.apprise),
    ]


class PingChannel:
    """A dead man's switch: receives the start, the success and the failure of each pass."""

    is_ping = True
    _OCCASIONS: Final[frozenset[Occasion]] = frozenset({"start", "success", "failure", "refusal", "test"})

    def __init__(self, ping: Ping) -> None:
        self._url = ping.url.get_secret_value()
        self._style = ping.style
        self._targets = ping.targets
        self.name = f"ping {_host_of(self._url)}"

    def wants(self, notice: Notice) -> bool:
        """Return whether it is a phase of a pass over one of its targets."""
        if notice.occasion not in self._OCCASIONS or (
            self._style == "uptime_kuma" and notice.occasion == "start"
        ):
            return False
        return notice.occasion == "test" or self._targets is None or notice.target in self._targets

    async def send(self, notice: Notice) -> None:
        """Request the URL of the phase; the text of a failure is the body."""
        failed = notice.occasion in ("failure", "refusal")
        parts = urlsplit(self._url)
        if self._style == "uptime_kuma":
            query = {"status": "down" if failed else "up", "msg": notice.message[:200] or "OK"}
            # The URL that the service shows has values for them already.
            others = [(name, value) for name, value in parse_qsl(parts.query, True) if name not in query]
            await _request("GET", parts._replace(query=urlencode([*query.items(), *others])).geturl())
            return
        suffix = "/fail" if failed else "/start" if notice.occasion == "start" else ""
        url = parts._replace(path=parts.path.rstrip("/") + suffix).geturl()
        await _request("POST", url, body=notice.message.encode()[:_LONGEST_BODY])


class _NoticeChannel:
    """A channel that receives the configured events."""

    is_ping = False

    def __init__(self, notify: Notify, host: str) -> None:
        self._events = frozenset(notify.events)
        self._wording: Wording = notify.wording
        self._host = host

    def wants(self, notice: Notice) -> bool:
        """Return whether the channel receives an event."""
        return notice.occasion == "test" or notice.occasion in self._events


class WebhookChannel(_NoticeChannel):
    """A URL that takes a JSON document by POST."""

    def __init__(self, webhook: Webhook, notify: Notify, host: str) -> None:
        super().__init__(notify, host)
        self._url = webhook.url.get_secret_value()
        self._headers = {name: value.get_secret_value() for name, value in webhook.headers.items()}
        self.name = f"webhook {_host_of(self._url)}"

    async def send(self, notice: Notice) -> None:
        """Post the document."""
        document = notice.as_json(self._host, *self._wording.of(notice, self._host))
        await _request("POST", self._url, document=document, headers=self._headers)


class AppriseChannel(_NoticeChannel):
    """One service of Apprise."""

    def __init__(self, url: str, notify: Notify, host: str) -> None:
        super().__init__(notify, host)
        self._url = url
        self.name = f"apprise {url.partition(':')[0]}"

    async def send(self, notice: Notice) -> None:
        """Hand the notice to the service, whose answer has no reason for a failure."""
        title, body = self._wording.of(notice, self._host)
        service = apprise_class()()
        service.add(self._url)
        try:
            async with asyncio.timeout(TIMEOUT):
                sent = await service.async_notify(title=title, body=body)
        except TimeoutError:
            raise NotSentError(f"no answer within {TIMEOUT:.0f} seconds", again=True) from None
        if not sent:
            raise NotSentError("the service did not take it; check its URL", again=True)


async def _request(
    method: str,
    url: str,
    *,
    body: bytes | None = None,
    document: object = None,
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send one request, and read no more of the answer than its status.

    Redirects are not followed: a notice would reach another server than the configured one.
    """
    timeout = aiohttp.ClientTimeout(total=TIMEOUT, connect=_CONNECT_TIMEOUT)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.request(
                method,
                url,
                data=body,
                json=document,
                headers={"User-Agent": f"retentiond/{__version__}", **(headers or {})},
                allow_redirects=False,
            ) as response,
        ):
            _check(response.status)
    except TimeoutError:
        raise NotSentError(f"no answer within {TIMEOUT:.0f} seconds", again=True) from None
    except aiohttp.ClientConnectorCertificateError:
        raise NotSentError(
            "the certificate of the server is not valid; check the URL and the server", again=True
        ) from None
    except (aiohttp.ClientError, OSError, ValueError) as error:
        raise NotSentError(f"cannot be reached: {_reason(error)}", again=True) from None


def _check(status: int) -> None:
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise NotSentError(f"it redirects (status {status}); write the final URL", again=False)
    if status >= HTTPStatus.BAD_REQUEST:
        again = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
        raise NotSentError(f"status {status}; check the URL", again=again)


def _reason(error: BaseException) -> str:
    """Return the system's words; those of the library have the URL in them."""
    if isinstance(error, aiohttp.ClientConnectorError):
        error = error.os_error
    words = error.strerror if isinstance(error, OSError) else None
    return printable(words or type(error).__name__, 200)


def _host_of(url: str) -> str:
    return printable(urlsplit(url).hostname or "", 100)
