"""The paths of the daemon's HTTP servers, from what is known already: that of `http`, and the narrow one of `metrics`."""

from __future__ import annotations

import asyncio
import gzip
import json
import re
from dataclasses import dataclass
from datetime import UTC, timedelta
from email.utils import format_datetime
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from aiohttp import web

from retentiond import __version__
from retentiond.adapters.http import Endpoint, Listener, refuse
from retentiond.adapters.http_access import LOOPBACK_NAMES, Access
from retentiond.adapters.logging import get_logger
from retentiond.config.http import WILDCARDS
from retentiond.ledger.host import host_name
from retentiond.model.text import printable
from retentiond.model.usage import DEFAULT_ROWS, DIVISIONS, MOST_ROWS, cut, usage_document
from retentiond.report.landing import Landing, landing_policy, render_landing
from retentiond.report.target_report import status_document
from retentiond.terminal.words import age_in_words, time_in_words

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from retentiond.adapters.clock import Clock
    from retentiond.adapters.http import Route
    from retentiond.adapters.metrics import Metrics
    from retentiond.config.http import Http
    from retentiond.config.schema import Metrics as MetricsSection
    from retentiond.daemon.pages import Pages, Usage
    from retentiond.daemon.states import TargetStates
    from retentiond.model.usage import UsageBy, UsageRow

_OPEN: Final = frozenset({"/healthz", "/readyz"})
_RETRY_AFTER: Final = "60"
_PARAMETERS: Final = ("target", "by", "top")

_log = get_logger()


class HttpServers:
    """The servers of the daemon. `activity` returns the daemon's line of `systemctl status`."""

    def __init__(
        self,
        metrics: Metrics,
        states: TargetStates,
        pages: Pages,
        clock: Clock,
        activity: Callable[[], str],
    ) -> None:
        self._states = states
        self._pages = pages
        self._clock = clock
        self._activity = activity
        narrow: dict[str, Route] = {
            "/metrics": metrics.answer,
            "/healthz": self._health,
            "/readyz": self._readiness,
        }
        self._narrow = Listener("metrics", narrow)
        self._whole = Listener(
            "http",
            {
                "/": self._landing,
                **narrow,
                "/report": self._report,
                "/api/v1/status": self._status,
                "/api/v1/usage": self._usage,
                "/api/v1/openapi.json": self._openapi,
            },
        )
        self._tls: ssl.SSLContext | None = None

    async def adopt(self, metrics: MetricsSection | None, http: Http | None) -> None:
        """Serve by these sections only; an address or a certificate that cannot be used is an error in the log."""
        # An address may go from one server to the other.
        if http is None:
            await self._whole.adopt(Endpoint(()))
        await self._narrow.adopt(Endpoint((metrics.listen,) if metrics else ()))
        if http is not None:
            await self._whole.adopt(await self._endpoint(http))

    @property
    def is_open(self) -> bool:
        """Whether anybody can ask for anything."""
        return self._narrow.is_open or self._whole.is_open

    async def close(self) -> None:
        """Stop listening; answers under way have a moment to end."""
        await self._narrow.close()
        await self._whole.close()

    async def _endpoint(self, http: Http) -> Endpoint:
        addresses = http.listen
        hosts = {host for host, _ in addresses}
        access = Access(
            hosts=LOOPBACK_NAMES | hosts | set(http.hosts),
            any_ip=bool(hosts & WILDCARDS),
            token=http.token.get_secret_value() if http.token else None,
            open_paths=_OPEN,
        )
        sockets = (http.socket,) if http.socket else ()
        if http.tls is None:
            return Endpoint((*addresses, *sockets), access)
        try:
            self._tls = await asyncio.to_thread(http.tls.context)
        except ValueError as error:
            # Read a moment ago without an error. The certificate in use stays; without one nothing is sent in clear text.
            _log.error("certificate_not_used", error=str(error))
        return Endpoint((*(addresses if self._tls else ()), *sockets), access, self._tls)

    async def _health(self, _request: web.BaseRequest) -> web.Response:
        return web.Response(text="ok\n")

    async def _readiness(self, _request: web.BaseRequest) -> web.Response:
        ready, document = self._states.readiness()
        return _json(document, status=200 if ready else 503)

    async def _landing(self, _request: web.BaseRequest) -> web.Response:
        usage = [usage.at for usage in self._pages.usage.values()]
        landing = Landing(
            host=host_name(),
            version=__version__,
            activity=self._activity(),
            report=self._in_words(self._pages.report.at if self._pages.report else None),
            usage=self._in_words(min(usage, default=None)),
        )
        page = render_landing(landing, self._states.states)
        return _html(page, landing_policy())

    def _in_words(self, at: datetime | None) -> str:
        failure = self._pages.failure
        failing = f"; computations fail since {time_in_words(failure.since)}" if failure else ""
        if at is None:
            return f"not computed yet{failing or f'; {self._pages.waits_for}'}"
        return f"of {time_in_words(at)}, {_old(self._clock.now() - at)}{failing}"

    async def _report(self, request: web.BaseRequest) -> web.Response:
        page = self._pages.report
        if page is None:
            return self._not_yet(request)
        headers = {
            "Content-Security-Policy": page.policy,
            "Vary": "Accept-Encoding",
            **self._dated(page.at),
        }
        body = page.compressed
        if "gzip" in request.headers.get("Accept-Encoding", "").lower():
            headers["Content-Encoding"] = "gzip"
        else:
            body = await asyncio.to_thread(gzip.decompress, body)
        return web.Response(body=body, content_type="text/html", charset="utf-8", headers=headers)

    async def _status(self, _request: web.BaseRequest) -> web.Response:
        age = {"Age": str(int(self._states.age.total_seconds()))}
        return _json(status_document(self._states.states), headers=age)

    async def _usage(self, request: web.BaseRequest) -> web.Response:
        computed = self._pages.usage
        if not computed:
            return self._not_yet(request)
        try:
            wanted = _usage_query(request)
            usage = wanted.of(computed)
        except ValueError as error:
            return refuse(request, 400, str(error))
        oldest = min(computed[target].at for target, _, _ in usage)
        return _json(usage_document(usage), headers=self._dated(oldest))

    async def _openapi(self, _request: web.BaseRequest) -> web.Response:
        return _json(openapi())

    def _not_yet(self, request: web.BaseRequest) -> web.Response:
        failure = self._pages.failure
        why = (
            f"its computation fails since {time_in_words(failure.since)}: {failure.error}"
            if failure
            else self._pages.waits_for
        )
        return refuse(request, 503, f"not computed yet; {why}", Retry_After=_RETRY_AFTER)

    def _dated(self, at: datetime) -> dict[str, str]:
        age = max(int((self._clock.now() - at).total_seconds()), 0)
        return {"Last-Modified": format_datetime(at.astimezone(UTC), usegmt=True), "Age": str(age)}


@dataclass(frozen=True, slots=True)
class _UsageQuery:
    """The parameters of `/api/v1/usage`, which are the options of `usage`."""

    target: str | None
    by: UsageBy | None
    top: int

    def of(self, computed: Mapping[str, Usage]) -> list[tuple[str, UsageBy, Sequence[UsageRow]]]:
        """Return what `usage` would print; raise ValueError, fit to be shown, without anything to print."""
        if self.target is not None and self.target not in computed:
            raise ValueError(f"no such target, or no usage of it; `target` is one of {', '.join(computed)}")
        found: list[tuple[str, UsageBy, Sequence[UsageRow]]] = []
        for name, usage in computed.items():
            by = self.by or next(iter(usage.divisions), None)
            if by is not None and by in usage.divisions and self.target in {None, name}:
                found.append((name, by, cut(usage.divisions[by], self.top)))
        if not found:
            chosen = [computed[self.target]] if self.target else computed.values()
            known = dict.fromkeys(by for usage in chosen for by in usage.divisions)
            raise ValueError(f"no division by {self.by}; `by` is one of {', '.join(known)}")
        return found


def _usage_query(request: web.BaseRequest) -> _UsageQuery:
    """Read the parameters; raise ValueError, fit to be shown."""
    query = request.query
    for name in query:
        if name not in _PARAMETERS:
            raise ValueError(f"no parameter {printable(name, 64)}; there is {', '.join(_PARAMETERS)}")
        if len(query.getall(name)) > 1:
            raise ValueError(f"`{name}` is given more than once; give it once")
    by = next((division for division in DIVISIONS if division == query.get("by")), None)
    if "by" in query and by is None:
        raise ValueError(
            f"no division by {printable(query['by'], 64)}; `by` is one of {', '.join(DIVISIONS)}"
        )
    top = query.get("top", str(DEFAULT_ROWS))
    if not re.fullmatch(r"[0-9]{1,4}", top) or not 1 <= int(top) <= MOST_ROWS:
        raise ValueError(f"`top` is a number from 1 to {MOST_ROWS}")
    return _UsageQuery(query.get("target"), by, int(top))


@cache
def openapi() -> dict[str, Any]:
    """Return the description of the server's documents, in OpenAPI 3.1."""
    text = (resources.files(__package__) / "openapi.json").read_text(encoding="utf-8")
    description: dict[str, Any] = json.loads(text)
    description["info"]["version"] = __version__
    return description


def _json(document: Any, status: int = 200, headers: dict[str, str] | None = None) -> web.Response:
    # As the commands print it.
    text = json.dumps(document, indent=2) + "\n"
    return web.Response(text=text, content_type="application/json", status=status, headers=headers)


def _html(page: str, policy: str) -> web.Response:
    return web.Response(
        text=page, content_type="text/html", charset="utf-8", headers={"Content-Security-Policy": policy}
    )


def _old(age: timedelta) -> str:
    minutes = timedelta(minutes=age // timedelta(minutes=1))
    return f"{age_in_words(minutes)} old" if minutes > timedelta(0) else "less than a minute old"
