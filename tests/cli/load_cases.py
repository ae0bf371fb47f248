"""flatbed load: the loaded bytes, its report, and its failures."""

import json
import os
import pathlib
import signal
import struct
import unittest

import inputs
import writer
from reader import Tensor, digest
from tool import FAILURE, OK, ROOT, USAGE, ToolTest

CHUNK = inputs.CHUNK
WIDTH = {"F32": 4, "BF16": 2, "U8": 1, "I64": 8}


def pattern(nbytes, seed):
    """Bytes without a period that slices could hide in."""
    words = (nbytes + 3) // 4
    return struct.pack(f"<{words}I", *((i * 2654435761 + seed) & 0xFFFFFFFF for i in range(words)))[:nbytes]


def sliced(raw, shape, width, dim, begin, end):
    """Elements [begin, end) of a dimension, in C order."""
    inner = width
    for size in shape[dim + 1 :]:
        inner *= size
    block = shape[dim] * inner
    return b"".join(raw[at + begin * inner : at + end * inner] for at in range(0, len(raw), block))


class LoadTest(ToolTest):
    def tensors(self):
        """name -> (dtype, shape, bytes): several chunks, odd ends, nothing at all."""
        shapes = {
            "layer.weight": ("F32", [64, 24, 256]),
            "layer.bias": ("BF16", [64]),
            "odd": ("U8", [CHUNK + 8]),
            "none": ("F32", [0, 8]),
            "step": ("I64", []),
        }
        made = {}
        for seed, (name, (dtype, shape)) in enumerate(shapes.items()):
            nbytes = WIDTH[dtype]
            for size in shape:
                nbytes *= size
            made[name] = (dtype, shape, pattern(nbytes, seed))
        return made

    def sealed(self, name="s.safetensors", **options):
        writer.write(self.path(name), [(key, *value) for key, value in self.tensors().items()], **options)
        return name

    def unsealed(self, name="u.safetensors"):
        inputs.write_safetensors(self.path(name), self.tensors())
        return name

    def saved_on_gpus(self, name="g.safetensors"):
        first, second = pattern(4096, 1), pattern(8192, 2)
        tree, tensors, aliases = writer.encode({
            "a": Tensor("F32", [1024], first, {"device": "cuda:0"}),
            "b": [Tensor("F32", [2048], second, {"device": "cuda:1"})],
            "c": Tensor("U8", [3], b"abc"),
        })
        writer.write(self.path(name), tensors, tree=tree, aliases=aliases)
        return name

    def flip(self, path, tensor, offset):
        """Changes one bit of a tensor in its file."""
        listed = self.run_json("ls", path)
        at = next(t["offset"] for t in listed["tensors"] if t["name"] == tensor) + offset
        raw = bytearray(self.path(path).read_bytes())
        raw[at] ^= 4
        self.path(path).write_bytes(raw)

    def digests(self, *arguments, **options):
        """name -> digest, by the lines of --digests."""
        text = self.run_tool("load", *arguments, "--digests", "--quiet", **options).stdout
        self.assertRegex(text, r"\A([0-9a-f]{16}  [^\n]*\n)*\Z")
        return {line[18:]: line[:16] for line in text.splitlines()}

    def catted(self, path):
        """name -> digest, by what `flatbed cat` writes."""
        names = [tensor["name"] for tensor in self.run_json("ls", path)["tensors"]]
        return {name: digest(self.run_raw("cat", path, "--", name).stdout) for name in names}

    def whole(self):
        return {name: digest(raw) for name, (_, _, raw) in self.tensors().items()}

    def cut(self, dim, rank, count):
        """The part of tensors() that --slice loads, if the count divides the dimension."""
        out = {}
        for name, (dtype, shape, raw) in self.tensors().items():
            if dim < len(shape) and shape[dim] >= count:
                rows = shape[dim] // count
                raw = sliced(raw, shape, WIDTH[dtype], dim, rank * rows, (rank + 1) * rows)
            out[name] = digest(raw)
        return out


class WhatArrivesTest(LoadTest):
    def test_every_tensor_arrives_whole_whatever_the_way(self):
        ways = (
            [],
            ["--no-verify"],
            ["--threads", "1"],
            ["--threads", "5"],
            ["--io", "pread"],
            ["--io", "direct"],
            ["--io", "direct", "--staging", "2M", "--slot", "512K"],
            ["--device", "host"],
        )
        for path in (self.sealed(), self.unsealed()):
            for way in ways:
                self.assertEqual(self.digests(path, *way), self.whole(), (path, way))

    def test_digests_come_in_the_order_of_the_listing(self):
        names = [tensor["name"] for tensor in self.run_json("ls", self.sealed())["tensors"]]
        self.assertEqual(list(self.digests("s.safetensors")), names)

    def test_slices_of_each_dimension(self):
        self.sealed()
        for dim, count in ((0, 2), (0, 8), (1, 3), (2, 4)):
            for rank in range(count):
                for io in ("pread", "direct"):
                    got = self.digests("s.safetensors", "--slice", f"{dim}:{rank}/{count}", "--io", io)
                    self.assertEqual(got, self.cut(dim, rank, count), (dim, rank, count, io))

    def test_slices_that_do_not_come_out_even_are_together_the_whole(self):
        raw = pattern(10 * 12, 9)
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("F32", [10, 3], raw)})
        sizes = []
        for rank in range(4):
            report = self.run_json("load", "a.safetensors", "--slice", f"0:{rank}/4", "--digests")
            (row,) = report["digests"]
            begin = sum(sizes)
            sizes.append(row["nbytes"])
            self.assertEqual(row["xxh3"], digest(raw[begin : begin + row["nbytes"]]))
        self.assertEqual(sum(sizes), len(raw))
        self.assertLessEqual(max(sizes) - min(sizes), 12)

    def test_a_dimension_that_no_tensor_has_is_a_mistake(self):
        result = self.run_tool("load", self.sealed(), "--slice", "9:0/2", expect=FAILURE)
        self.assert_error(result, "invalid_argument", "dimension 9", "--slice")

    def test_a_slice_reports_what_is_cut_and_what_stays_whole(self):
        report = self.run_json("load", self.sealed(), "--slice", "1:0/8")
        self.assertEqual(report["slice"], {"dim": 1, "rank": 0, "count": 8, "sliced": 2, "whole": 3})
        text = self.run_tool("load", "s.safetensors", "--slice", "1:0/8").stdout
        self.assertIn("\nslice 1:0/8: 2 tensors sliced, 3 whole\n", text)

    def test_a_slice_of_a_dimension_that_no_tensor_has_is_an_error(self):
        inputs.write_safetensors(self.path("a.safetensors"), {"w": ("U8", [2, 1], b"ab")})
        result = self.run_tool("load", "a.safetensors", "--slice", "2:0/2", expect=FAILURE)
        self.assert_error(result, "invalid_argument", "--slice 2:0/2: no tensor has dimension 2",
                          "found at most 2 dimensions")
        self.run_tool("load", "a.safetensors", "--slice", "1:0/2")  # too short to cut: whole

    def test_a_pytorch_file(self):
        inputs.write_torch(self.path("l.pth"), inputs.lightning())
        self.assertEqual(self.digests("l.pth"), self.catted("l.pth"))
        transposed = inputs.Tensor([3, 2], [1, 2, 3, 4, 5, 6], stride=(1, 3))
        inputs.write_torch(self.path("t.pth"), {"t": transposed})
        self.assertEqual(self.digests("t.pth"), {"t": digest(inputs.floats(1, 4, 2, 5, 3, 6))})
        self.assertEqual(
            self.digests("t.pth", "--slice", "0:1/3"), {"t": digest(inputs.floats(2, 5))}
        )

    def test_what_torch_wrote(self):
        for name in ("checkpoint", "dtypes", "deflated", "not_dense", "tied", "views"):
            path = ROOT / f"tests/fixtures/torch2/{name}.pth"
            self.assertEqual(self.digests(path), self.catted(path), name)

    def test_a_sharded_directory(self):
        for path in (ROOT / "tests/fixtures/torch2/sharded", ROOT / "spec/vectors/shards/sealed"):
            self.assertEqual(self.digests(path), self.catted(path), path)
        report = self.run_json("load", ROOT / "tests/fixtures/torch2/sharded")
        self.assertEqual(len(report["plan"]["files"]), 2)

    def test_every_valid_vector(self):
        manifest = json.loads((ROOT / "spec/vectors/manifest.json").read_text())
        names = [name for name in manifest if name.startswith("valid/") and name.endswith(".safetensors")]
        self.assertTrue(names)
        for name in names[::4]:  # a process for each
            report = self.run_json("load", ROOT / "spec/vectors" / name, "--digests")
            self.assertEqual(report["verified"] == "all", report["sources"][0]["seal"] != "unsealed"
                             or report["report"]["bytes_wanted"] == 0, name)

    def test_a_selection(self):
        inputs.write_torch(self.path("l.pth"), inputs.lightning())
        weights = self.digests("l.pth", "--select", "state_dict")
        self.assertEqual(list(weights), ["fc.weight", "fc.bias"])
        self.assertEqual(
            self.digests("l.pth", "--include", "state_dict.*", "--include", "opt*", "--exclude", "*weight"),
            {name: value for name, value in self.catted("l.pth").items() if not name.endswith("weight")},
        )

    def test_several_files_are_one_load(self):
        self.sealed()
        inputs.write_torch(self.path("a.pth"), {"w": inputs.Tensor([2], [1, 2])})
        report = self.run_json("load", "s.safetensors", "a.pth", "--digests")
        self.assertEqual([source["path"] for source in report["sources"]], ["s.safetensors", "a.pth"])
        self.assertEqual(report["digests"][-1]["xxh3"], digest(inputs.floats(1, 2)))
        self.assertEqual((report["verified"], report["unverified_reason"]), ("some", "unsealed"))
        lines = self.run_tool("load", "s.safetensors", "a.pth", "--digests", "--quiet").stdout.splitlines()
        self.assertEqual(lines[-1], f"{digest(inputs.floats(1, 2))}  a.pth: w")

    def test_a_name_cannot_forge_a_line(self):
        writer.write(self.path("n.safetensors"), [("a\n0123456789abcdef  b", "U8", [2], b"hi")])
        text = self.run_tool("load", "n.safetensors", "--digests", "--quiet").stdout
        self.assertEqual(text, f"{digest(b'hi')}  a\\n0123456789abcdef  b\n")


class WhatIsSaidTest(LoadTest):
    def test_the_text_agrees_with_the_json(self):
        report = self.run_json("load", self.sealed(), "--digests", "--io", "pread")
        nbytes = sum(len(raw) for _, _, raw in self.tensors().values())
        self.assertEqual(report["exit_code"], OK)
        self.assertIsNone(report["error"])
        self.assertEqual(report["report"]["bytes_wanted"], nbytes)
        self.assertEqual(report["report"]["bytes_verified"], nbytes)
        self.assertEqual(report["plan"]["bytes_wanted"], nbytes)
        self.assertGreaterEqual(report["plan"]["bytes_to_read"], nbytes)
        self.assertEqual((report["report"]["files_buffered"], report["report"]["files_direct"]), (1, 0))
        self.assertEqual((report["verified"], report["unverified_reason"]), ("all", None))
        (host,) = report["devices"]
        self.assertEqual((host["name"], host["tensors"], host["nbytes"]), ("host", 5, nbytes))
        self.assertGreaterEqual(report["peak_memory_nbytes"], nbytes)
        self.assertIn(report["report"]["bottleneck"], ("read", "hash", "submit", "slots", "link"))
        self.assertEqual({row["name"]: row["xxh3"] for row in report["digests"]}, self.whole())

        chunks = report["report"]["chunks_verified"]
        text = self.run_tool("load", "s.safetensors", "--io", "pread").stdout
        for line in (
            r"s\.safetensors: 5 tensors, sealed",
            r"host: 5 tensors, 1\.8 MiB, one allocation of 1\.8 MiB",
            r"plan: 1\.8 MiB to load, 1\.8 MiB to read in \d+ pieces? from 1 file, at most .* of staging memory",
            r"loaded: 5 tensors, 1\.8 MiB in \d+\.\d{3} s, \d+\.\d\d GB/s, \d threads?",
            r"read: 1\.8 MiB, 1 file through the page cache, 0 with O_DIRECT",
            rf"verified: {chunks} chunks \(1\.8 MiB\) match",
            r"stages: read .* s, hash .* s, submit .* s, slots .* s, link .* s, most: \w+",
            r"memory: process peak .*, staging peak .*; allocated in .* s",
        ):
            self.assertRegex(text, rf"(?m)^{line}$")
        self.assertEqual(len(text.splitlines()), 8)

    def test_what_is_not_verified_is_said(self):
        result = self.run_tool("load", self.unsealed())
        self.assertIn("\nnot verified: unsealed\n", result.stdout)
        self.assertIn("\nnot verified: --no-verify\n", self.run_tool("load", self.sealed(), "--no-verify").stdout)
        report = self.run_json("load", "u.safetensors")
        self.assertEqual((report["verified"], report["unverified_reason"]), ("none", "unsealed"))
        self.assertEqual((report["report"]["bytes_verified"], report["exit_code"]), (0, OK))

    def test_quiet_says_nothing(self):
        result = self.run_tool("load", self.sealed(), "--quiet")
        self.assertEqual((result.stdout, result.stderr), ("", ""))

    def test_many_small_tensors_are_one_allocation(self):
        tensors = {f"t{i}": ("U8", [3], bytes([i % 256] * 3)) for i in range(5000)}
        inputs.write_safetensors(self.path("m.safetensors"), tensors)
        report = self.run_json("load", "m.safetensors")
        self.assertEqual(report["devices"], [
            {"name": "host", "tensors": 5000, "nbytes": 15000, "allocated_nbytes": 4999 * 256 + 3}])

    def test_progress_is_drawn_on_a_terminal_only(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 64 << 20)
        self.assertEqual(self.run_tool("load", "big.safetensors").stderr, "")
        drawn = self.run_on_terminal("load", "big.safetensors", stream="stderr").stderr
        self.assertRegex(drawn, r"loading \d[^,]* of 64\.0 MiB, [^,]*/s")
        self.assertTrue(drawn.endswith("\r\x1b[K"), drawn)

    def test_unwritable_output_is_an_error(self):
        with open("/dev/full", "w") as full:
            result = self.run_tool("load", self.sealed(), expect=FAILURE, stdout=full)
        self.assert_error(result, "no_space", "standard output")


class DevicesOfTheTreeTest(LoadTest):
    def test_a_map_counts_what_it_names(self):
        report = self.run_json("load", self.saved_on_gpus(), "--map", "cuda:1=host", "--digests")
        self.assertEqual((report["mapped"], report["notes"]), (1, []))
        both = self.run_json("load", "g.safetensors", "--map", "cuda:1=host", "--map", "cuda:0=host")
        self.assertEqual(both["mapped"], 2)
        cpu = self.run_json("load", "g.safetensors", "--map", "cpu=host")
        self.assertEqual(cpu["mapped"], 1)

    def test_a_map_survives_a_selection_by_globs(self):
        report = self.run_json("load", self.saved_on_gpus(), "--map", "cuda:1=host", "--include", "b*")
        self.assertEqual((report["mapped"], report["tensors"]), (1, 1))
        report = self.run_json("load", "g.safetensors", "--map", "cuda:1=host", "--select", "b")
        self.assertEqual((report["mapped"], report["tensors"]), (1, 1))

    def test_a_map_without_effect_is_said(self):
        for path in (self.saved_on_gpus(), self.sealed()):
            text = self.run_tool("load", path, "--map", "cuda:7=host").stdout
            self.assertIn("\nnote: --map cuda:7=host has no effect: the tree places no tensor on cuda:7\n", text)


class FailureTest(LoadTest):
    def test_damage_is_named_with_tensor_and_range(self):
        self.sealed()
        self.flip("s.safetensors", "odd", CHUNK + 2)
        for io in ("pread", "direct"):
            result = self.run_tool("load", "s.safetensors", "--digests", "--io", io, expect=FAILURE)
            self.assert_error(result, "chunk_corrupt", "s.safetensors", "'odd'", str(CHUNK), str(CHUNK + 8))
            self.assertNotRegex(result.stdout, "loaded|[0-9a-f]{16}")
        self.assertEqual(len(self.digests("s.safetensors", "--no-verify")), 5)

    def test_a_slice_meets_only_the_damage_that_it_touches(self):
        self.sealed()
        self.flip("s.safetensors", "layer.weight", 5)
        self.run_tool("load", "s.safetensors", "--slice", "0:0/4", expect=FAILURE)
        self.run_tool("load", "s.safetensors", "--slice", "0:3/4", expect=OK)

    def test_json_has_the_error(self):
        self.sealed()
        self.flip("s.safetensors", "layer.bias", 0)
        report = self.run_json("load", "s.safetensors", "--digests", expect=FAILURE)
        self.assertEqual((report["exit_code"], report["error"]["name"]), (FAILURE, "chunk_corrupt"))
        self.assertIn("'layer.bias'", report["error"]["message"])
        self.assertIsNone(report["report"])
        self.assertEqual(report["plan"]["groups"], 1)
        self.assertEqual(report["digests"], [])

    def test_files_that_cannot_be_opened(self):
        self.assert_error(self.run_tool("load", "missing", expect=FAILURE), "file_not_found", "missing")
        for name, (content, code, word) in inputs.IMPOSTORS.items():
            self.path(name).write_bytes(content)
            self.assert_error(self.run_tool("load", name, expect=FAILURE), code, word)

    def test_names_that_are_not_there(self):
        result = self.run_tool("load", self.sealed(), "--include", "zz*", expect=FAILURE)
        self.assert_error(result, "tensor_not_found", "s.safetensors")
        result = self.run_tool("load", "s.safetensors", "--select", "zz", expect=FAILURE)
        self.assert_error(result, "path_not_found", "zz")

    def test_words_that_mean_nothing(self):
        for option, word in (
            ("--slice", "1"), ("--slice", "0:1"), ("--slice", "0:2/2"), ("--slice", "0:0/0"),
            ("--slice", "-1:0/2"), ("--slice", "0:1/2x"), ("--staging", "0"), ("--staging", "64X"),
            ("--staging", "-1"), ("--staging", "9999999999G"), ("--slot", "many"), ("--device", "gpu"),
            ("--device", "cuda"), ("--device", "cuda:"), ("--device", "cuda:-1"), ("--device", "cuda:x"),
            ("--io", "mmap"), ("--threads", "0"), ("--threads", "65"), ("--map", "cuda:1"), ("--map", "=host"),
            ("--map", "cuda:1=gpu"),
        ):
            result = self.run_tool("load", "a.safetensors", f"{option}={word}", expect=USAGE)
            self.assert_error(result, "invalid_argument", option, "--help")
            self.assertEqual(result.stdout, "", (option, word))
        result = self.run_tool("load", "a", "--device", "host", "--device", "host", expect=USAGE)
        self.assert_error(result, "invalid_argument", "--device")

    def test_staging_memory_that_is_too_small(self):
        result = self.run_tool("load", self.sealed(), "--io", "direct", "--staging", "4K", expect=FAILURE)
        self.assert_error(result, "budget_too_small")

    def test_more_than_there_is_memory_is_refused_before_it_is_allocated(self):
        inputs.write_sparse_safetensors(self.path("huge.safetensors"), 1 << 43)
        result = self.run_tool("load", "huge.safetensors", expect=FAILURE)
        self.assert_error(result, "resource_exhausted", "host", "8.0 TiB")

    def test_a_device_without_a_driver(self):
        """Or without CUDA in this build: here nobody has a GPU."""
        if pathlib.Path("/dev/nvidiactl").exists():
            self.skipTest("there is a GPU")
        result = self.run_tool("load", self.sealed(), "--device", "cuda:0", expect=FAILURE)
        self.assert_error(result, "device_unavailable", "cuda:0")
        report = self.run_json("load", "s.safetensors", "--device", "cuda:0", expect=FAILURE)
        self.assertEqual(report["error"]["name"], "device_unavailable")

    def test_an_interrupt_stops_it(self):
        inputs.write_sparse_safetensors(self.path("big.safetensors"), 64 << 20)
        for number in (signal.SIGINT, signal.SIGTERM):
            held = self.start_held("load", "big.safetensors", "--digests", "--io", "pread")
            held.interrupt(number)
            out, err = held.finish()
            self.assertEqual(held.process.returncode, -number, (out, err))
            self.assertRegex(err, r"\Aflatbed: .*\[cancelled\]\n\Z")
            self.assertNotRegex(out, "[0-9a-f]{16}  big")


FAKE_DIR = os.environ.get("FLATBED_FAKE_DRIVER_DIR")


@unittest.skipUnless(FAKE_DIR, "FLATBED_FAKE_DRIVER_DIR is not set")
class FakeCudaTest(LoadTest):
    """The tool, end to end, over a libcuda.so.1 that is not NVIDIA's: it delays copies, guards their sources, keeps a
    ledger of what was misused or not given back, and fails calls on demand."""

    def run_fake(self, *arguments, fake="devices=2,schedule=lazy", expect=OK):
        """The finished process; its ledger has no misuse and no leak. `result.injected`: whether a fault was injected.
        Without `expect` any exit code is right."""
        ledger = self.path("ledger.txt")
        ledger.unlink(missing_ok=True)
        environment = {
            **os.environ,
            "LD_LIBRARY_PATH": FAKE_DIR,
            "FLATBED_FAKE_CUDA": fake,
            "FLATBED_FAKE_CUDA_LEDGER": str(ledger),
        }
        result = self.run_tool("load", *arguments, expect=expect, env=environment)
        self.assertTrue(ledger.exists(), "the fake wrote its ledger")
        lines = ledger.read_text().splitlines()
        faults = [line for line in lines if not line.startswith(("NOTE ", "FAILED "))]
        self.assertEqual(faults, [], (arguments, fake))
        result.injected = any(line.startswith("FAILED ") for line in lines)
        return result

    def fake_digests(self, *arguments, **options):
        text = self.run_fake(*arguments, "--digests", "--quiet", **options).stdout
        return {line[18:]: line[:16] for line in text.splitlines()}

    def test_what_arrives_is_what_the_host_gets(self):
        self.sealed()
        for schedule in ("lazy", "eager", "random"):
            for way in ([], ["--io", "direct"], ["--staging", "2M", "--slot", "512K"], ["--slice", "1:1/3"],
                        ["--slice", "0:3/8"], ["--no-verify"]):
                got = self.fake_digests("s.safetensors", "--device", "cuda:0", *way,
                                        fake=f"devices=2,schedule={schedule}")
                self.assertEqual(got, self.digests("s.safetensors", *way), (schedule, way))

    def test_a_pytorch_file_on_a_device(self):
        inputs.write_torch(self.path("l.pth"), inputs.lightning())
        self.assertEqual(self.fake_digests("l.pth", "--device", "cuda:1"), self.catted("l.pth"))

    def test_tensors_go_to_several_devices(self):
        result = self.run_fake(self.saved_on_gpus(), "--device", "host", "--map", "cuda:1=cuda:0", "--map",
                               "cuda:0=cuda:1", "--json", "--digests")
        report = json.loads(result.stdout)
        self.assertEqual({row["name"]: row["device"] for row in report["digests"]},
                         {"a": "cuda:1", "b.0": "cuda:0", "c": "host"})
        self.assertEqual({row["name"]: row["xxh3"] for row in report["digests"]}, self.digests("g.safetensors"))

    def test_a_device_that_is_not_there(self):
        result = self.run_fake(self.sealed(), "--device", "cuda:5", expect=FAILURE)
        self.assert_error(result, "device_unavailable", "cuda:5")

    def test_a_driver_that_cannot_be_used(self):
        self.sealed()
        for fake, message in (
            ("driver=11020", "cuda:0: the NVIDIA driver is too old: found one for CUDA 11.2, expected CUDA 11.4"),
            ("missing=cuEventRecord", "found one for CUDA 13.0 without cuEventRecord"),
            ("init=100", "cudaErrorNoDevice"), ("init=802", "cudaGetDeviceCount"), ("init=803", "cudaGetDeviceCount"),
            ("devices=0", "cudaErrorNoDevice"),
        ):
            result = self.run_fake("s.safetensors", "--device", "cuda:0", fake=fake, expect=FAILURE)
            self.assert_error(result, "device_unavailable", message)
        result = self.run_fake("s.safetensors", "--device", "cuda:0", fake="retain=2", expect=FAILURE)
        self.assert_error(result, "resource_exhausted", "cudaSetDevice")

    def test_failing_calls_are_typed_errors_and_leak_nothing(self):
        """How many calls a load makes differs from run to run, because what it makes on demand depends on how far the
        copies are: so each run says itself whether its n-th call took place. A load can do without some calls."""
        arguments = [self.sealed(), "--device", "cuda:0", "--staging", "2M", "--slot", "512K", "--digests"]
        right = self.digests("s.safetensors")
        for call in ("GetDeviceCount", "EventCreateWithFlags", "EventRecord", "EventQuery", "MemcpyAsync", "Malloc",
                     "StreamCreateWithFlags", "PointerGetAttributes"):
            failures = 0
            for nth in range(1, 50):
                result = self.run_fake(*arguments, fake=f"devices=1,schedule=lazy,fail={call}:{nth}:once", expect=None)
                if result.returncode == FAILURE:
                    self.assertTrue(result.injected, result.stderr)
                    self.assert_error(result, "device_error", "cuda:0", call)
                    failures += 1
                else:
                    self.assertEqual(result.returncode, OK, result.stderr)
                    for name, digest in right.items():
                        self.assertIn(f"{digest}  {name}\n", result.stdout)
                if not result.injected:
                    break
            self.assertFalse(result.injected, call)
            self.assertGreater(failures, 0, call)
