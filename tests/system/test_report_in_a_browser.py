"""The report in a real browser: it says what it was given, to the eye, to a keyboard, and to a screen reader."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest
import pytest_asyncio

from retentiond.report.page import render
from retentiond.report.plots import plot_ages
from retentiond.terminal.words import size_in_words
from tests.support.made_up_report import HOSTILE, NOW, chats_report, empty_report, lost_report, media_report

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from retentiond.report.target_report import TargetReport


CHROMIUM: Final = shutil.which("chromium") or shutil.which("chromium-browser")
needs_chromium: Final = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on this machine (Debian: apt install chromium)"
)
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)
_PATIENCE: Final = 120


class Page:
    """A page in the browser; `complaints` are the messages of its console, its exceptions and refused loads."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []

    async def begin(self) -> None:
        """Open an empty page."""
        target = await self.call("Target.createTarget", url="about:blank")
        attached = await self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            await self.call(f"{domain}.enable")

    async def call(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol, and return its result."""
        self._number += 1
        number = self._number
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        await self._socket.send_json(message)
        return await self._until(lambda got: got.get("id") == number)

    async def _until(self, wanted: Any) -> Any:
        while True:
            got = json.loads(await self._socket.receive_str(timeout=_PATIENCE))
            self._note(got)
            if wanted(got):
                assert "error" not in got, got
                return got.get("result", got)

    def _note(self, got: dict[str, Any]) -> None:
        parameters = got.get("params", {})
        match got.get("method"):
            case "Runtime.consoleAPICalled":
                self.complaints.append(str([one.get("value") for one in parameters["args"]]))
            case "Runtime.exceptionThrown":
                self.complaints.append(str(parameters["exceptionDetails"].get("exception", parameters)))
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])

    async def look(
        self, width: int, *, dark: bool = False, scripts: bool = True, media: str = "screen"
    ) -> None:
        """Set the width of the window, and what the reader prefers."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=False,
        )
        await self.call("Emulation.setEmulatedMedia", media=media, features=[scheme])
        await self.call("Emulation.setScriptExecutionDisabled", value=not scripts)

    async def open(self, url: str) -> None:
        """Load a page to its end."""
        await self.call("Page.navigate", url=url)
        await self._until(lambda got: got.get("method") == "Page.loadEventFired")

    async def ask(self, expression: str) -> Any:
        """Return the value of an expression of JavaScript; a promise is awaited."""
        done = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    async def press(self, key: str) -> None:
        """Press a key."""
        for kind in ("keyDown", "keyUp"):
            await self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key)

    async def picture(self) -> bytes:
        """Return a PNG of the whole page."""
        size = await self.call("Page.getLayoutMetrics")
        clip = {**{name: size["cssContentSize"][name] for name in ("x", "y", "width", "height")}, "scale": 1}
        taken = await self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        return base64.b64decode(taken["data"])


@asynccontextmanager
async def open_browser(profile: Path) -> AsyncIterator[Page]:
    """Start Chromium with an empty profile, and open a page."""
    assert CHROMIUM is not None
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *_FLAGS,
        f"--user-data-dir={profile}",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stderr
    try:
        async with asyncio.timeout(_PATIENCE):
            while b"DevTools listening on" not in (line := await process.stderr.readline()):
                assert line, "Chromium ended before it listened"
        reader = asyncio.create_task(process.stderr.read())
        url = line.split()[-1].decode()
        async with (
            aiohttp.ClientSession() as session,
            session.ws_connect(url, max_msg_size=0, autoping=True) as socket,
        ):
            page = Page(socket)
            await page.begin()
            yield page
    finally:
        process.terminate()
        await process.wait()
    await reader


pytestmark = [needs_chromium, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]
_WIDTHS = (390, 1280, 2560)
_TEXTS = "e => [...document.querySelectorAll(e)].map(one => one.textContent)"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Page]:
    """Return a page of one browser for all tests."""
    async with open_browser(tmp_path_factory.mktemp("profile")) as page:
        yield page


async def show(page: Page, directory: Path, *reports: TargetReport, width: int = 1280, **looks: Any) -> None:
    """Load a page about these targets, and forget the complaints about others."""
    path = directory / "page.html"
    path.write_text(render(reports, NOW, "1.0"), encoding="utf-8")
    page.complaints.clear()
    page.requests.clear()
    await page.look(width, **looks)
    await page.open(path.as_uri())


async def texts(page: Page, selector: str) -> list[str]:
    found: list[str] = await page.ask(f"({_TEXTS})({selector!r})")
    return found


@pytest.mark.parametrize("width", _WIDTHS)
async def test_a_page_has_no_errors_asks_no_server_and_fits_its_window(
    browser: Page, tmp_path: Path, width: int
) -> None:
    reports = (media_report(), media_report(hostile=HOSTILE), chats_report(), lost_report(), empty_report())
    for dark in (False, True):
        await show(browser, tmp_path, *reports, width=width, dark=dark)
        assert browser.complaints == []
        assert [url for url in browser.requests if not url.startswith("file:")] == []
        assert len(browser.requests) == 1
        assert await browser.ask("document.documentElement.scrollWidth") <= width
        assert await browser.ask("document.title") == "retentiond: the report"
        # Each plot has drawn something.
        blank = """[...document.querySelectorAll('canvas')].filter(one => one.width && !one.getContext('2d')
            .getImageData(0, 0, one.width, one.height).data.some(Boolean)).length"""
        assert await browser.ask(blank) == 0
        assert await browser.ask("document.querySelectorAll('canvas').length") == 9


async def test_the_numbers_on_the_page_are_those_of_the_report(browser: Page, tmp_path: Path) -> None:
    report = media_report()
    await show(browser, tmp_path, report)
    assert report.statistics
    values = await browser.ask(
        "[...document.querySelectorAll('.figures data')].map(one => Number(one.value))"
    )
    statistics = report.statistics
    assert statistics.totals
    newest = report.samples[-1]
    for number in (
        statistics.total.bytes,
        statistics.total.items,
        newest.free_bytes,
        newest.database_bytes,
        statistics.totals.purged.bytes,
        statistics.totals.taken.bytes,
        statistics.totals.restored,
    ):
        assert number in values
    rows = await browser.ask(
        "[...document.querySelectorAll('[aria-label=\"media: Space over time\"] tbody tr')]"
        ".map(row => [row.querySelector('th').textContent, ...[...row.querySelectorAll('data')].map(one => Number(one.value))])"
    )
    assert rows[0] == [
        f"{newest.day}",
        newest.stored.bytes,
        newest.stored.items,
        newest.classes["local"].bytes,
        newest.classes["remote"].bytes,
        newest.free_bytes,
        newest.database_bytes,
    ]
    servers = await browser.ask(
        "[...document.querySelector('.division').querySelectorAll('tbody tr')]"
        ".map(row => [row.querySelector('th').textContent.trim(), Number(row.querySelector('data').value)])"
    )
    assert servers[:6] == [[row.key, row.bytes] for row in report.usage["server"][:6]]


async def test_the_curves_open_at_todays_setting_and_the_keyboard_reads_every_age(
    browser: Page, tmp_path: Path
) -> None:
    report = media_report()
    assert report.statistics
    curves = report.statistics.curves
    await show(browser, tmp_path, report)
    opening = (await texts(browser, "#target-0-ages figcaption"))[0]
    assert opening.startswith(f"{curves[0].keep} days")
    assert size_in_words(curves[0].older_than(curves[0].keep or 0).bytes) in opening
    await browser.ask("document.querySelector('#target-0-ages .canvas').focus()")
    await browser.press("Home")
    plot = plot_ages(curves, "item")
    assert plot
    for age in plot.x[:12]:
        said = await browser.ask(
            "document.querySelector('#target-0-ages .canvas').getAttribute('aria-valuetext')"
        )
        assert said.startswith(f"{age} day")
        for curve in curves:
            tally = curve.older_than(age)
            assert f"{curve.policy}: {size_in_words(tally.bytes)} in {tally.items:,} items" in said
        await browser.press("ArrowRight")
    await browser.press("End")
    said = await browser.ask(
        "document.querySelector('#target-0-ages .canvas').getAttribute('aria-valuetext')"
    )
    assert said.startswith(f"{plot.x[-1]:,} days")


async def test_without_a_script_the_tables_are_open_and_the_plots_away(browser: Page, tmp_path: Path) -> None:
    await show(browser, tmp_path, media_report(), scripts=False)
    # The protocol's own questions are no scripts of the page.
    assert await browser.ask("document.querySelectorAll('details:not([open])').length") == 0
    assert await browser.ask("document.querySelectorAll('.plot:not([hidden])').length") == 0
    assert browser.complaints == []
    await show(browser, tmp_path, media_report())
    assert await browser.ask("document.querySelectorAll('details[open]').length") == 0


async def test_a_page_in_print_is_light_also_for_a_reader_in_the_dark(browser: Page, tmp_path: Path) -> None:
    await show(browser, tmp_path, media_report(), dark=True, media="print")
    assert (
        await browser.ask("getComputedStyle(document.documentElement).getPropertyValue('--ink').trim()")
        == "#1b2226"
    )
    # The paper, not the ink alone: a document of a dark scheme has a dark canvas.
    assert (
        await browser.ask("getComputedStyle(document.documentElement).getPropertyValue('color-scheme')")
        == "light"
    )
    assert await browser.ask("getComputedStyle(document.querySelector('.scroll')).overflow") == "visible"


def _axe() -> Path | None:
    named = os.environ.get("RETENTIOND_AXE")
    found = Path(named) if named else Path("node_modules/axe-core/axe.min.js")
    return found if found.is_file() else None


@pytest.mark.skipif(
    _axe() is None,
    reason="axe-core is not here (npm install axe-core, or its axe.min.js in $RETENTIOND_AXE)",
)
@pytest.mark.parametrize("dark", [False, True])
async def test_axe_finds_nothing(browser: Page, tmp_path: Path, dark: bool) -> None:
    path = _axe()
    assert path
    for width in (390, 1280):
        await show(
            browser,
            tmp_path,
            media_report(),
            chats_report(),
            lost_report(),
            empty_report(),
            width=width,
            dark=dark,
        )
        await browser.ask(path.read_text(encoding="utf-8") + "; 0")
        for opened in ("false", "true"):
            await browser.ask(
                f"document.querySelectorAll('details').forEach(one => {{ one.open = {opened} }})"
            )
            found = await browser.ask(
                "axe.run(document, {resultTypes: ['violations', 'incomplete']}).then(r => r.violations.map("
                "v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html.slice(0, 300))]))"
            )
            assert found == []
