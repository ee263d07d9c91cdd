"""Debian's Chromium, driven by its chromedriver over WebDriver: what a page really shows, and what it asks for."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import requests

from pdbclient.lab.ports import free_port

__all__ = ["Browser"]

START = 30.0
ANSWER = 60.0
_FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync", "--window-size=1280,1000"),
)


def _end(driver: subprocess.Popen[bytes]) -> None:
    """End it, and a browser that its session's own end has left."""
    with suppress(ProcessLookupError):
        os.killpg(driver.pid, signal.SIGKILL)
    driver.wait(10)


class Browser:
    """A browser with an empty profile, that ends with the context, whatever its state."""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            profile = stack.enter_context(tempfile.TemporaryDirectory(prefix="pdbclient-browser-"))
            port = free_port()
            self._driver = f"http://127.0.0.1:{port}"
            self._http = stack.enter_context(requests.Session())
            self._http.trust_env = False
            driver = subprocess.Popen(
                ["chromedriver", f"--port={port}"],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            stack.callback(_end, driver)
            self._until_it_answers()
            wanted = {
                "browserName": "chrome",
                "goog:chromeOptions": {"args": [*_FLAGS, f"--user-data-dir={profile}", "about:blank"]},
                "goog:loggingPrefs": {"performance": "ALL", "browser": "ALL"},
            }
            made = self._call("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})
            self._session = f"/session/{made['sessionId']}"
            stack.callback(self._call, "DELETE", self._session)
            self._ending = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    def open(self, url: str) -> None:
        """Load a page."""
        self._call("POST", f"{self._session}/url", {"url": url})

    def text(self) -> str:
        """All that it shows, as somebody reads it."""
        return str(self._run("return document.body.innerText"))

    def texts(self, selector: str) -> list[str]:
        """What each element shows that the CSS selector names."""
        script = "return Array.from(document.querySelectorAll(arguments[0]), each => each.textContent.trim())"
        return [str(each) for each in self._run(script, selector)]

    def until(self, shown: Callable[[str], bool], seconds: float) -> str:
        """Wait, without loading it anew, until the page shows that; what it shows then."""
        end = time.monotonic() + seconds
        while not shown(text := self.text()):
            assert time.monotonic() < end, f"not shown within {seconds} s:\n{text}"
            time.sleep(0.2)
        return text

    def overflows(self) -> bool:
        """Whether the page is wider than its window."""
        return bool(self._run("return document.documentElement.scrollWidth > document.documentElement.clientWidth"))

    def emulate(self, *, dark: bool) -> None:
        """Prefer dark pages, or light ones."""
        feature = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._cdp("Emulation.setEmulatedMedia", {"features": [feature]})

    def background(self) -> str:
        """The colour of the page."""
        return str(self._run("return getComputedStyle(document.body).backgroundColor"))

    def resize(self, width: int, height: int) -> None:
        """Give the window that size."""
        self._call("POST", f"{self._session}/window/rect", {"width": width, "height": height})

    def screenshot(self, path: Path) -> None:
        """A picture of all of the page."""
        size = self._run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}
        shot = self._cdp("Page.captureScreenshot", {"captureBeyondViewport": True, "clip": clip})
        path.write_bytes(base64.b64decode(shot["data"]))

    def requested(self) -> list[str]:
        """The URLs that it has asked for since this was called last."""
        entries = [json.loads(each["message"])["message"] for each in self._log("performance")]
        return [e["params"]["request"]["url"] for e in entries if e["method"] == "Network.requestWillBeSent"]

    def complaints(self) -> list[str]:
        """What it has to say against the page."""
        return [str(each["message"]) for each in self._log("browser")]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        return list(self._call("POST", f"{self._session}/se/log", {"type": kind}))

    def _run(self, script: str, *arguments: object) -> Any:
        return self._call("POST", f"{self._session}/execute/sync", {"script": script, "args": list(arguments)})

    def _cdp(self, command: str, parameters: dict[str, Any]) -> Any:
        return self._call("POST", f"{self._session}/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _until_it_answers(self) -> None:
        end = time.monotonic() + START
        while True:
            try:
                if self._call("GET", "/status")["ready"]:
                    return
            except requests.ConnectionError:
                if time.monotonic() > end:
                    raise
            time.sleep(0.1)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        answer = self._http.request(method, self._driver + path, json=body, timeout=ANSWER)
        value = answer.json()["value"]
        assert answer.ok, value
        return value
