"""A headless Chromium, controlled through chromedriver by the WebDriver protocol (JSON over HTTP)."""

import base64
import json
import re
import shutil
import subprocess
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"  # the key under which the protocol returns an element's id
QUIET = ["disable-gpu", "disable-quic", "disable-background-networking", "disable-component-update", "disable-sync"]
KEYS = {"right": "\ue014", "left": "\ue012", "home": "\ue011", "end": "\ue010"}
KEYS |= {"down": "\ue015", "enter": "\ue007", "backspace": "\ue003"}


class Browser:
    """A browser window, closed at the end of a ``with`` block.

    ``profile`` is a folder that no other window uses.
    """

    def __init__(self, profile, *switches: str):
        self.driver = subprocess.Popen([DRIVER, "--port=0"], stdout=subprocess.PIPE, text=True)
        try:
            port = next(
                m[1] for m in (re.search(r"successfully on port (\d+)", line) for line in self.driver.stdout) if m
            )
            self.root = f"http://127.0.0.1:{port}/session"
            capabilities = {"alwaysMatch": self._capabilities(profile, switches)}
            self.root += "/" + self._post("", {"capabilities": capabilities})["sessionId"]
        except BaseException:
            self.driver.kill()
            raise

    @staticmethod
    def _capabilities(profile, switches) -> dict:
        switches = ["headless", "no-sandbox", "no-first-run", *QUIET, "window-size=1200,1600", *switches]
        options = {"binary": CHROMIUM, "args": [f"--{s}" for s in (*switches, f"user-data-dir={profile}")]}
        return {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        try:
            self._request(Request(self.root, method="DELETE"))
        finally:
            self.driver.terminate()
            self.driver.wait(30)
            self.driver.stdout.close()

    def _request(self, request: Request):
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=60) as answer:
                return json.load(answer)["value"]
        except HTTPError as error:
            raise RuntimeError(json.load(error)["value"]["message"]) from None

    def _post(self, path: str, body: dict):
        return self._request(Request(self.root + path, json.dumps(body).encode(), {"Content-Type": "application/json"}))

    def open(self, address: str) -> None:
        self._post("/url", {"url": address})

    def run(self, script: str):
        """Run a script and return its result."""
        return self._post("/execute/sync", {"script": script, "args": []})

    def wait(self, script: str) -> None:
        """Wait until the script, an expression, is true; fail after 20 s."""
        body = "const done = arguments[0], end = Date.now() + 20000;"
        body += f"const look = () => ({script}) ? done(true) : Date.now() > end ? done(false) : setTimeout(look, 20);"
        assert self._post("/execute/async", {"script": body + "look()", "args": []}), f"never true: {script}"

    def find(self, selector: str) -> str:
        """Return the id of the first element that matches."""
        return self._post("/element", {"using": "css selector", "value": selector})[ELEMENT]

    def type(self, selector: str, text: str) -> None:
        """Focus the first element, and send keys to it."""
        self._post(f"/element/{self.find(selector)}/value", {"text": text})

    def click(self, selector: str) -> None:
        self._post(f"/element/{self.find(selector)}/click", {})

    def resize(self, width: int, height: int) -> None:
        """Set the size of the page's viewport.

        It can be smaller than Chromium's smallest window.
        """
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self._post("/goog/cdp/execute", {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics})

    def download_to(self, folder) -> None:
        """Save files to a folder, without asking."""
        behavior = {"behavior": "allow", "downloadPath": str(folder)}
        self._post("/goog/cdp/execute", {"cmd": "Browser.setDownloadBehavior", "params": behavior})

    def picture(self, selector: str) -> bytes:
        """Return a screenshot of an element, as PNG."""
        path = f"/element/{self.find(selector)}/screenshot"
        return base64.b64decode(self._request(Request(self.root + path)))

    def log(self, kind: str) -> list[dict]:
        """Return the log entries since the last call.

        They are those of the console ("browser") or the network ("performance").
        """
        return self._post("/se/log", {"type": kind})

    def requests(self) -> list[str]:
        """Return the addresses that the page has requested since the last call."""
        events = (json.loads(entry["message"])["message"] for entry in self.log("performance"))
        return [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
