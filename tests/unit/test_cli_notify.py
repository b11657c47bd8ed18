"""`notify test` sends by each channel, and `once` tells its pass; a real server receives both."""

from __future__ import annotations

import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from retentiond.model.errors import BusyError, UnreachableError
from tests.support.command_line import CommandLine
from tests.support.fake_target import FakeTarget, make_report

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Server(ThreadingHTTPServer):
    """Records the path and the body of each POST; `/broken` answers with an error."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.posts: list[tuple[str, str]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.posts.append((self.path, body))
        self.send_response(404 if self.path == "/broken" else 200)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the library's own name
        """Print nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_a_test_of_the_notifications_names_the_channels_that_took_it_and_those_that_did_not(
    tmp_path: Path, server: Server
) -> None:
    tail = f"notify: {{ping: [{{url: {server.url}/uuid}}], webhooks: [{{url: {server.url}/broken}}]}}\n"
    outcome = CommandLine(tmp_path, tail=tail).type("notify", "test")
    assert outcome.status == 1
    assert outcome.stdout == "ping 127.0.0.1: sent\n"
    assert outcome.stderr == "retentiond: webhook 127.0.0.1: status 404; check the URL\n"
    assert sorted(path for path, _ in server.posts) == ["/broken", "/uuid"]


def test_a_test_without_a_section_notify_is_wrong_usage(tmp_path: Path) -> None:
    outcome = CommandLine(tmp_path).type("notify", "test")
    assert outcome.status == 2
    assert "no `notify` in the configuration" in outcome.stderr


def test_once_pings_the_start_and_the_success_of_its_pass(tmp_path: Path, server: Server) -> None:
    line = CommandLine(tmp_path, tail=f"notify: {{ping: [{{url: {server.url}/uuid}}]}}\n")
    assert line.type("once").status == 0
    assert [path for path, _ in server.posts] == ["/uuid/start", "/uuid"]


@pytest.mark.parametrize("hours", ["", ', quiet_hours: {begin: "00:00", end: "23:59"}'])
def test_once_sends_a_failure_before_it_ends_in_quiet_hours_too(
    tmp_path: Path, server: Server, hours: str
) -> None:
    lost = FakeTarget("media", unreachable=UnreachableError("the database does not answer; start it"))
    tail = f"notify: {{webhooks: [{{url: {server.url}/hook}}]{hours}}}\n"
    assert CommandLine(tmp_path, (lost,), tail=tail).type("once").status == 4
    ((_, body),) = server.posts
    assert json.loads(body)["event"] == "failure"
    assert json.loads(body)["message"] == "the database does not answer; start it"


def test_a_pass_that_another_process_runs_is_no_failure(tmp_path: Path, server: Server) -> None:
    busy = FakeTarget("media", unreachable=BusyError("another retentiond is working on this store"))
    tail = f"notify: {{webhooks: [{{url: {server.url}/hook}}]}}\n"
    assert CommandLine(tmp_path, (busy,), tail=tail).type("once").status == 5
    assert server.posts == []


def test_a_notice_that_cannot_be_sent_leaves_the_exit_status_of_the_pass(
    tmp_path: Path, server: Server
) -> None:
    failed = make_report("media", "finished_with_failures")
    failed.failed["not_movable"] = 2
    tail = f"notify: {{webhooks: [{{url: {server.url}/broken}}]}}\n"
    outcome = CommandLine(tmp_path, (FakeTarget(report=failed),), tail=tail).type("once")
    assert outcome.status == 1
    assert "status 404" in outcome.stderr
    assert f"{server.server_port}/broken" not in outcome.stderr
