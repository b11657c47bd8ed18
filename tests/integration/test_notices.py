"""Notices reach real receivers, come again after a failure, and hold nothing up."""

from __future__ import annotations

import asyncio
import json
import ssl
import subprocess
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from aiohttp import web
from aiosmtpd.controller import Controller

from retentiond.adapters import channels
from retentiond.adapters.announcer import MOST_WAITING, Announcer
from retentiond.adapters.channels import NotSentError, channels_of
from retentiond.adapters.metrics import Metrics
from retentiond.adapters.systemd import Notifier
from retentiond.config.notify import Notify
from retentiond.daemon.notices import Notices
from retentiond.daemon.quiet import QuietTimes
from retentiond.daemon.states import TargetStates
from retentiond.daemon.status import StatusReporter
from retentiond.model.errors import Refusal
from retentiond.model.notices import Notice
from retentiond.model.report import SweepReport
from tests.support.fake_clock import NOON, FakeClock, settle
from tests.support.fake_target import make_report
from tests.support.ports import free_port

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@dataclass(slots=True)
class Received:
    """One request."""

    method: str
    path: str
    body: str
    headers: dict[str, str]


@dataclass(slots=True)
class Receiver:
    """The requests so far; `statuses` are the next answers, then 200. Without `answers` it keeps silent."""

    url: str = ""
    requests: list[Received] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    answers: bool = True
    _arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, requests: int) -> list[Received]:
        """Wait until so many requests have come, and return them."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) >= requests)
        return self.requests

    async def answer(self, request: web.Request) -> web.Response:
        """Record a request, and answer it."""
        received = Received(request.method, request.path_qs, await request.text(), dict(request.headers))
        async with self._arrived:
            self.requests.append(received)
            self._arrived.notify_all()
        if not self.answers:
            await asyncio.Event().wait()
        status = self.statuses.pop(0) if self.statuses else 200
        headers: dict[str, Any] = {"Location": "http://127.0.0.1:9/elsewhere"} if 300 <= status < 400 else {}
        return web.Response(status=status, headers=headers)


@asynccontextmanager
async def receiving(tls: ssl.SSLContext | None = None) -> AsyncIterator[Receiver]:
    """Listen on a free port of the loopback."""
    receiver = Receiver()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", receiver.answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
        scheme = "http" if tls is None else "https"
        receiver.url = f"{scheme}://127.0.0.1:{runner.addresses[0][1]}"
        yield receiver
    finally:
        await runner.cleanup()


REFUSED = Refusal("max_share", 0.9, 0.5, "look at the plan")


def notice(occasion: Any = "failure", message: str = "failed: disk_error 3") -> Notice:
    return Notice(occasion, "media", message, NOON)


def notify(**keys: Any) -> Notify:
    return Notify.model_validate(keys)


@pytest.fixture
def log() -> Any:
    with structlog.testing.capture_logs() as entries:
        yield entries


async def test_a_ping_tells_start_success_and_failure_as_healthchecks_takes_them() -> None:
    async with receiving() as receiver:
        (ping,) = channels_of(notify(ping=[{"url": f"{receiver.url}/uuid"}]), "host.test")
        for occasion in ("start", "success", "failure"):
            await ping.send(notice(occasion))
    assert [request.path for request in receiver.requests] == ["/uuid/start", "/uuid", "/uuid/fail"]
    assert receiver.requests[2].body == "failed: disk_error 3"


async def test_a_ping_in_the_style_of_uptime_kuma_replaces_the_status_of_the_url() -> None:
    async with receiving() as receiver:
        url = f"{receiver.url}/api/push/key?status=up&msg=OK&ping="
        (ping,) = channels_of(notify(ping=[{"url": url, "style": "uptime_kuma"}]), "host.test")
        assert not ping.wants(notice("start"))
        await ping.send(notice("failure", "no disk"))
    assert receiver.requests[0].path == "/api/push/key?status=down&msg=no+disk&ping="


async def test_a_ping_for_one_target_is_not_told_of_another() -> None:
    (ping,) = channels_of(notify(ping=[{"url": "http://localhost/x", "targets": ["chats"]}]), "host.test")
    assert not ping.wants(notice("success"))


async def test_a_webhook_receives_the_event_and_the_pass_as_json_with_its_headers() -> None:
    keys = {"headers": {"Authorization": "Bearer secret"}}
    async with receiving() as receiver:
        section = notify(
            webhooks=[{"url": f"{receiver.url}/hook", **keys}], title="$event of $target on $host"
        )
        await channels_of(section, "host.test")[0].send(notice())
    (request,) = receiver.requests
    document = json.loads(request.body)
    assert (document["event"], document["target"], document["host"]) == ("failure", "media", "host.test")
    assert document["title"] == "failure of media on host.test"
    assert document["message"] == "failed: disk_error 3"
    assert request.headers["Authorization"] == "Bearer secret"


class _Mailbox:
    def __init__(self) -> None:
        self.mails: list[str] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802 - aiosmtpd's name
        self.mails.append(envelope.content.decode())
        return "250 OK"


async def test_apprise_sends_a_mail_by_smtp() -> None:
    mailbox = _Mailbox()
    port = free_port()
    server = Controller(mailbox, hostname="127.0.0.1", port=port)
    server.start()
    try:
        url = f"mailto://127.0.0.1:{port}/?from=retentiond@here.test&to=admin@here.test&mode=insecure"
        await channels_of(notify(apprise=[url]), "host.test")[0].send(notice())
    finally:
        server.stop()
    (mail,) = mailbox.mails
    assert "host.test" in mail
    assert "disk_error 3" in mail


@pytest.mark.parametrize(
    ("status", "again", "words"),
    [
        (301, False, "redirects"),
        (307, False, "redirects"),
        (404, False, "status 404"),
        (429, True, "429"),
        (500, True, "500"),
    ],
)
async def test_an_answer_that_is_no_success_is_an_error_that_says_whether_to_try_again(
    status: int, again: bool, words: str
) -> None:
    async with receiving() as receiver:
        receiver.statuses.append(status)
        channel = channels_of(notify(webhooks=[{"url": f"{receiver.url}/secret"}]), "host.test")[0]
        with pytest.raises(NotSentError, match=words) as caught:
            await channel.send(notice())
        assert len(receiver.requests) == 1
    assert caught.value.again is again
    assert "secret" not in str(caught.value)


async def test_a_receiver_that_never_answers_ends_by_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "TIMEOUT", 0.2)
    async with receiving() as receiver:
        receiver.answers = False
        channel = channels_of(notify(ping=[{"url": receiver.url}]), "host.test")[0]
        with pytest.raises(NotSentError, match="no answer"):
            await channel.send(notice())


@pytest.fixture
def unsigned(tmp_path: Path) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate that it made itself."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "2"]
    subprocess.run(["openssl", *words, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    return tls


async def test_a_certificate_that_nobody_signed_is_refused(unsigned: ssl.SSLContext) -> None:
    async with receiving(unsigned) as receiver:
        channel = channels_of(notify(webhooks=[{"url": receiver.url}]), "host.test")[0]
        with pytest.raises(NotSentError, match="certificate"):
            await channel.send(notice())
    assert receiver.requests == []


async def test_a_host_without_a_server_is_an_error_without_the_url() -> None:
    channel = channels_of(notify(ping=[{"url": "http://127.0.0.1:1/secret"}]), "host.test")[0]
    with pytest.raises(NotSentError, match="cannot be reached") as caught:
        await channel.send(notice())
    assert "secret" not in str(caught.value)


async def test_a_notice_that_could_not_be_sent_is_logged_and_sent_later(log: list[Any]) -> None:
    clock = FakeClock()
    async with receiving() as receiver:
        receiver.statuses += [500, 500]
        section = notify(webhooks=[{"url": f"{receiver.url}/secret"}])
        async with Announcer(channels_of(section, "host.test"), clock) as announcer:
            announcer.queue([notice()])
            for attempts in (1, 2, 3):
                await receiver.until(attempts)
                while len(clock.pauses) < min(attempts, 2):
                    await asyncio.sleep(0)
                await clock.advance(600)
            while not any(entry["event"] == "notice_sent" for entry in log):
                await asyncio.sleep(0)
    assert [entry["event"] for entry in log] == ["notice_delayed", "notice_delayed", "notice_sent"]
    assert "secret" not in str(log)


async def test_a_silent_receiver_holds_up_neither_the_other_channels_nor_the_end(log: list[Any]) -> None:
    async with receiving() as silent, receiving() as healthy:
        silent.answers = False
        section = notify(webhooks=[{"url": silent.url}, {"url": healthy.url}])
        announcer = Announcer(channels_of(section, "host.test"), FakeClock())
        announcer.queue([notice()])
        await healthy.until(1)
        await silent.until(1)
        while not any(entry["event"] == "notice_sent" for entry in log):
            await asyncio.sleep(0)
        await announcer.close(0.0)
    assert [entry["event"] for entry in log if entry["event"] == "notice_dropped"] == ["notice_dropped"]


async def test_the_queue_of_a_channel_is_bounded(log: list[Any]) -> None:
    async with receiving() as silent:
        silent.answers = False
        section = notify(webhooks=[{"url": silent.url}])
        async with Announcer(channels_of(section, "host.test"), FakeClock()) as announcer:
            announcer.queue([notice()] * (MOST_WAITING + 7))
            assert len([entry for entry in log if entry["event"] == "notice_dropped"]) == 7


async def test_notices_wait_for_the_end_of_the_quiet_hours_and_pings_do_not() -> None:
    clock = FakeClock()
    async with receiving() as receiver:
        section = notify(
            ping=[{"url": f"{receiver.url}/ping"}],
            webhooks=[{"url": f"{receiver.url}/hook"}],
            quiet_hours={"begin": "11:00", "end": "13:00", "timezone": "UTC"},
        )
        async with Announcer(channels_of(section, "host.test"), clock, quiet=section.quiet) as announcer:
            announcer.queue([notice()])
            await receiver.until(1)
            await clock.advance(59 * 60)
            assert [request.path for request in receiver.requests] == ["/ping/fail"]
            await clock.advance(60)
            assert [request.path for request in await receiver.until(2)] == ["/ping/fail", "/hook"]


async def _sent(receiver: Receiver, notices: Notices, requests: int) -> list[str]:
    await receiver.until(requests)
    await notices.close(60.0)
    return [json.loads(request.body)["event"] for request in receiver.requests]


async def test_the_first_success_after_a_failure_is_told_and_the_next_is_not() -> None:
    async with receiving() as receiver:
        notices = Notices(FakeClock())
        notices.adopt(notify(webhooks=[{"url": receiver.url}]))
        refused = make_report("media", "refused")
        refused.refused = REFUSED
        for report in (refused, make_report(), make_report()):
            notices.ended("media", report, stopped=False, scheduled=True)
        assert await _sent(receiver, notices, 2) == ["refusal", "recovery"]


async def test_trouble_that_a_sweep_finds_is_sent_once() -> None:
    clock = FakeClock()
    async with receiving() as receiver:
        notices = Notices(clock)
        notices.adopt(notify(webhooks=[{"url": receiver.url}]))
        status = StatusReporter(
            Notifier({}), Metrics(), clock, dict, notices, TargetStates(clock), QuietTimes()
        )
        for _ in range(3):
            status.swept("rooms", SweepReport(stopped=Refusal("dendrite_trouble", "rows stay", None, "look")))
            await settle()
            await clock.advance(60)
        assert await _sent(receiver, notices, 1) == ["refusal"]


async def test_the_same_failure_is_told_again_only_after_a_while() -> None:
    clock = FakeClock()
    async with receiving() as receiver:
        notices = Notices(clock)
        notices.adopt(notify(webhooks=[{"url": receiver.url}], at_most_every="6h"))
        for _ in range(3):
            notices.failed("media", "the database does not answer")
            await settle()
            await clock.advance(4 * 3600)
        assert await _sent(receiver, notices, 2) == ["failure", "failure"]


async def test_a_scheduled_target_without_a_finished_pass_for_days_is_overdue() -> None:
    clock = FakeClock()
    async with receiving() as receiver:
        notices = Notices(clock)
        notices.adopt(notify(webhooks=[{"url": receiver.url}], overdue_after="2d"))
        notices.look_for_overdue(["media"])
        await clock.advance(2 * 86_400 + 60)
        notices.look_for_overdue(["media"])
        assert await _sent(receiver, notices, 1) == ["overdue"]


async def test_a_pass_that_a_user_stopped_is_neither_a_failure_nor_a_success() -> None:
    async with receiving() as receiver:
        notices = Notices(FakeClock())
        notices.adopt(notify(ping=[{"url": receiver.url}]))
        notices.ended("media", make_report("media", "interrupted"), stopped=True, scheduled=True)
        await notices.close(60.0)
    assert receiver.requests == []


async def test_a_check_of_the_quotas_is_no_success_of_the_schedule() -> None:
    async with receiving() as receiver:
        notices = Notices(FakeClock())
        notices.adopt(notify(ping=[{"url": receiver.url}]))
        notices.ended("media", make_report(), stopped=False, scheduled=False)
        await notices.close(60.0)
    assert receiver.requests == []


async def test_the_last_notice_about_a_target_is_known_once_a_channel_has_taken_it() -> None:
    clock = FakeClock()
    async with receiving() as receiver:
        notices = Notices(clock)
        assert notices.last_sent("media") is None
        notices.adopt(notify(webhooks=[{"url": receiver.url}]))
        notices.failed("media", "the database does not answer")
        assert notices.last_sent("media") is None
        await receiver.until(1)
        while (sent := notices.last_sent("media")) is None:
            await settle()
        assert (sent.notice.occasion, sent.channel, sent.at) == ("failure", "webhook 127.0.0.1", clock.now())
        assert notices.last_sent("other") is None
        await notices.close(60.0)
