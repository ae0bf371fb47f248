"""flatbed convert --list: jobs of a file, parts of it, reports, and many workers at once."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import time
import unittest

import inputs
import list_kills
from tool import (FAILURE, INTERRUPTED, OK, ROOT, SOME_FAILED, TIME_LIMIT, USAGE, ToolTest, binary, wait_until,
                  wait_until_caught)

from json_cases import SCHEMA, closed, jsonschema


class ListTest(ToolTest):
    def torch(self, *names):
        for name in names:
            inputs.write_torch(self.path(name), {"w": inputs.Tensor([2], [1, 2]), "b": inputs.Tensor([1], [3])})

    def write_list(self, *jobs, name="jobs.jsonl"):
        """Each job is an object, or a line as it is."""
        lines = [job if isinstance(job, str) else json.dumps(job) for job in jobs]
        self.path(name).write_text("".join(line + "\n" for line in lines))

    def report(self, name="report.jsonl"):
        return [json.loads(line) for line in self.path(name).read_text().splitlines()]

    def messages(self, result):
        """The message of each failed line, by its number."""
        found = re.findall(r"(?m)^flatbed: jobs\.jsonl: line (\d+): (.*)$", result.stderr)
        return {int(line): message for line, message in found}


class JobsTest(ListTest):
    def test_each_line_is_a_conversion_with_options_of_its_own(self):
        self.torch("a.pth", "b.pth", "c.pth")
        self.write_list({"in": "a.pth"}, {"in": "b.pth", "out": "x.safetensors", "options": {"exclude": ["b"]}},
                        {"in": "c.pth", "options": {"dtype": "bf16", "no-seal": True, "include": "w"}})
        text = self.run_tool("convert", "--list", "jobs.jsonl", "--report", "report.jsonl").stdout
        self.assertEqual(list(self.load("a.safetensors")), ["w", "b"])
        self.assertEqual(list(self.load("x.safetensors")), ["w"])
        self.assertIn("c.safetensors: written: 1 tensor, 1 of them cast to BF16", text)
        self.assertRegex(text.split("\n\n")[1],
                         r"\ASTATUS +JOBS +TENSORS +SIZE\nconverted +3 +4 +24 B\n\Z")
        report = self.report()
        self.assertEqual([(line["line"], line["status"]) for line in report],
                         [(1, "converted"), (2, "converted"), (3, "converted")])
        self.assertEqual(report[1]["output"], "x.safetensors")

    def test_options_of_the_command_line_hold_unless_a_job_has_its_own(self):
        self.torch("a.pth", "b.pth")
        self.write_list({"in": "a.pth"}, {"in": "b.pth", "options": {"include": ["b"], "add-prefix": "y."}})
        self.run_tool("convert", "--list", "jobs.jsonl", "--include", "w", "--add-prefix", "x.", "--out-dir", "out")
        self.assertEqual(list(self.load("out/a.safetensors")), ["x.w"])
        self.assertEqual(list(self.load("out/b.safetensors")), ["y.b"])

    def test_sidecars_and_sets_are_jobs_too(self):
        inputs.write_safetensors(self.path("s.safetensors"), {"w": ("U8", [1], b"x")})
        self.torch("a.pth")
        self.write_list({"in": "s.safetensors", "options": {"sidecar": True}},
                        {"in": "a.pth", "out": "new/set", "options": {"max-shard-size": 8}})
        self.run_tool("convert", "--list", "jobs.jsonl")
        self.assert_sealed("s.safetensors")
        self.assertEqual(len(list(self.path("new/set").glob("*.safetensors"))), 2)

    def test_a_broken_line_is_named_and_the_rest_is_done(self):
        self.torch("a.pth", "z.pth")
        self.write_list(
            '{"in": "a.pth"', "", "[1]", '{"out": "x.safetensors"}', '{"in": "a.pth", "ni": 1}', '{"in": ""}',
            '{"in": "a.pth", "in": "z.pth"}', {"in": "a.pth", "out": "8.pth", "options": {"forec": True}},
            {"in": "a.pth", "out": "9.pth", "options": {"force": "yes"}}, {"in": "b.pth", "options": {"select": True}},
            '{"in": "a.pth", "options": {"force": true, "force": false}}', {"in": "missing.pth"}, {"in": "z.pth"},
            {"in": "a.pth", "out": "o1.safetensors", "options": {"dtype": "i8"}},
            {"in": "a.pth", "out": "o2.safetensors", "options": {"report": "x"}},
            {"in": "a.pth", "out": "o3.safetensors", "options": {"include": [1]}},
            {"in": "a\0.pth"}, {"in": "a.pth", "out": "odd.txt"}, {"in": "a.pth", "options": []}, "nul",
            {"in": "a.pth", "options": {f"o{i}": True for i in range(101)}})
        result = self.run_tool("convert", "--list", "jobs.jsonl", "--report", "report.jsonl", expect=SOME_FAILED)
        messages = self.messages(result)
        expected = {1: "not valid JSON", 3: "found a list, expected an object", 4: "'in' is missing",
                    5: "unknown key 'ni'", 6: "in: the path is empty", 7: "'in' is there twice",
                    8: "unknown key 'forec'; did you mean force?", 9: "force: found a string or a list of strings",
                    10: "select: found true or false", 11: "'force' is there twice", 12: "file_not_found",
                    14: "found 'i8'", 15: "unknown key 'report'", 16: "found a number, expected a string",
                    17: "zero byte", 18: "must end in", 19: "options: found a list, expected an object",
                    20: "not valid JSON", 21: "options: found more than 100"}
        self.assertEqual(messages.keys(), expected.keys())
        for line, part in expected.items():
            self.assertIn(part, messages[line])
        self.assert_sealed("z.safetensors")
        self.assertEqual(self.names(), ["a.pth", "jobs.jsonl", "report.jsonl", "z.pth", "z.safetensors"])
        self.assertEqual({line["line"]: line["status"] for line in self.report()},
                         {**dict.fromkeys(expected, "failed"), 13: "converted"})

    def test_lines_of_any_bytes_fail_by_themselves(self):
        seeded = random.Random(3)
        valid = b'{"in": "missing.pth", "out": "x%d.safetensors", "options": {"dtype": "bf16", "exclude": ["b"]}}'
        with open(self.path("jobs.jsonl"), "wb") as jobs:
            for i in range(400):
                line = bytearray(valid % i)
                for _ in range(seeded.randrange(1, 4)):
                    at = seeded.randrange(len(line))
                    line[at:at + seeded.randrange(3)] = seeded.randbytes(seeded.randrange(3))
                jobs.write(bytes(line).replace(b"\n", b"") + b"\n")
        self.run_tool("convert", "--list", "jobs.jsonl", "-q", "--dry-run", "--report", "report.jsonl",
                      expect=SOME_FAILED)
        self.assertEqual([line["line"] for line in self.report()], list(range(1, 401)))
        self.assertEqual({line["status"] for line in self.report()}, {"failed"})

    def test_a_line_has_a_limit_and_the_next_one_is_read(self):
        self.torch("a.pth")
        self.write_list('{"in": "' + "x" * (1 << 20) + '"}', {"in": "a.pth"})
        result = self.run_tool("convert", "--list", "jobs.jsonl", expect=SOME_FAILED)
        self.assertIn("line 1: the line is longer than 1.0 MiB [limit_exceeded]", result.stderr)
        self.assert_sealed("a.safetensors")

    def test_two_jobs_with_one_output_are_refused_and_so_is_an_output_that_is_an_input(self):
        self.torch("a.pth", "b.pth", "c.pth", "d.pth")
        self.write_list({"in": "a.pth", "out": "x.safetensors"}, {"in": "b.pth", "out": "./y/../x.safetensors"},
                        {"in": "c.pth", "out": "d.pth"}, {"in": "d.pth"}, {"in": "b.pth"})
        before = self.path("d.pth").read_bytes()
        messages = self.messages(self.run_tool("convert", "--list", "jobs.jsonl", expect=SOME_FAILED))
        self.assertIn("line 2 would be written to the same output [name_collision]", messages[1])
        self.assertIn("line 1 would be written to the same output [name_collision]", messages[2])
        self.assertIn("refusing to overwrite the input of line 4 [name_collision]", messages[3])
        self.assertEqual(len(messages), 3)
        self.assertEqual(self.path("d.pth").read_bytes(), before)
        self.assertFalse(self.path("x.safetensors").exists())
        self.assert_sealed("d.safetensors")

    def test_a_folder_for_a_set_clashes_with_a_file_in_it(self):
        self.torch("a.pth", "b.pth", "c.pth")
        self.write_list({"in": "a.pth", "out": "new", "options": {"max-shard-size": 1 << 20}},
                        {"in": "b.pth", "out": "new/model.safetensors"}, {"in": "c.pth"})
        messages = self.messages(self.run_tool("convert", "--list", "jobs.jsonl", expect=SOME_FAILED))
        self.assertIn("line 2 would be written to the same output [name_collision]", messages[1])
        self.assertIn("line 1 would be written to the same output [name_collision]", messages[2])
        self.assertEqual(len(messages), 2)
        self.assert_sealed("c.safetensors")

    def test_files_beside_those_of_a_set_with_another_name_do_not_clash(self):
        self.torch("b.pth")
        name = "unet/diffusion_pytorch_model.safetensors"
        self.path("unet").mkdir()
        inputs.write_safetensors(self.path(name), {"w": ("U8", [1], b"x")})
        index = {"metadata": {"total_size": 1}, "weight_map": {"w": name.removeprefix("unet/")}}
        self.path(name + ".index.json").write_text(json.dumps(index))
        self.write_list({"in": "unet/", "out": "out"}, {"in": "b.pth", "out": "out/model.safetensors"})
        self.run_tool("convert", "--list", "jobs.jsonl")
        self.assert_sealed("out/diffusion_pytorch_model.safetensors")
        self.assert_sealed("out/model.safetensors")

    def test_an_output_that_differs_is_refused_without_force(self):
        self.torch("a.pth", "b.pth")
        for name in ("a.safetensors", "b.safetensors"):
            inputs.write_safetensors(self.path(name), {"mine": ("U8", [1], b"x")})
        before = self.path("a.safetensors").read_bytes()
        self.write_list({"in": "a.pth"}, {"in": "b.pth", "options": {"force": True}})
        result = self.run_tool("convert", "--list", "jobs.jsonl", expect=SOME_FAILED)
        self.assertIn("[file_exists]", self.messages(result)[1])
        self.assertEqual(self.path("a.safetensors").read_bytes(), before)
        self.assert_sealed("b.safetensors")

    def test_standard_input_is_a_list(self):
        self.torch("a.pth", "b.pth")
        text = '\n{"in": "a.pth"}\r\n \n{"in": "b.pth"}'
        done = subprocess.run([binary(), "convert", "--list", "-", "--json"], cwd=self.folder, input=text.encode(),
                              capture_output=True, check=True)
        report = json.loads(done.stdout)
        self.assertEqual((report["list"], report["jobs"], report["converted"]), ("-", 2, 2))

    def test_a_dry_run_writes_nothing(self):
        self.torch("a.pth")
        self.write_list({"in": "a.pth"}, {"in": "b.pth"})
        text = self.run_tool("convert", "--list", "jobs.jsonl", "--dry-run", expect=SOME_FAILED).stdout
        self.assertRegex(text, r"(?m)^planned +1 ")
        self.assertEqual(self.names(), ["a.pth", "jobs.jsonl"])

    def test_mistakes_in_the_command_line(self):
        self.torch("a.pth")
        self.write_list({"in": "a.pth"})
        for arguments in (("a.pth", "--list", "jobs.jsonl"), ("--list", "jobs.jsonl", "-o", "x.safetensors"),
                          ("a.pth", "--part", "0/2"), ("a.pth", "--report", "r"), ("--list", ""), ()):
            self.run_tool("convert", *arguments, expect=USAGE)
        for part in ("", "1", "3/2", "-1/2", "0/0", "1/2/3", "a/b", "99999999999999999999/1"):
            result = self.run_tool("convert", "--list", "jobs.jsonl", "--part", part, expect=USAGE)
            self.assert_error(result, "invalid_argument", "expected I/N")
        for name in ("missing.jsonl", "."):
            self.run_tool("convert", "--list", name, expect=FAILURE)
        result = self.run_tool("convert", "--list", "jobs.jsonl", "--report", "no/such", expect=FAILURE)
        self.assert_error(result, "file_not_found", "no/such")
        self.assertEqual(self.names(), ["a.pth", "jobs.jsonl"])

    def test_options_of_jobs_are_those_of_the_command_line(self):
        schema = json.loads((ROOT / "doc/jobs.schema.json").read_text())
        keys = schema["properties"]["options"]["properties"]
        text = self.run_tool("convert", "--help").stdout
        options = set(re.findall(r"(?m)^ +(?:-\w, )?--([\w-]+)", text))
        of_the_run = {"help", "output", "out-dir", "list", "part", "report", "jobs", "dry-run", "quiet", "json",
                      "cache", "cache-size", "ca-file"}
        self.assertEqual(set(keys), options - of_the_run)
        self.write_list(*({"in": "a.pth", "out": f"{key}.safetensors",
                           "options": {key: kind.get("type") == "boolean" or "1"}} for key, kind in keys.items()))
        result = self.run_tool("convert", "--list", "jobs.jsonl", expect=SOME_FAILED)
        self.assertNotIn("unknown key", result.stderr)
        self.assertNotIn("expected true or false", result.stderr)
        self.assertNotIn("expected a string or a list", result.stderr)

    def test_json_is_as_the_schema_says(self):
        self.torch("a.pth")
        self.write_list({"in": "a.pth"}, {"in": "b.pth"}, "{")
        report = json.loads(self.run_tool("convert", "--list", "jobs.jsonl", "--part", "2/2", "--report", "r.jsonl",
                                          "--json", expect=SOME_FAILED).stdout)
        self.assertEqual((report["part"], report["jobs"], report["converted"], report["failed"]), ("0/2", 2, 1, 1))
        self.assertEqual([(row["line"], row["error"]["name"]) for row in report["failures"]], [(3, "invalid_argument")])
        definitions = closed(SCHEMA)["$defs"]
        self.assertLessEqual(report.keys(), definitions["convert"]["properties"].keys())
        for line in self.report("r.jsonl"):
            self.assertEqual(line.keys(), definitions["converted"]["properties"].keys() - {"input_bytes",
                                                                                          "output_bytes"})
        if jsonschema:
            def check(kind, value):
                jsonschema.Draft202012Validator({"$ref": f"#/$defs/{kind}", "$defs": definitions}).validate(value)
            check("convert", report)
            for line in self.report("r.jsonl"):
                check("converted", line)

    def peak_memory(self, lines):
        """Of a worker that does one job in 1,000, in KiB."""
        with open(self.path("jobs.jsonl"), "w") as jobs:
            for i in range(lines):
                jobs.write('{"out": "%d.safetensors", "options": {"include": ["%s"]}}\n' % (i, "x" * 400))
        options = os.environ.get("ASAN_OPTIONS", "") + ":quarantine_size_mb=16"
        process = self.start("convert", "--list", "jobs.jsonl", "--part", "0/1000", "-q", stdout=subprocess.DEVNULL,
                             stderr=subprocess.DEVNULL, env={**os.environ, "ASAN_OPTIONS": options})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, SOME_FAILED)
        return usage.ru_maxrss

    def test_memory_does_not_grow_with_the_list(self):
        self.assertLess(self.peak_memory(200_000) - self.peak_memory(1_000), 48 << 10)  # of 90 MB


class WorkersTest(ListTest):
    def many(self, count):
        names = [f"{i}.pth" for i in range(count)]
        self.torch(*names)
        self.write_list(*({"in": name} for name in names))
        return names

    def converted(self):
        return sorted(line["line"] for line in self.report() if line["status"] == "converted")

    def test_parts_do_every_job_once_whether_counted_from_0_or_from_1(self):
        self.many(10)
        for first in (0, 1):
            for part in range(first, first + 3):
                self.run_tool("convert", "--list", "jobs.jsonl", "--part", f"{part}/3", "--report", "report.jsonl")
            self.assertEqual(self.converted(), list(range(1, 11)))
            self.path("report.jsonl").unlink()
            for i in range(10):
                self.path(f"{i}.safetensors").unlink()

    def test_workers_on_one_list_do_every_job_once(self):
        self.many(60)
        workers = [self.start("convert", "--list", "jobs.jsonl", "--jobs", "2", "--no-sync", "--report",
                              "report.jsonl") for _ in range(3)]
        for worker in workers:
            self.assertEqual((worker.communicate(timeout=TIME_LIMIT)[1], worker.returncode), (b"", OK))
        self.assertEqual(self.converted(), list(range(1, 61)))
        self.assertEqual(len(self.report()), 180)
        self.assertEqual([name for name in self.names() if name.startswith(".")], [])

    def test_an_output_that_another_worker_writes_is_waited_for(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 64 << 20)
        self.torch("a.pth")
        self.write_list({"in": "big.safetensors", "out": "out.safetensors"}, {"in": "a.pth"})
        arguments = ("convert", "--list", "jobs.jsonl", "--no-sync", "--report", "report.jsonl")
        first = self.start_held(*arguments)
        second = self.start(*arguments)
        wait_until(self.path("a.safetensors").exists, "the second worker converts the other file")
        time.sleep(0.2)  # in which it could wrongly end
        self.assertIsNone(second.poll())
        self.assertEqual((first.finish()[1], first.process.returncode), ("", OK))
        self.assertEqual((second.communicate(timeout=TIME_LIMIT)[1], second.returncode), (b"", OK))
        self.assertEqual(self.converted(), [1, 2])
        self.assertEqual([name for name in self.names() if name.startswith(".")], [])

    def test_killed_workers_leave_the_rest_to_others(self):
        found = list_kills.run(binary(), self.folder, files=300, workers=4, kills=25)
        self.assertEqual(found["errors"], "")
        self.assertEqual(found["outputs"], 300)
        for kind in ("left_over", "missing", "different", "converted_twice", "failed"):
            self.assertEqual(found[kind], [], kind)
        self.assertGreaterEqual(found["converted_once"] + found["killed"], 300)
        self.assertRegex(found["table"], r"(?m)^up to date +300 ")

    def test_a_line_that_was_cut_does_not_damage_the_next(self):
        self.many(1)
        self.path("report.jsonl").write_text('{"line": 1, "stat')
        self.run_tool("convert", "--list", "jobs.jsonl", "--report", "report.jsonl")
        lines = self.path("report.jsonl").read_text().splitlines()
        self.assertEqual((len(lines), json.loads(lines[1])["status"]), (2, "converted"))

    def test_a_file_that_is_no_report_is_refused(self):
        self.many(1)
        for text in ('{"in": "a.pth"}\n', '{"line": 1}\nsomething\n', "x", "\n", "{" + "x" * 10_000):
            self.path("report.jsonl").write_text(text)
            error = self.run_tool("convert", "--list", "jobs.jsonl", "--report", "report.jsonl", expect=FAILURE).stderr
            self.assertIn("report.jsonl: not a report: its last line", error)
            self.assertEqual(self.path("report.jsonl").read_text(), text)
        for text in ("", '{"line": 1, "note": "' + "x" * 10_000 + '"}\n', '{"li', '{"line": 1}\n{"line": 2, "st'):
            self.path("report.jsonl").write_text(text)
            self.run_tool("convert", "--list", "jobs.jsonl", "--report", "report.jsonl")

    def test_an_interrupt_ends_it(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 64 << 20)
        self.torch("a.pth")
        self.write_list({"in": "big.safetensors", "out": "out.safetensors"}, {"in": "a.pth"})
        held = self.start_held("convert", "--list", "jobs.jsonl", "--no-sync")
        held.interrupt()
        out, err = held.finish()
        self.assertEqual(held.process.returncode, -signal.SIGINT)
        self.assertRegex(err, r"\Aflatbed: jobs\.jsonl: line 1: .* interrupted at .*\[cancelled\]\n\Z")
        self.assertRegex(out, r"(?m)^failed +1 ")
        self.assertRegex(out, r"(?m)^not started +1 ")
        self.assertEqual(self.names(), ["a.pth", "big.safetensors", "jobs.jsonl"])

    def test_an_interrupt_is_told_in_json(self):
        """Which draws no progress: what holds the tool is the error of the first job, reported before the next."""
        self.torch("a.pth")
        self.write_list({"in": "missing.pth"}, {"in": "a.pth"})
        held = self.start_held("convert", "--list", "jobs.jsonl", "--no-sync", "--json")
        held.interrupt()
        report = json.loads(held.finish()[0])
        self.assertEqual(held.process.returncode, -signal.SIGINT)
        self.assertEqual((report["exit_code"], report["failed"], report["not_started"]), (INTERRUPTED, 1, 1))
        self.assertEqual(self.names(), ["a.pth", "jobs.jsonl"])

    def test_an_interrupt_ends_the_wait_for_a_list(self):
        process = subprocess.Popen([binary(), "convert", "--list", "-"], cwd=self.folder, stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            wait_until_caught(process.pid, signal.SIGINT)
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)
        finally:
            process.kill()
            process.communicate()
        self.assertEqual(process.returncode, -signal.SIGINT)

    def test_a_full_disk_for_the_report_is_an_error(self):
        self.many(2)
        result = self.run_tool("convert", "--list", "jobs.jsonl", "--report", "/dev/full", expect=FAILURE)
        self.assert_error(result, "no_space", "/dev/full: cannot be written")
        self.assert_sealed("1.safetensors")


class ExamplesTest(ListTest):
    def environment(self):
        """The tool as `flatbed` in PATH."""
        self.path("bin").mkdir()
        os.symlink(binary(), self.path("bin/flatbed"))
        return {**os.environ, "PATH": f"{self.path('bin')}:{os.environ['PATH']}"}

    def jobs(self):
        names = [f"{i}.pth" for i in range(7)]
        self.torch(*names)
        self.write_list(*({"in": name} for name in names))

    def test_a_slurm_array(self):
        self.jobs()
        environment = self.environment()
        for task in range(1, 4):
            subprocess.run([ROOT / "examples/convert_array.slurm", "jobs.jsonl"], cwd=self.folder, check=True,
                           env={**environment, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_ARRAY_TASK_COUNT": "3",
                                "SLURM_CPUS_PER_TASK": "2"})
        lines = sorted(line["line"] for task in range(1, 4)
                       for line in self.report(f"jobs.jsonl.report.{task}.jsonl"))
        self.assertEqual(lines, list(range(1, 8)))

    @unittest.skipUnless(shutil.which("parallel"), "needs GNU parallel")
    def test_gnu_parallel(self):
        self.jobs()
        done = subprocess.run([ROOT / "examples/convert_parallel.sh", "jobs.jsonl", "3"], cwd=self.folder, check=True,
                              env=self.environment(), capture_output=True, text=True)
        self.assertRegex(done.stdout, r"(?m)^up to date +7 ")
