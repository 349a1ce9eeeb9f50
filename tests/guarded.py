"""A server that responds like an MLflow server to a request without valid credentials or permission."""

import contextlib
import http.server
import threading


class _Guarded(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        is_open = self.path == "/health"
        self.send_response(200 if is_open else self.server.status)
        self.end_headers()
        self.wfile.write(b"OK" if is_open else b"Permission denied")

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def server(status=401):
    """Address of a running server that responds with this status, except to /health."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Guarded) as guarded:
        guarded.status = status
        threading.Thread(target=guarded.serve_forever).start()
        try:
            yield f"http://127.0.0.1:{guarded.server_port}"
        finally:
            guarded.shutdown()
