"""flatbed.open() of URLs, over a server of the test's own."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import threading
import unittest.mock
import urllib.parse
from typing import Any

import flatbed
from support import FolderTest, two_tensors


class Handler(http.server.BaseHTTPRequestHandler):
    """One file at every path, with ranges and an ETag. Objects that are put are kept."""

    protocol_version = "HTTP/1.1"
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.server.asked.append((self.command, self.path, dict(self.headers)))
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        # A proxy is asked for the whole URL.
        raw = self.server.files.get(urllib.parse.urlsplit(self.path).path)
        if raw is None:
            return self.answer(404)
        if self.server.token and self.headers["Authorization"] != f"Bearer {self.server.token}":
            return self.answer(401)
        etag = f'"{hashlib.md5(raw).hexdigest()}"'
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if not wanted:
            return self.answer(200, raw, ETag=etag)
        first, last = int(wanted[1]), min(int(wanted[2]), len(raw) - 1)
        where = f"bytes {first}-{last}/{len(raw)}"
        return self.answer(206, raw[first : last + 1], ETag=etag, Content_Range=where)

    do_HEAD = do_GET

    def do_PUT(self) -> None:
        self.server.files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.answer(200, ETag='"1"')


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {"/two.safetensors": two_tensors()}
        self.token = ""
        self.asked: list[tuple[str, str, dict[str, str]]] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class RemoteTest(FolderTest):
    def setUp(self) -> None:
        super().setUp()
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.server = stack.enter_context(Server())
        thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        thread.start()
        stack.callback(thread.join)
        stack.callback(self.server.shutdown)
        self.url = self.server.origin + "/two.safetensors"
        try:
            flatbed.open(self.url)
        except flatbed.Error as error:
            if error.name == "unsupported_format":
                self.skipTest("flatbed is built without its component remote")
            raise

    def test_opens_a_url_and_reads_tensors(self) -> None:
        checkpoint = flatbed.open(self.url)
        self.assertEqual(list(checkpoint), ["a", "b"])
        self.assertEqual(checkpoint["b"].read(), b"\7" + bytes(7) + b"\x08" + bytes(7))
        self.assertEqual(checkpoint.files[0].path, self.url)

    def test_what_takes_a_source_takes_a_url(self) -> None:
        flatbed.convert(self.url, self.folder / "a.safetensors")
        self.assertTrue(flatbed.diff(self.url, self.folder / "a.safetensors").same)
        flatbed.verify(self.url)
        self.assertEqual(flatbed.scan(self.url).verdict, "plain")

    def test_a_token_is_sent_and_not_shown(self) -> None:
        self.server.token = "hushhush"
        with self.assertRaises(flatbed.Error) as raised:
            flatbed.open(self.url)
        self.assertEqual(raised.exception.name, "permission_denied")
        flatbed.open(self.url, storage_options={"token": "hushhush"})["a"].read()
        with self.assertRaises(flatbed.Error) as raised:
            flatbed.open(self.url + "x", storage_options={"token": "hushhush"})
        self.assertNotIn("hushhush", str(raised.exception))

    def test_a_callable_gives_credentials_and_renews_them(self) -> None:
        self.server.token = "new"
        asked = []

        def credentials(origin: str, refused: bool) -> dict[str, str]:
            asked.append((origin, refused))
            return {"token": "new" if refused else "old"}

        flatbed.open(self.url, storage_options={"credentials": credentials})["a"].read()
        self.assertIn((self.server.origin, True), asked)

        def broken(origin: str, refused: bool) -> dict[str, str]:
            raise RuntimeError("no credentials today")

        with self.assertRaisesRegex(flatbed.Error, "no credentials today"):
            flatbed.open(self.url, storage_options={"credentials": broken})

    def test_headers_are_sent(self) -> None:
        flatbed.open(self.url, storage_options={"headers": {"X-Who": "me"}})
        self.assertEqual(self.server.asked[-1][2]["X-Who"], "me")

    def test_proxies_are_used(self) -> None:
        elsewhere = "http://models.invalid/two.safetensors"
        origin, nobody = self.server.origin, "http://127.0.0.1:9"
        for options in ({"proxy": origin}, {"proxy": nobody, "http_proxy": origin}):
            flatbed.open(elsewhere, storage_options=options)
            self.assertTrue(self.server.asked[-1][1].startswith(elsewhere))
        flatbed.open(self.url, storage_options={"proxy": nobody, "no_proxy": "127.0.0.1"})

    def test_options_are_checked(self) -> None:
        for options in ({"tokn": "x"}, {"token": 1}, {"credentials": "x"}, {"retries": "x"}):
            with self.assertRaises(TypeError):
                flatbed.open(self.url, storage_options=options)
        with self.assertRaises(ValueError):
            flatbed.open(two_tensors(), storage_options={"token": "x"})

    def test_certificates_may_be_named_by_the_environment(self) -> None:
        # A file that does not exist is none; a folder is no file.
        for variable, place in (("SSL_CERT_FILE", "nothing.pem"), ("SSL_CERT_DIR", "")):
            path = str(self.folder / place)
            with unittest.mock.patch.dict(os.environ, {variable: path}):
                flatbed.open(self.url)
        with unittest.mock.patch.dict(os.environ, {"SSL_CERT_FILE": str(self.folder)}):
            with self.assertRaises(flatbed.FileError) as raised:
                flatbed.open(self.url)
            self.assertEqual(raised.exception.name, "file_not_found")
            self.assertIn(str(self.folder), str(raised.exception))

    def test_errors_are_named(self) -> None:
        cases = {
            self.server.origin + "/missing": "file_not_found",
            "https://me:hushhush@127.0.0.1/x": "url_invalid",
            "file:///etc/passwd": "url_invalid",
        }
        for url, name in cases.items():
            with self.subTest(name), self.assertRaises(flatbed.Error) as raised:
                flatbed.open(url)
            self.assertEqual(raised.exception.name, name)
            self.assertNotIn("hushhush", str(raised.exception))

    def test_convert_writes_an_object(self) -> None:
        options = {"endpoint": self.server.origin}
        report = flatbed.convert(
            two_tensors(), "s3://bucket/x/a.safetensors", storage_options=options
        )
        self.assertGreater(report.nbytes, 0)
        again = flatbed.open("s3://bucket/x/a.safetensors", storage_options=options)
        self.assertEqual((again.seal, sorted(again)), ("sealed", ["a", "b"]))
        with self.assertRaises(flatbed.FileError) as raised:
            flatbed.convert(two_tensors(), "s3://bucket/x/a.safetensors", storage_options=options)
        self.assertEqual(raised.exception.name, "file_exists")
