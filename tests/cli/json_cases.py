"""What --json prints: always one object, which doc/output.schema.json describes."""

import copy
import json
import os

import inputs
import writer
from tool import FAILURE, ROOT, SCAN_DANGEROUS, SOME_FAILED, USAGE, ToolTest

try:
    import jsonschema
except ImportError:
    jsonschema = None  # the schema is then only read; what else is printed is still compared

SCHEMA = json.loads((ROOT / "doc/output.schema.json").read_text())


def closed(schema):
    """The schema, with a key that it does not name being an error."""
    schema = copy.deepcopy(schema)
    pending = [schema]
    while pending:
        part = pending.pop()
        if isinstance(part, dict):
            if "properties" in part:
                part.setdefault("additionalProperties", False)
            pending += part.values()
        elif isinstance(part, list):
            pending += part
    return schema


class JsonTest(ToolTest):
    @classmethod
    def setUpClass(cls):
        if jsonschema:
            jsonschema.Draft202012Validator.check_schema(SCHEMA)
        cls.definitions = closed(SCHEMA)["$defs"]

    def report(self, *arguments, expect=0, kind=None):
        result = self.run_tool(*arguments, "--json", expect=expect)
        self.assertEqual(result.stdout.count("\n"), 1)
        report = json.loads(result.stdout)
        self.validate(report, kind or arguments[0])
        self.assertEqual((report["schema"], report["exit_code"]), (1, expect))
        self.assertEqual(report["error"] is None, result.stderr == "")
        return report

    def validate(self, report, kind):
        self.assertLessEqual({"schema", "command", "exit_code", "error"}, report.keys())
        self.assertLessEqual(report.keys(), self.definitions[kind]["properties"].keys())
        if jsonschema:
            own = {"$ref": f"#/$defs/{kind}", "$defs": self.definitions}
            jsonschema.Draft202012Validator(own).validate(report)
            jsonschema.Draft202012Validator(SCHEMA).validate(report)

    def files(self):
        writer.write(self.path("s.safetensors"), [("w", "F32", [3], inputs.floats(1, 2, 3))], aliases={"v": "w"})
        inputs.write_torch(self.path("l.ckpt"), inputs.lightning())
        return "s.safetensors", "l.ckpt"

    def test_every_command(self):
        sealed, torch = self.files()
        self.report("ls", sealed)
        self.report("ls", torch, "--stats")
        self.report("ls", sealed, torch)
        self.report("ls", "--summary", torch)
        self.report("verify", sealed)
        self.report("verify", sealed, torch, expect=8)
        self.report("scan", sealed, torch)
        self.report("diff", torch, torch)
        self.report("diff", "--values", torch, sealed, expect=1)
        self.report("match", sealed, "--expect", sealed)
        self.report("match", torch, "--expect", sealed, "--partial", "--ready-sets", expect=FAILURE)
        self.report("map", sealed, "-o", "map.svg")
        self.report("map", sealed, "--diff", torch, "-o", "map.html")
        self.report("series", "run", "save", sealed, "--step", "1", "--score", "0.5", "--metric", "loss")
        self.report("series", "run", "save", sealed, "--step", "2", "--score", "nan", "--max-shard-size", "1KB")
        for action in ((), ("latest",), ("best",), ("verify",), ("prune", "--keep-last", "1"), ("roll-back", "1")):
            self.report("series", "run", *action)
        self.report("series", "nowhere", expect=FAILURE)
        self.report("series", "nowhere", "latest", expect=FAILURE)
        self.report("load", sealed, "--digests", "--slice", "0:0/2")
        self.report("bench", sealed, "--runs", "1", "--threads", "1")
        self.report("convert", torch, "out.safetensors")

    def test_every_command_after_a_failure(self):
        sealed, torch = self.files()
        self.path("bad.pth").write_bytes(b"<html>")
        for command in ("ls", "verify", "scan", "load", "bench", "convert"):
            self.report(command, "missing", expect=FAILURE)
        self.report("match", "missing", "--expect", sealed, expect=FAILURE)
        self.report("diff", "missing", sealed, expect=2)
        self.report("map", "missing", "-o", "map.svg", expect=FAILURE)
        self.assertEqual(self.report("ls", "bad.pth", expect=FAILURE)["path"], "bad.pth")
        self.report("ls", sealed, "bad.pth", expect=FAILURE)
        self.report("verify", sealed, "bad.pth", expect=FAILURE)
        self.report("convert", torch, "bad.pth", "--out-dir", "d", expect=SOME_FAILED)
        self.assertEqual(self.report("ls", torch, "--select", "x", expect=FAILURE)["error"]["name"], "path_not_found")

    def test_damage_and_danger(self):
        _, torch = self.files()
        inputs.state_another_crc(self.path(torch), "archive/data/0")
        self.run_json("verify", torch, expect=FAILURE)
        self.path("e.pkl").write_bytes(b"cposix\nsystem\n(S'true'\ntR.")
        self.assertIsNone(self.report("scan", "e.pkl", expect=SCAN_DANGEROUS)["error"])

    def test_wrong_command_lines(self):
        self.assertEqual(self.report("ls", "a", "--tree", expect=USAGE, kind="failure")["command"], "ls")
        self.assertIsNone(self.report("fly", expect=USAGE, kind="failure")["command"])
        error = self.report("verify", expect=USAGE, kind="failure")["error"]
        self.assertEqual(error["name"], "invalid_argument")
        self.report("cat", "a", "w", expect=USAGE, kind="failure")
        self.files()
        self.report("convert", "s.safetensors", "--sidecar", "--no-seal", expect=USAGE)

    def test_without_json_standard_output_stays_empty(self):
        self.assertEqual(self.run_tool("ls", expect=USAGE).stdout, "")
        self.assert_error(self.run_tool("ls", "--", "--json", expect=FAILURE), "file_not_found", "--json")

    def test_names_that_are_not_utf8_are_kept(self):
        name = b"a\xff\xe9.safetensors"
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("U8", [1], b"x")})
        os.rename(self.path("a.safetensors"), os.path.join(os.fsencode(self.folder), name))
        for command, rows in (("ls", "files"), ("verify", "files"), ("scan", "files"), ("load", "sources")):
            result = self.run_raw(command, os.fsdecode(name), "--json", expect=4 if command == "verify" else 0)
            report = json.loads(result.stdout)
            self.validate(report, command)
            row = report[rows][0]
            self.assertEqual((row["path"], bytes.fromhex(row["path_bytes"])), ("a\ufffd\ufffd.safetensors", name))
