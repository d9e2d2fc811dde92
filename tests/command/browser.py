"""A headless Chromium of the tests' own, driven by the Chrome DevTools protocol."""

from __future__ import annotations

import http.client
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import websocket

from tests.programs import needs
from tests.waiting import wait_until

FLAGS = (
    *("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--no-first-run"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--remote-debugging-port=0"),
)

DOMAINS = ("Page", "Runtime", "Network", "Log", "Audits", "Accessibility")

KEYS = {"Enter": (13, "\r"), "Tab": (9, ""), "Escape": (27, "")}


@contextmanager
def running(directory: Path) -> Iterator[Browser]:
    """Run Chromium."""
    binary = needs("chromium")
    with (directory / "chromium.log").open("w") as log:
        command = [binary, *FLAGS, f"--user-data-dir={directory / 'profile'}", "about:blank"]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        port_file = directory / "profile" / "DevToolsActivePort"
        wait_until(lambda: port_file.exists() and "\n" in port_file.read_text(), 30)
        yield Browser(int(port_file.read_text().split()[0]))
    finally:
        process.terminate()
        process.wait(20)


@dataclass(frozen=True)
class Browser:
    port: int

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new tab, with a session storage and a record of its own."""
        target = self._ask("PUT", "/json/new?about:blank")
        # Chromium refuses callers that say where they come from.
        connection = websocket.create_connection(target["webSocketDebuggerUrl"], suppress_origin=True, timeout=30)
        try:
            page = Page(connection)
            for domain in DOMAINS:
                page.call(f"{domain}.enable")
            yield page
        finally:
            connection.close()
            self._ask("GET", f"/json/close/{target['id']}")

    def _ask(self, method: str, path: str) -> Any:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request(method, path)
            text = connection.getresponse().read()
        finally:
            connection.close()
        return json.loads(text) if text.startswith(b"{") else None


@dataclass
class Page:
    """A tab. `events` is everything that it has told, in order."""

    connection: websocket.WebSocket
    events: list[dict[str, Any]] = field(default_factory=list)
    calls: int = 0

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self.calls += 1
        self.connection.send(json.dumps({"id": self.calls, "method": method, "params": parameters}))
        while (message := json.loads(self.connection.recv())).get("id") != self.calls:
            self.events.append(message)
        assert "error" not in message, f"{method}: {message['error']}"
        result: dict[str, Any] = message["result"]
        return result

    def run(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, expression: str, seconds: float = 15) -> Any:
        """Ask until the expression is true, and give its value."""
        return wait_until(lambda: self.run(expression), seconds)

    def open(self, url: str) -> None:
        self.call("Page.navigate", url=url)
        self.wait(f"document.readyState === 'complete' && location.href === {json.dumps(url)}")

    def text(self, selector: str) -> str:
        """What an element says, as it is shown: nothing if it is hidden."""
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def click(self, selector: str) -> None:
        self.run(f"document.querySelector({json.dumps(selector)}).click()")

    def fill(self, selector: str, text: str) -> None:
        """Put text in place of what is in a field."""
        self.run(f"document.querySelector({json.dumps(selector)}).select()")
        self.call("Input.insertText", text=text)

    def press(self, key: str, *, shift: bool = False) -> None:
        code, text = KEYS[key]
        known = {"key": key, "code": key, "windowsVirtualKeyCode": code, "modifiers": 8 if shift else 0}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **known)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def told(self, method: str) -> list[dict[str, Any]]:
        """What the tab has told so far with this method."""
        self.run("0")
        return [event["params"] for event in self.events if event["method"] == method]

    def requests(self) -> list[dict[str, Any]]:
        """Everything that was asked for."""
        return self.told("Network.requestWillBeSent")

    def complaints(self) -> list[str]:
        """Errors of scripts and on the console, and violations of the policy; not that a request was refused."""
        thrown = [str(event) for event in self.told("Runtime.exceptionThrown")]
        logged = [str(event) for event in self.told("Runtime.consoleAPICalled") if event["type"] in ("error", "assert")]
        entries = [event["entry"] for event in self.told("Log.entryAdded")]
        serious = [str(entry) for entry in entries if entry["level"] == "error" and entry["source"] != "network"]
        issues = [event["issue"] for event in self.told("Audits.issueAdded")]
        policy = [str(issue) for issue in issues if issue["code"] == "ContentSecurityPolicyIssue"]
        return thrown + logged + serious + policy

    def look_as(self, width: int, height: int = 800, *, dark: bool = False) -> None:
        phone = width < 600
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": phone}
        self.call("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
