"""Requests of a foreign web page, in a real browser, to the servers of this machine.

The page is on another port of this machine, or has the name `evil.test` and the port of the server: after DNS rebinding that
name resolves to this machine, and the browser sees the same origin.
"""

import contextlib
import json
from urllib.parse import urlsplit

from posting import Site

REBOUND = "evil.test"
BROWSER = f"--host-resolver-rules=MAP {REBOUND} 127.0.0.1"
HTML = b"<title>a foreign page</title>"
# The response as the page can read it; status 0 if the browser blocks it.
FETCH = """
async ([target, method, path, body, plain]) => {
    const client = "stranger", headers = {};
    if (!plain) headers["Content-Type"] = "application/json";
    try {
        const token = await (await fetch(`${target}/api/csrf-token?client=${client}`)).json();
        if (token.token && !plain) Object.assign(headers, {"Prefect-Csrf-Client": client, "Prefect-Csrf-Token": token.token});
    } catch {}
    const options = {method, headers, body: body && JSON.stringify(body), credentials: "include"};
    if (plain) options.mode = "no-cors";
    try {
        const answer = await fetch(target + path, options);
        return {status: answer.status, text: await answer.text()};
    } catch (error) {
        return {status: 0, text: ""};
    }
}
"""
SOCKET = """
([target, path, protocols, messages]) => new Promise(resolve => {
    const received = [];
    const socket = new WebSocket(target.replace("http", "ws") + path, protocols);
    socket.onopen = () => messages.forEach(each => socket.send(JSON.stringify(each)));
    socket.onmessage = message => received.push(message.data);
    socket.onclose = () => resolve({open: false, received});
    setTimeout(() => resolve({open: socket.readyState === 1, received}), 3000);
})
"""
SEARCH = ("POST", "/ajax-api/2.0/mlflow/experiments/search", {"max_results": 9})
CREATE = ("POST", "/ajax-api/2.0/mlflow/experiments/create", {"name": "planted"})
KINDS = ("another port", "rebinding")


class Page:
    """An open page, and its requests to a server."""

    def __init__(self, tab, target):
        self.tab, self.target = tab, target

    def fetch(self, method, path, body=None):
        return self.tab.evaluate(FETCH, [self.target, method, path, body, False])

    def send(self, method, path, body=None):
        """Send a simple request, like a form: without a CORS preflight, and without reading the response."""
        self.tab.evaluate(FETCH, [self.target, method, path, body, True])

    def socket(self, path, *messages):
        """Messages received over a WebSocket of Prefect, with its old and its new protocol."""
        old = self.tab.evaluate(SOCKET, [self.target, path, [], list(messages)])
        new = self.tab.evaluate(SOCKET, [self.target, path, ["prefect"], [{"type": "auth", "token": None}, *messages]])
        return {"open": old["open"] or new["open"], "received": [json.loads(each) for each in old["received"] + new["received"]]}


@contextlib.contextmanager
def opened(browser, kind, server, **profile):
    """A foreign page of this kind, in a new browser profile, which may have credentials."""
    port = urlsplit(server).port
    with contextlib.ExitStack() as stack:
        context = browser.new_context(**profile)
        stack.callback(context.close)
        tab = context.new_page()
        if kind == "another port":
            site = Site()
            stack.callback(site.stop)
            site.content["/"] = HTML
            tab.goto(site.url)
            yield Page(tab, server)
            return
        there = f"http://{REBOUND}:{port}"
        # Chromium blocks requests from public pages to this machine; other browsers do not. To test the server itself, the
        # script runs in a page of the server under the foreign name.
        tab.goto(f"{there}/api/health")
        yield Page(tab, there)
