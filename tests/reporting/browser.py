"""Drives a headless Chromium by its DevTools protocol: opens pages, presses keys, measures, takes pictures."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from websockets.sync.client import connect

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from websockets.sync.connection import Connection

OPTIONS = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-port=0")
PATIENCE_S = 60


def find_chromium() -> str:
    """The browser's program; the test is skipped where there is none."""
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("Chromium is missing: make test-services installs it")
    return program


@dataclass
class Browser:
    """One tab.

    Attributes:
        socket: of the tab.
        requests: addresses that pages asked for since the last :meth:`open`, the page's own among them.
        errors: what scripts threw.
    """

    socket: Connection
    requests: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    number: int = 0

    def call(self, method: str, **arguments: Any) -> Any:
        """Call a method of the protocol and wait for its result."""
        self.number += 1
        self.socket.send(json.dumps({"id": self.number, "method": method, "params": arguments}))
        while True:
            message = json.loads(self.socket.recv(timeout=PATIENCE_S))
            if message.get("method") == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"]["url"])
            if message.get("method") == "Runtime.exceptionThrown":
                details = message["params"]["exceptionDetails"]
                self.errors.append(details.get("exception", {}).get("description") or details["text"])
            if message.get("id") == self.number:
                if "navigated" in message.get("error", {}).get("message", ""):
                    raise ConnectionResetError
                assert "error" not in message, message
                return message["result"]

    def open(self, page: Path, *, width: int, height: int = 900, is_dark: bool = False, part: str = "") -> None:
        """Open a page at a width, and wait until it is there."""
        self.requests.clear()
        self.errors.clear()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=page.as_uri() + part)
        self.wait("location.protocol === 'file:' && document.readyState === 'complete'")
        self.requests = [address for address in self.requests if address != "about:blank"]

    def run(self, script: str) -> Any:
        """Evaluate JavaScript; promises are awaited."""
        try:
            answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        except ConnectionResetError:  # the page led on to another, as the index of Data Docs does
            return self.run(script)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait until a condition in JavaScript holds."""
        end = time.monotonic() + PATIENCE_S
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never: {condition}; {self.errors}"
            time.sleep(0.02)

    def press(self, key: str) -> None:
        """Press a key as a person does."""
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=key)
        self.settle()

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        self.run("new Promise((ready) => requestAnimationFrame(() => requestAnimationFrame(() => ready(true))))")

    def take_picture(self, path: Path, *, is_whole: bool = False) -> None:
        """Write what is seen, or the whole page, as PNG."""
        self.settle()
        content = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(content["data"]))


@contextmanager
def open_browser(profile: Path) -> Iterator[Browser]:
    """Start a browser, and end it with the block."""
    program = find_chromium()
    with subprocess.Popen(
        [program, *OPTIONS, f"--user-data-dir={profile}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as process:
        try:
            with connect(_find_address(profile), max_size=2**27) as socket:
                browser = Browser(socket)
                target = browser.call("Target.createTarget", url="about:blank")["targetId"]
            address = _find_address(profile).partition("/devtools")[0]
            with connect(f"{address}/devtools/page/{target}", max_size=2**27) as socket:
                browser = Browser(socket)
                for domain in ("Page", "Network", "Runtime"):
                    browser.call(f"{domain}.enable")
                yield browser
        finally:
            process.terminate()


def _find_address(profile: Path) -> str:
    port_file, end = profile / "DevToolsActivePort", time.monotonic() + PATIENCE_S
    while not port_file.is_file() or port_file.read_text().count("\n") < 1:
        assert time.monotonic() < end, "Chromium does not start"
        time.sleep(0.05)
    port, path = port_file.read_text().split("\n")[:2]
    return f"ws://127.0.0.1:{port}{path}"
