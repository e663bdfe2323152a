"""Headless Chromium over the DevTools protocol: just what the tests of the console page need."""

import asyncio
import base64
import inspect
import itertools
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Coroutine
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

CHROMIUM = (
    shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
)
# a skip that nobody reads is no proof: continuous integration must have the browser
in_browser = pytest.mark.skipif(
    not CHROMIUM and "CI" not in os.environ, reason="apt-get install chromium"
)
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
FLAGS += ("--no-first-run", "--disable-background-networking", "--remote-debugging-port=0")
KEYS = {"Enter": 13, "Tab": 9, "Escape": 27, "ArrowDown": 40, "ArrowUp": 38, " ": 32}


class Page:
    """One tab. `problems` collects what the browser complains of: exceptions, blocked content."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = itertools.count(1)
        self._answers: dict[int, asyncio.Future] = {}
        self._loaded = asyncio.Event()
        self.problems: list[str] = []
        self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for message in self._socket:
            said = json.loads(message.data)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
            elif said["method"] == "Page.loadEventFired":
                self._loaded.set()
            elif said["method"] == "Runtime.exceptionThrown":
                self.problems.append(str(said["params"]["exceptionDetails"]))
            elif said["method"] == "Log.entryAdded" and said["params"]["entry"]["level"] == "error":
                entry = said["params"]["entry"]
                self.problems.append(f"{entry['text']} {entry.get('url', '')}")

    async def send(self, method: str, **params: object) -> dict:
        number = next(self._numbers)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": params})
        said = await asyncio.wait_for(answer, 30)
        assert "error" not in said, said
        return said["result"]

    async def run(self, script: str) -> object:
        """Value of a JavaScript expression; promises are awaited."""
        options = {"awaitPromise": True, "returnByValue": True, "userGesture": True}
        result = await self.send("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    async def until(self, condition: str, timeout_s: float = 30) -> None:
        """Wait until a JavaScript expression holds."""
        loop = asyncio.get_running_loop()
        end = loop.time() + timeout_s
        while not await self.run(f"Boolean({condition})"):
            assert loop.time() < end, f"never: {condition}; {self.problems}"
            await asyncio.sleep(0.03)

    async def open(self, url: str) -> None:
        self._loaded.clear()
        await self.send("Page.navigate", url=url)
        await asyncio.wait_for(self._loaded.wait(), 30)

    async def show(self, width: int, height: int = 900, scheme: str = "light") -> None:
        """Size of the window in CSS pixels and the preferred colours."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500}
        await self.send("Emulation.setDeviceMetricsOverride", **size)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        await self.send("Emulation.setEmulatedMedia", features=features)

    async def text(self, selector: str) -> str:
        return await self.run(f"document.querySelector({json.dumps(selector)}).innerText.trim()")

    async def texts(self, selector: str) -> list[str]:
        nodes = f"document.querySelectorAll({json.dumps(selector)})"
        return await self.run(f"Array.from({nodes}, (node) => node.textContent.trim())")

    async def focus(self, selector: str) -> None:
        await self.run(f"document.querySelector({json.dumps(selector)}).focus()")

    async def click(self, selector: str) -> None:
        """A real click in the middle of the element."""
        box = await self.run(
            f"(() => {{ const node = document.querySelector({json.dumps(selector)});"
            " node.scrollIntoView({block: 'center'}); const r = node.getBoundingClientRect();"
            " return [r.x + r.width / 2, r.y + r.height / 2]; })()"
        )
        for kind in ("mouseMoved", "mousePressed", "mouseReleased"):
            at = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
            await self.send("Input.dispatchMouseEvent", type=kind, **at)

    async def key(self, key: str, times: int = 1) -> None:
        code = {"key": key, "code": "Space" if key == " " else key}
        code |= {"windowsVirtualKeyCode": KEYS[key]}
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        for _ in range(times):
            await self.send("Input.dispatchKeyEvent", type="keyDown", **code, **text)
            await self.send("Input.dispatchKeyEvent", type="keyUp", **code)

    async def type(self, selector: str, text: str) -> None:
        """Replace what a field holds."""
        await self.run(f"document.querySelector({json.dumps(selector)}).select()")
        await self.focus(selector)
        await self.send("Input.insertText", text=text)

    async def picture(self, path: Path, whole: bool = True) -> None:
        options = {"format": "png", "captureBeyondViewport": whole}
        if whole:
            size = (await self.send("Page.getLayoutMetrics"))["cssContentSize"]
            options["clip"] = {**size, "scale": 1}
        shot = await self.send("Page.captureScreenshot", **options)
        path.write_bytes(base64.b64decode(shot["data"]))


@asynccontextmanager
async def browser():
    """A `Page` in a Chromium of its own; ends it and removes its profile."""
    assert CHROMIUM, "Chromium is not installed"
    profile = Path(tempfile.mkdtemp(prefix="w-chromium-"))
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *FLAGS,
        f"--user-data-dir={profile}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
        env={**os.environ, "HOME": str(profile)},
    )
    try:
        async with aiohttp.ClientSession() as session:
            tabs = f"http://127.0.0.1:{await _port(profile, process)}/json"
            async with session.get(tabs) as response:
                (tab,) = [tab for tab in await response.json() if tab["type"] == "page"]
            async with session.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                page = Page(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await page.send(f"{domain}.enable")
                # focus events come as in a window that is in front
                await page.send("Emulation.setFocusEmulationEnabled", enabled=True)
                yield page
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()
        shutil.rmtree(profile, ignore_errors=True)


async def _port(profile: Path, process: asyncio.subprocess.Process) -> int:
    """Chromium writes the port that it chose into its profile."""
    written = profile / "DevToolsActivePort"
    for _ in range(600):
        assert process.returncode is None, f"{CHROMIUM} ended with {process.returncode}"
        if written.exists() and (lines := written.read_text().split()):
            return int(lines[0])
        await asyncio.sleep(0.05)
    raise AssertionError(f"{CHROMIUM} did not open a debugging port")


class Browser:
    """A `Page` for tests that are not coroutines: the same methods, each waiting for its end."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._open = browser()
        try:
            self._page = self._wait(self._open.__aenter__())
        except BaseException:
            self._end()
            raise

    def __getattr__(self, name: str) -> object:
        found = getattr(self._page, name)
        if not inspect.iscoroutinefunction(found):
            return found
        return lambda *args, **options: self._wait(found(*args, **options))

    def close(self) -> None:
        self._wait(self._open.__aexit__(None, None, None))
        self._end()

    def _wait(self, work: Coroutine) -> object:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
