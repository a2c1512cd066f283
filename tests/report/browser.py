"""A headless Chromium driven over a pipe by the DevTools protocol.

It does what a user does with a page, without another package.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Any

BROWSER = (
    shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chromium-browser")
)

_PATIENCE = 60.0


class Browser:
    """One page in one window, as `with Browser(folder) as browser`; its errors are `complaints`."""

    def __init__(self, folder: Path) -> None:
        assert BROWSER
        to_browser, self._out = os.pipe()
        self._in, from_browser = os.pipe()
        arguments = [
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            "--remote-debugging-pipe",
        ]
        # The protocol is on descriptors 3 and 4 of the browser; a shell puts them there.
        shell = f'exec "$0" "$@" 3<&{to_browser} 4>&{from_browser}'
        self._process = subprocess.Popen(
            [
                "bash",
                "-c",
                shell,
                BROWSER,
                *arguments,
                f"--user-data-dir={folder / 'profile'}",
                "about:blank",
            ],
            pass_fds=(to_browser, from_browser),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_browser)
        os.close(from_browser)
        self._asked, self._rest, self._session = 0, b"", ""
        self.complaints: list[str] = []

    def __enter__(self) -> Browser:
        targets = self.ask("Target.getTargets")["targetInfos"]
        page = next(target["targetId"] for target in targets if target["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.ask(f"{domain}.enable")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.wait(_PATIENCE)
        os.close(self._out)
        os.close(self._in)

    def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        self._asked += 1
        message: dict[str, Any] = {"id": self._asked, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._asked:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._rest:
            read = os.read(self._in, 1 << 16)
            assert read, "the browser has gone"
            self._rest += read
        message, _, self._rest = self._rest.partition(b"\0")
        return dict(json.loads(message))

    def _note(self, message: dict[str, Any]) -> None:
        if message.get("method") == "Runtime.exceptionThrown":
            self.complaints.append(str(message["params"]["exceptionDetails"]))
        if (
            message.get("method") == "Log.entryAdded"
            and message["params"]["entry"]["level"] == "error"
        ):
            self.complaints.append(str(message["params"]["entry"]["text"]))

    def run(self, script: str) -> Any:
        """The value of an expression in the page."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def window(self, width: int, height: int, *, phone: bool = False, dark: bool = False) -> None:
        """The size of the window, whether it is touched, and what the user likes."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=phone,
        )
        self.ask("Emulation.setTouchEmulationEnabled", enabled=phone)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        still = {"name": "prefers-reduced-motion", "value": "reduce"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme, still])
        self.frame()

    def open(self, page: Path) -> None:
        """Load a report and wait until it is drawn."""
        self.ask("Page.navigate", url=page.as_uri())
        end = time.monotonic() + _PATIENCE
        while self.run("document.documentElement?.dataset.drawn") != "yes":
            assert time.monotonic() < end, self.complaints
            time.sleep(0.02)
        self.frame()

    def frame(self) -> None:
        """Wait until the page has been laid out and drawn."""
        self.run(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => "
            "done(1))))"
        )

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        """Send a mouse event at a point: mousePressed, mouseReleased, mouseMoved or mouseWheel."""
        button = (
            "left" if kind in ("mousePressed", "mouseReleased") or more.get("buttons") else "none"
        )
        self.ask(
            "Input.dispatchMouseEvent",
            **{"type": kind, "x": x, "y": y, "button": button, "clickCount": 1} | more,
        )

    def click(self, x: float, y: float) -> None:
        """Press and release."""
        self.mouse("mousePressed", x, y, buttons=1)
        self.mouse("mouseReleased", x, y)
        self.frame()

    def drag(self, x: float, y: float, dx: float, dy: float) -> None:
        """Press, move in steps, release."""
        self.mouse("mousePressed", x, y, buttons=1)
        for step in (0.25, 0.5, 0.75, 1.0):
            self.mouse("mouseMoved", x + step * dx, y + step * dy, buttons=1)
        self.mouse("mouseReleased", x + dx, y + dy)
        self.frame()

    def touch(self, kind: str, *points: tuple[float, float]) -> None:
        """A touch event with fingers at these places: touchStart, touchMove or touchEnd."""
        fingers = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(points)]
        self.ask("Input.dispatchTouchEvent", type=kind, touchPoints=fingers)

    def key(self, name: str) -> None:
        """Press and release a key."""
        text = {"text": name} if len(name) == 1 else {}
        self.ask("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
        self.ask("Input.dispatchKeyEvent", type="keyUp", key=name)
        self.frame()

    def picture(self, path: Path) -> None:
        """A picture of the window, for people."""
        import base64

        path.write_bytes(base64.b64decode(self.ask("Page.captureScreenshot")["data"]))
