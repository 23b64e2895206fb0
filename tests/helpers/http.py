"""A real HTTP server on this machine that serves one file, with the headers and abilities that a test gives it."""
import contextlib
import http.server
import re
import threading


@contextlib.contextmanager
def http_server(ranges=True):
    """(address, files): files maps a path to (content, headers). ranges: whether parts of files can be asked for."""
    files = {}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            content, headers = files[self.path.partition("?")[0]]
            wanted = re.fullmatch(r"bytes=([0-9]+)-([0-9]*)", self.headers.get("Range", "")) if ranges else None
            if wanted:
                first, last = int(wanted[1]), min(int(wanted[2] or len(content)), len(content) - 1)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
                content = content[first:last + 1]
            else:
                self.send_response(200)
            for name, value in {"Content-Length": len(content), **headers}.items():
                self.send_header(name, str(value))
            if ranges:
                self.send_header("Accept-Ranges", "bytes")
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(content)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", files
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
