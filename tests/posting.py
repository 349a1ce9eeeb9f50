"""A web server that stores POST requests."""

import contextlib
import http.server
import threading


class Site:
    """A web server that stores POST requests, as a DVC remote or a webhook. It can be stopped and restarted."""

    def __init__(self):
        self.content, self.posted, self._server, self._port = {}, [], None, 0
        self.start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self._port}"

    def start(self):
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        self._server.site = self
        self._port = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def stop(self):
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Handler(http.server.BaseHTTPRequestHandler):
    def handle(self):
        with contextlib.suppress(ConnectionError):
            super().handle()

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        body = self.server.site.content.get(self.path)
        self.answer(404 if body is None else 200, body or b"")

    def do_POST(self):
        if self.headers.get("Transfer-Encoding") == "chunked":
            pieces = []
            while size := int(self.rfile.readline(), 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            body = b"".join(pieces)
        else:
            body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.site.content[self.path] = body
        self.server.site.posted.append(body)
        self.answer(200, b"")

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass
