"""A real Chromium, driven by its own protocol; tests skip where it is missing."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp
import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

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
