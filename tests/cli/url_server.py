"""A server on loopback for the tests of URLs: files of a folder with ranges and ETags, and objects as S3 has them.

    with url_server.serve(folder) as server:
        server.url("a.safetensors")   # http://127.0.0.1:PORT/a.safetensors

    with url_server.tunnels(port) as proxy:
        proxy.origin                  # http://127.0.0.1:PORT, a proxy all of whose tunnels lead to one port

What is asked for is in server.requests and proxy.requests. An object of S3 is the file bucket/key of the folder;
signatures are not checked, and a PUT with If-None-Match: * does not replace.
"""

import contextlib
import hashlib
import http.server
import pathlib
import re
import socket
import threading
import urllib.parse


class QuietHandler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format, *args):
        pass


class Handler(QuietHandler):
    def file(self):
        path = urllib.parse.unquote(urllib.parse.urlsplit(self.path).path)
        return self.server.folder / path.lstrip("/")

    def answer(self, status, body=b"", **headers):
        self.server.requests.append((self.command, self.path, dict(self.headers), status))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        if "list-type=2" in self.path:
            return self.list_objects()
        if not self.file().is_file():
            return self.answer(404, b"<Error><Code>NoSuchKey</Code></Error>" if self.server.is_s3 else b"")
        raw = self.file().read_bytes()
        etag = f'"{hashlib.md5(raw).hexdigest()}"'
        if self.headers.get("If-Match", etag) != etag:
            return self.answer(412)
        headers = {"ETag": etag, "Accept_Ranges": "bytes"}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not wanted:
            return self.answer(200, raw, **headers)
        first, last = int(wanted[1]), min(int(wanted[2] or len(raw)), len(raw) - 1)
        if first >= len(raw):
            return self.answer(416, Content_Range=f"bytes */{len(raw)}", **headers)
        return self.answer(206, raw[first:last + 1], Content_Range=f"bytes {first}-{last}/{len(raw)}", **headers)

    do_HEAD = do_GET

    def list_objects(self):
        url = urllib.parse.urlsplit(self.path)
        prefix, delimiter = self.query().get("prefix", ""), self.query().get("delimiter", "")
        bucket = self.server.folder / url.path.strip("/")
        keys = sorted(str(path.relative_to(bucket)) for path in bucket.rglob("*") if path.is_file())
        keys = [key for key in keys if key.startswith(prefix)]
        below = {key[:key.index(delimiter, len(prefix)) + 1] for key in keys
                 if delimiter and delimiter in key[len(prefix):]}
        rows = "".join(f"<Contents><Key>{key}</Key><Size>{(bucket / key).stat().st_size}</Size></Contents>"
                       for key in keys if not key.startswith(tuple(below)))
        rows += "".join(f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>" for name in sorted(below))
        self.answer(200, f"<ListBucketResult><IsTruncated>false</IsTruncated>{rows}</ListBucketResult>".encode())

    def query(self):
        return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query, keep_blank_values=True))

    def do_PUT(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        if "uploadId" in self.query():
            self.server.parts[self.query()["uploadId"]][int(self.query()["partNumber"])] = raw
            return self.answer(200, ETag=f'"{hashlib.md5(raw).hexdigest()}"')
        if self.headers.get("If-None-Match") == "*" and self.file().exists():
            return self.answer(412)
        self.file().parent.mkdir(parents=True, exist_ok=True)
        self.file().write_bytes(raw)
        self.answer(200, ETag=f'"{hashlib.md5(raw).hexdigest()}"')

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        if "uploads" in self.query():
            upload = str(len(self.server.requests))  # which grows with each answer
            self.server.parts[upload] = {}
            body = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
            return self.answer(200, body.encode())
        if self.headers.get("If-None-Match") == "*" and self.file().exists():
            return self.answer(412)
        parts = self.server.parts.pop(self.query()["uploadId"])
        self.file().parent.mkdir(parents=True, exist_ok=True)
        self.file().write_bytes(b"".join(raw for _, raw in sorted(parts.items())))
        body = b'<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>'
        self.answer(200, body)

    def do_DELETE(self):
        if "uploadId" in self.query():
            self.server.parts.pop(self.query()["uploadId"])
            return self.answer(204)
        self.file().unlink(missing_ok=True)
        self.answer(204)


class LoopbackServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.requests = []  # (method, path, headers, status)

    @property
    def origin(self):
        return f"http://127.0.0.1:{self.server_port}"


class Server(LoopbackServer):
    def __init__(self, folder, is_s3):
        super().__init__(Handler)
        self.folder = pathlib.Path(folder)
        self.is_s3 = is_s3
        self.parts = {}  # of each upload that is not complete, by number

    def url(self, name):
        return f"{self.origin}/{name}"


class ProxyHandler(QuietHandler):
    def do_CONNECT(self):
        self.server.requests.append((self.command, self.path, dict(self.headers), self.server.status))
        self.send_response(self.server.status)
        self.send_header("X-Of-The-Proxy", "1")
        self.end_headers()
        self.close_connection = True
        if self.server.status != 200:
            return
        with socket.create_connection(("127.0.0.1", self.server.target)) as target:
            back = threading.Thread(target=self.copy, args=(target, self.connection))
            back.start()
            self.copy(self.connection, target)
            target.shutdown(socket.SHUT_WR)
            back.join()

    @staticmethod
    def copy(source, sink):
        with contextlib.suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)


class Proxy(LoopbackServer):
    def __init__(self, target, status):
        super().__init__(ProxyHandler)
        self.target = target
        self.status = status  # of every answer


def tunnels(port, status=200):
    return running(Proxy(port, status))


def serve(folder, is_s3=False):
    return running(Server(folder, is_s3))


@contextlib.contextmanager
def running(server):
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
