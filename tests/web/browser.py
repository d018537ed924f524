"""A real browser for tests of packages: headless Chromium that runs what a test asks for.

The page is served on loopback, and may ask for nothing elsewhere: a content security policy refuses
what it tries, and tells. The browser itself knows no host at all.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.conftest import OWN_HOME

ROOT = Path(__file__).parents[2]
LOCK = ROOT / "tests" / "web"
HANGS_S = 240
"""After which an answer does not come any more; the first one takes some seconds."""

PAGE = """\
<!doctype html>
<meta charset="utf-8">
<script type="importmap">
{"imports": {"onnxruntime-web/wasm": "/node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs"}}
</script>
<script type="module">
const refused = [];
document.addEventListener("securitypolicyviolation", (event) => refused.push(event.blockedURI));
const AsyncFunction = (async () => {}).constructor;
for (;;) {
  const asked = await (await fetch("/next")).json();
  if (asked === null) break;
  let answer;
  try {
    const run = new AsyncFunction("given", "refused", asked.code);
    answer = { value: await run(asked.given, refused) };
  } catch (error) {
    answer = { error: `${error.name}: ${error.message}` };
  }
  await fetch("/answer", { method: "POST", body: JSON.stringify(answer) });
}
</script>
"""


POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; worker-src 'self' blob:"
)


class PageError(Exception):
    """What a page threw."""


def npm_environment() -> dict[str, str]:
    """Return variables with which npm has the user's settings and cache, not those of the tests."""
    return {
        "npm_config_userconfig": str(Path(OWN_HOME, ".npmrc")),
        "npm_config_cache": str(Path(OWN_HOME, ".npm")),
        "npm_config_update_notifier": "false",
    }


def require(program: str, what: str) -> str:
    """Return the path of a program; skip the test where it is missing."""
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"needs {what}")
    return found


def npm(*arguments: str, folder: Path) -> str:
    """Run npm in a folder and return what it prints."""
    done = subprocess.run(
        [require("npm", "npm"), *arguments],
        cwd=folder,
        env={**os.environ, **npm_environment()},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    if done.returncode:
        raise AssertionError(f"npm {' '.join(arguments)}:\n{done.stdout}{done.stderr}")
    return done.stdout


def installed() -> Path:
    """Return the folder `node_modules` of the lock, installed once for a checkout."""
    lock = (LOCK / "package-lock.json").read_bytes()
    place = ROOT / ".node" / hashlib.sha256(lock).hexdigest()[:16]
    place.mkdir(parents=True, exist_ok=True)
    with open(place / "lock", "w") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)
        if not (place / "installed").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(LOCK / name, place / name)
            npm("ci", "--ignore-scripts", "--no-audit", "--no-fund", folder=place)
            (place / "installed").touch()
    return place / "node_modules"


class Browser:
    """A page in a browser that runs pieces of JavaScript, one after another.

    Attributes:
        asked_for: Paths that the page asked the server for.
    """

    def __init__(self, folder: Path) -> None:
        self.asked_for: list[str] = []
        self._folder = folder
        self._jobs: queue.Queue[Any] = queue.Queue()
        self._answers: queue.Queue[Any] = queue.Queue()

    def run(self, code: str, given: Any = None) -> Any:
        """Return what the body of an async function gives in the page.

        Args:
            code: JavaScript; may import below ``/served/`` and use ``given``, and ``refused``: what
                the page tried to reach elsewhere.
            given: JSON data.

        Raises:
            PageError: It threw.
        """
        self._jobs.put({"code": code, "given": given})
        answer = self._answers.get(timeout=HANGS_S)
        if "error" in answer:
            raise PageError(answer["error"])
        return answer.get("value")

    def leave(self) -> None:
        """Let the page ask for nothing more."""
        self._jobs.put(None)

    @contextlib.contextmanager
    def serving(self) -> Iterator[int]:
        """Serve the page and the folder on a port of loopback."""
        server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            server.server_close()

    def _handler(self) -> type[SimpleHTTPRequestHandler]:
        browser, modules = self, installed()

        class Handler(SimpleHTTPRequestHandler):
            extensions_map = {  # noqa: RUF012 - as in the base class
                ".js": "text/javascript",
                ".mjs": "text/javascript",
                ".wasm": "application/wasm",
                "": "application/octet-stream",
            }

            def do_GET(self) -> None:
                browser.asked_for.append(self.path)
                if self.path == "/":
                    self._send(PAGE.encode(), "text/html")
                elif self.path == "/next":
                    self._send(json.dumps(browser._jobs.get()).encode(), "application/json")
                else:
                    super().do_GET()

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                browser._answers.put(json.loads(self.rfile.read(length)))
                self._send(b"", "text/plain")

            def _send(self, body: bytes, kind: str) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Security-Policy", POLICY)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def translate_path(self, path: str) -> str:
                top, _, rest = urlsplit(path).path.removeprefix("/").partition("/")
                base = {"node_modules": modules, "served": browser._folder}.get(top)
                place = Path(super().translate_path(f"/{rest}")).relative_to(Path.cwd())
                return str(base / place) if base else "/nothing/here"

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Browser]:
    """Start a browser with a page that can import what lies in a folder, below ``/served/``."""
    program = require("chromium", "Chromium")
    found = Browser(folder)
    with tempfile.TemporaryDirectory() as own, found.serving() as port:
        command = [
            program,
            "--headless=new",
            "--no-sandbox",  # it does not start as root otherwise
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-default-apps",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={own}/profile",
            f"http://127.0.0.1:{port}/",
        ]
        with open(Path(own, "said"), "wb") as said:
            process = subprocess.Popen(command, stdout=said, stderr=said)
            try:
                yield found
            finally:
                found.leave()
                process.terminate()
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
