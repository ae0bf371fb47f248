"""URLs where a file may stand: every command over a server of the test's own, and outputs at s3://."""

import base64
import contextlib
import json
import os
import ssl
import subprocess

import inputs
import url_server
from tool import CRC_MATCHES, FAILURE, OK, SCAN_UNKNOWN, SOME_FAILED, USAGE, ToolTest

import writer


class UrlTest(ToolTest):
    is_s3 = False

    def setUp(self):
        super().setUp()
        self.path("www").mkdir()
        self.path("here").mkdir()
        stack = contextlib.ExitStack()
        self.addCleanup(stack.close)
        self.server = stack.enter_context(url_server.serve(self.path("www"), self.is_s3))
        self.environment = {name: value for name, value in os.environ.items()
                            if not name.startswith(("AWS_", "HF_"))}
        self.environment.update(HOME=str(self.path("home")), TERM="xterm", http_proxy="", no_proxy="*")
        inputs.write_torch(self.path("www/a.pth"), {"w": inputs.Tensor([2], [1, 2]), "b": inputs.Tensor([1], [3])})
        writer.write(self.path("www/s.safetensors"), [("w", "F32", [3], inputs.floats(1, 2, 3))])
        if "built without" in self.run_tool("ls", "gopher://x/y", expect=None).stderr:
            self.skipTest("the tool is built without flatbed::remote")

    def start(self, *arguments, **options):
        return super().start(*arguments, **{"cwd": self.path("here"), "env": self.environment, **options})

    def written(self):
        return sorted(entry.name for entry in self.path("here").iterdir())


class ProxyTest(UrlTest):
    """Hosts that only a proxy knows. Over TLS the server is reached by tunnels."""

    def setUp(self):
        super().setUp()
        self.environment.pop("no_proxy")
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test",
                        "-addext", "subjectAltName=DNS:model.example", "-keyout", self.path("key.pem"), "-out",
                        self.path("ca.pem")], check=True, capture_output=True)

    def use_tls(self):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("ca.pem"), self.path("key.pem"))
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)

    def verify(self, url, **options):
        return self.run_tool("verify", url, "--ca-file", self.path("ca.pem"), **options)

    def test_https_goes_through_a_tunnel(self):
        self.use_tls()
        self.environment.update(HF_TOKEN="hf_secret", HF_ENDPOINT="https://model.example")
        with url_server.tunnels(self.server.server_port) as proxy:
            self.environment["https_proxy"] = proxy.origin.replace("://", "://me:word@")
            self.verify("https://model.example/s.safetensors")
        self.assertGreater(len(proxy.requests), 0)
        for method, target, headers, _ in proxy.requests:
            self.assertEqual((method, target), ("CONNECT", "model.example:443"))
            self.assertEqual(headers["Proxy-Authorization"], "Basic " + base64.b64encode(b"me:word").decode())
            self.assertNotIn("hf_secret", str(headers))
        for _, path, headers, _ in self.server.requests:
            self.assertEqual((path, headers["Authorization"]), ("/s.safetensors", "Bearer hf_secret"))
            self.assertNotIn("Proxy-Authorization", headers)

    def test_a_proxy_that_refuses_is_named_at_once(self):
        with url_server.tunnels(self.server.server_port, 407) as proxy:
            self.environment["ALL_PROXY"] = proxy.origin.replace("://", "://me:word@")
            result = self.verify("https://model.example/s.safetensors", expect=FAILURE)
        self.assertIn("the proxy does not connect: HTTP 407 (it wants a user and a password)", result.stderr)
        self.assertNotIn("word@", result.stderr)
        self.assertEqual(len(proxy.requests), 1)

    def test_http_has_a_proxy_of_its_own(self):
        self.environment.update(http_proxy=self.server.origin, HTTPS_PROXY="http://127.0.0.1:9", HTTP_PROXY="ftp://x")
        self.verify("http://model.example/s.safetensors")
        for _, path, _, status in self.server.requests:
            self.assertEqual((path, status), ("http://model.example/s.safetensors", 206))

    def test_hosts_may_be_reached_without_a_proxy(self):
        self.environment.update(http_proxy="http://127.0.0.1:9", NO_PROXY="other.example,127.0.0.1")
        self.verify(self.server.url("s.safetensors"))


class HttpTest(UrlTest):
    def test_commands_that_read(self):
        torch, sealed = self.server.url("a.pth"), self.server.url("s.safetensors")
        self.assertRegex(self.run_tool("ls", torch).stdout, r"(?m)^ *w +F32 +\[2\] +8 B$")
        self.assertEqual(self.run_json("ls", sealed)["files"][0]["path"], sealed)
        self.run_tool("verify", sealed)
        self.run_tool("verify", torch, expect=CRC_MATCHES)
        self.assertEqual(self.run_raw("cat", sealed, "w").stdout, inputs.floats(1, 2, 3))
        self.run_tool("scan", torch)
        self.run_tool("load", sealed)
        self.run_tool("diff", sealed, self.path("www/s.safetensors"))
        self.run_tool("diff", torch, sealed, expect=FAILURE)
        self.run_tool("match", torch, "--expect", sealed, "--partial", expect=None)
        self.run_tool("map", torch, "-o", "map.svg")
        self.assertEqual(self.written(), ["map.svg"])

    def test_convert_writes_into_the_current_folder_or_where_it_is_told(self):
        self.run_tool("convert", self.server.url("a.pth?signature=secret"))
        self.run_tool("convert", self.server.url("a.pth"), "-o", "b.safetensors")
        self.run_tool("convert", self.server.url("s.safetensors"), "s.pth")
        self.assertEqual(self.written(), ["a.safetensors", "b.safetensors", "s.pth"])
        self.assert_sealed("here/a.safetensors")
        report = self.run_json("convert", self.server.url("a.pth"))
        self.assertEqual(report["up_to_date"], 1)

    def test_a_set_and_a_folder(self):
        self.run_tool("convert", self.path("www/a.pth"), "-o", self.path("www/set"), "--max-shard-size", "8")
        for url in ("set/model.safetensors.index.json", "set/"):
            self.assertIn("2 tensors, 12 B of data", self.run_tool("ls", self.server.url(url)).stdout)
        self.run_tool("convert", self.server.url("set/"), "--out-dir", ".")
        self.assertEqual(self.written(), ["set.safetensors"])

    def test_a_cache_keeps_what_was_read(self):
        raw = bytes(range(256)) * (3 << 12)  # more than the beginning that an open keeps
        inputs.write_safetensors(self.path("www/big.safetensors"), {"w": ("U8", [len(raw)], raw)})
        url = self.server.url("big.safetensors")
        self.assertEqual(self.run_raw("cat", url, "w", "--cache", "kept", "--cache-size", "1GB").stdout, raw)
        size = sum(path.stat().st_size for path in self.path("here/kept").rglob("*") if path.is_file())
        self.assertGreater(size, len(raw) // 2)
        before = len(self.server.requests)
        self.assertEqual(self.run_raw("cat", url, "w", "--cache", "kept").stdout, raw)
        asked = [path for _, path, _, _ in self.server.requests[before:]]
        self.assertEqual(asked.count("/big.safetensors"), 1)  # for the version
        self.run_tool("cat", url, "w", "--cache-size", "1GB", expect=USAGE)

    def test_a_set_is_scanned(self):
        self.path("www/set").mkdir()
        for number in (1, 2):
            inputs.write_torch(self.path(f"www/set/m{number}.bin"), {f"w{number}": inputs.Tensor([1], [1])})
        self.path("www/set/m.bin.index.json").write_text(json.dumps({"weight_map": {"w1": "m1.bin", "w2": "m2.bin"}}))
        report = self.run_json("scan", self.server.url("set/m.bin.index.json"))
        self.assertEqual(len(report["files"][0]["files"]), 2)

    def test_a_scan_of_a_folder_that_cannot_be_listed_is_not_plain(self):
        os.rename(self.path("www/s.safetensors"), self.path("www/model.safetensors"))
        result = self.run_tool("scan", self.server.url(""), expect=SCAN_UNKNOWN)
        self.assertIn("1 file, no pickles found, 1 not scanned", result.stdout)
        self.run_tool("scan", self.server.url("model.safetensors"))

    def test_messages_say_what_to_do(self):
        self.path("www/set").mkdir()
        for arguments, text in ((("ls", self.server.url("set")), "the URL of a folder ends with '/'"),
                                (("ls", "htp://127.0.0.1/x"), "found the scheme 'htp', expected https, http, s3 or hf"),
                                (("ls", "s3:/bucket/key"), "a URL begins with s3://"),
                                (("ls", "hf://owner"), "expected hf://owner/name@revision/path")):
            self.assertIn(text, self.run_tool(*arguments, expect=FAILURE).stderr)
        url = self.server.url("s.safetensors")
        self.assertIn("local files", self.run_tool("map", url, "-o", "s3://bucket/m.svg", expect=USAGE).stderr)
        self.assertIn("local folder", self.run_tool("ls", url, "--cache", "s3://bucket/c", expect=USAGE).stderr)
        self.path("here/file").write_text("")
        self.assertIn("not a directory", self.run_tool("ls", url, "--cache", "file", expect=FAILURE).stderr.lower())
        self.assertIn("1 file over the network", self.run_tool("load", url).stdout)

    def test_a_list_has_urls(self):
        self.path("here/jobs.jsonl").write_text("".join(json.dumps({"in": self.server.url(name)}) + "\n"
                                                        for name in ("a.pth", "missing.pth")))
        result = self.run_tool("convert", "--list", "jobs.jsonl", expect=SOME_FAILED)
        self.assertIn("line 2", result.stderr)
        self.assertIn("[file_not_found]", result.stderr)
        self.assert_sealed("here/a.safetensors")

    def test_secrets_are_not_shown(self):
        url = self.server.url("nothing.pth?X-Amz-Signature=hushhush&versionId=hushhush")
        for arguments in (("ls", url), ("verify", url), ("cat", url, "w"), ("convert", url), ("load", url),
                          ("scan", url), ("diff", url, url), ("map", url, "-o", "m.svg"),
                          ("match", url, "--expect", url), ("ls", "https://me:hushhush@127.0.0.1/x")):
            for more in ((), ("--json",)):
                if more and arguments[0] == "cat":
                    continue
                result = self.run_tool(*arguments, *more, expect=None)
                self.assertNotEqual(result.returncode, OK, arguments)
                self.assertNotIn("hushhush", result.stdout + result.stderr)
        self.assertEqual(self.written(), [])

    def test_what_is_refused_by_name(self):
        for url, code in (("https://me:pw@127.0.0.1/a.pth", "url_invalid"), ("file:///etc/passwd", "url_invalid"),
                          ("gopher://127.0.0.1/x", "url_invalid"), ("http://", "url_invalid"),
                          (self.server.url("missing.pth"), "file_not_found")):
            result = self.run_tool("ls", url, expect=FAILURE)
            self.assertRegex(result.stderr, rf"\[{code}\]\n\Z", url)
        url = self.server.url("s.safetensors")
        self.assertIn("local files", self.run_tool("convert", "--sidecar", url, expect=USAGE).stderr)
        self.assertIn("s3:// URL", self.run_tool("convert", url, "-o", self.server.url("x.safetensors"),
                                                 expect=USAGE).stderr)
        self.assertIn("local files", self.run_tool("bench", url, expect=FAILURE).stderr)
        self.assertIn("local files", self.run_tool("series", url, expect=FAILURE).stderr)
        self.run_tool("ls", url, "--ca-file", "missing.pem", expect=FAILURE)

    def test_a_hub_with_its_token(self):
        folder = self.path("www/owner/name/resolve/main")
        folder.mkdir(parents=True)
        os.link(self.path("www/s.safetensors"), folder / "model.safetensors")
        self.environment.update(HF_ENDPOINT=self.server.origin, HF_TOKEN="hushhush")
        result = self.run_tool("convert", "hf://owner/name@main")
        self.assertEqual(self.written(), ["name.safetensors"])
        self.assertNotIn("hushhush", result.stdout + result.stderr)
        sent = [headers.get("Authorization") for _, path, headers, _ in self.server.requests if "resolve" in path]
        self.assertEqual(set(sent), {"Bearer hushhush"})


class S3Test(UrlTest):
    is_s3 = True

    def setUp(self):
        super().setUp()
        self.environment.update(AWS_ENDPOINT_URL_S3=self.server.origin)
        self.path("www/bucket").mkdir()

    def test_an_object_is_written_once(self):
        source = self.path("www/a.pth")
        self.run_tool("convert", source, "-o", "s3://bucket/x/a.safetensors")
        self.assert_sealed("www/bucket/x/a.safetensors")
        report = self.run_json("convert", source, "-o", "s3://bucket/x/a.safetensors")
        self.assertEqual((report["up_to_date"], report["files"][0]["output"]), (1, "s3://bucket/x/a.safetensors"))
        self.assertEqual([method for method, *_ in self.server.requests].count("PUT"), 1)
        self.run_tool("verify", "s3://bucket/x/a.safetensors")

    def test_a_pytorch_file_is_written_once(self):
        arguments = ("convert", self.path("www/a.pth"), "-o", "s3://bucket/x/b.pth")
        self.run_tool(*arguments)
        self.assertEqual(self.run_json(*arguments)["up_to_date"], 1)
        self.run_tool("diff", self.path("www/a.pth"), "s3://bucket/x/b.pth")
        self.assertIn("use --force", self.run_tool(*arguments, "--include", "w", expect=USAGE).stderr)
        self.run_tool(*arguments, "--include", "w", "--force")

    def test_an_object_that_differs_is_replaced_by_force_alone(self):
        inputs.write_safetensors(self.path("www/bucket/a.safetensors"), {"mine": ("U8", [1], b"x")})
        before = self.path("www/bucket/a.safetensors").read_bytes()
        arguments = ("convert", self.path("www/a.pth"), "-o", "s3://bucket/a.safetensors")
        result = self.run_tool(*arguments, expect=USAGE)
        self.assertIn("[file_exists]", result.stderr)
        self.run_tool(*arguments, "--dry-run", expect=USAGE)
        self.assertEqual(self.path("www/bucket/a.safetensors").read_bytes(), before)
        self.run_tool(*arguments, "--force")
        self.assert_sealed("www/bucket/a.safetensors")

    def test_a_set_is_written_once(self):
        arguments = ("convert", self.path("www/a.pth"), "-o", "s3://bucket/set", "--max-shard-size", "8")
        self.assertEqual(len(self.run_json(*arguments)["files"][0]["shards"]), 2)
        names = sorted(os.listdir(self.path("www/bucket/set")))
        self.assertEqual(names, ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
                                 "model.safetensors.index.json"])
        self.run_tool("verify", "s3://bucket/set/")
        self.assertEqual(self.run_json(*arguments)["up_to_date"], 1)
        result = self.run_tool("convert", self.path("www/s.safetensors"), *arguments[2:], expect=USAGE)
        self.assertIn("[file_exists]", result.stderr)

    def test_a_scan_names_the_folders_that_it_leaves_out(self):
        os.rename(self.path("www/s.safetensors"), self.path("www/bucket/s.safetensors"))
        self.run_tool("scan", "s3://bucket/")
        self.path("www/bucket/sub").mkdir()
        os.rename(self.path("www/a.pth"), self.path("www/bucket/sub/a.pth"))
        report = self.run_json("scan", "s3://bucket/", expect=SCAN_UNKNOWN)["files"][0]
        self.assertEqual([(file["path"], file["scanned"]) for file in report["files"]],
                         [("s3://bucket/s.safetensors", True), ("s3://bucket/sub", False)])
        self.assertIn("empty folder", self.run_tool("scan", "s3://bucket/nothing/", expect=FAILURE).stderr)

    def test_an_input_is_not_overwritten(self):
        os.rename(self.path("www/s.safetensors"), self.path("www/bucket/s.safetensors"))
        self.run_tool("convert", "s3://bucket/s.safetensors", "-o", "s3://bucket/s.safetensors", "--force",
                      expect=USAGE)

    def test_a_list_writes_objects(self):
        self.path("here/jobs.jsonl").write_text(json.dumps({"in": str(self.path("www/a.pth")),
                                                            "out": "s3://bucket/l.safetensors"}))
        self.assertEqual(self.run_json("convert", "--list", "jobs.jsonl")["converted"], 1)
        self.assertEqual(self.run_json("convert", "--list", "jobs.jsonl")["up_to_date"], 1)
        self.assert_sealed("www/bucket/l.safetensors")

    def test_a_dry_run_writes_nothing(self):
        report = self.run_json("convert", self.path("www/a.pth"), "-o", "s3://bucket/d.safetensors", "--dry-run")
        self.assertEqual(report["planned"], 1)
        self.assertEqual(os.listdir(self.path("www/bucket")), [])
