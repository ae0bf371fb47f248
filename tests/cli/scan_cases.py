"""flatbed scan: verdicts, exit codes, places; and that it sees every import that CPython makes."""

import collections
import gzip
import io
import json
import lzma
import os
import pathlib
import pickle
import random
import signal
import struct
import subprocess
import sys
import zipfile

import inputs
import random_models
from tool import (FAILURE, INTERRUPTED, OK, SCAN_DANGEROUS, SCAN_UNKNOWN, TIME_LIMIT, USAGE, ToolTest, binary,
                  wait_until_caught)

PAYLOAD = b"\x80\x02cos\nsystem\nX\x02\x00\x00\x00id\x85R."
OTHER = b"\x80\x02cpackage\nThing\n)R."
PLAIN = b"\x80\x02}."


class Inert:
    """Replaces every name of a random pickle: it accepts anything and does nothing."""

    def __new__(cls, *arguments, **keywords):
        return object.__new__(cls)

    def __init__(self, *arguments, **keywords):
        pass

    def __call__(self, *arguments, **keywords):
        return Inert()

    def __setstate__(self, state):
        pass

    def __setitem__(self, key, value):
        pass

    def append(self, item):
        pass

    extend = add = update = append


def recorder(base):
    """An unpickler that imports nothing and records the requested names."""

    class Recorder(base):
        def find_class(self, module, name):
            self.found.add(f"{module}.{name}")
            return type("Fresh", (Inert,), {})

        def persistent_load(self, pid):
            return Inert()

    return Recorder


UNPICKLERS = [recorder(pickle.Unpickler), recorder(pickle._Unpickler)]


def imports_of(data, unpickler):
    """The names that an unpickler imports before it ends or fails."""
    reader = unpickler(io.BytesIO(data))
    reader.found = set()
    try:
        reader.load()
    except Exception:  # whatever a random pickle leads to
        pass
    return reader.found


def random_op(rng):
    word = rng.choice("abcd").encode()
    index = bytes([rng.randrange(4)])
    text = rng.choice([b"X\x01\0\0\0" + word, b"\x8c\x01" + word, b"U\x01" + word, b"V" + word + b"\n",
                       b"S'" + word + b"'\n", b"T\x01\0\0\0" + word, b"C\x01" + word])
    name = rng.choice([b"c" + word + b"\n" + word + word + b"\n", text + text + b"\x93", text + b"\x93"])
    frame = b"\x95" + struct.pack("<Q", rng.randrange(24))
    simple = [b"(", b"0", b"1", b"2", b"]", b"}", b")", b"t", b"\x85", b"\x86", b"\x87", b"N", b"R", b"\x81",
              b"\x92", b"b", b"a", b"e", b"s", b"u", b"l", b"d", b"o", b"\x8f", b"\x90", b"\x91", b"\x94", b"Q",
              b"\x88"]
    return rng.choices(
        [text, name, b"i" + word + b"\n" + word + word + b"\n", rng.choice(simple), b"q" + index, b"h" + index,
         b"r" + index + b"\0\0\0", b"j" + index + b"\0\0\0", b"p%d\n" % index[0], b"g%d\n" % index[0],
         b"\x80" + bytes([rng.randrange(6)]), frame],
        [6, 5, 1, 16, 4, 4, 1, 1, 1, 1, 1, 1])[0]


def random_pickle(rng):
    """Opcodes in an order that often makes sense: operations follow their operands."""
    data = b"\x80" + bytes([rng.randrange(6)])
    for _ in range(rng.randrange(4, 24)):
        kind = rng.randrange(3)
        if kind == 0:
            data += random_op(rng)
        elif kind == 1:
            data += rng.choice([b"ca\nb\n", b"ca\nb\n)\x81", b"X\x01\0\0\0aX\x01\0\0\0c\x93"])
            data += rng.choice([b")R", b"N\x85R", b"}b", b"q\0", b"\x94", b")\x81", b"0", b")}\x92"])
        else:
            data += rng.choice([b"X\x01\0\0\0dq\1", b"h\1h\1\x93", b"(ca\nd\no", b"(ia\nd\n", b"(N1", b"2", b"0"])
    return data + rng.choice([b".", b"", b"\xff"])


def random_line(rng):
    """A number as Python's int() may read it, or nearly."""
    form = rng.choice([b"%d", b" %d", b"%d\t", b"0%d", b"+%d", b"-%d", b"1_%d", b"%d" + b" " * 70, b"%d" * 30, b"x%d"])
    return form.replace(b"%d", b"%d" % rng.randrange(3)) + b"\n"


def random_text_pickle(rng):
    """Opcodes without the mark of protocols 2 to 5: the scan takes them for a text unless they do something."""
    data = b""
    for _ in range(rng.randrange(3, 16)):
        data += rng.choice([
            random_op(rng), rng.choice(b"pgILF").to_bytes(1, "big") + random_line(rng), b"ca\nb\n",
            b"ca\nb\n" + rng.choice([b"(tR", b")R", b"N", b"p1\n", b"g1\n", b"."]),
            rng.choice([b"N", b")", b"(", b"h\1", b"q\1", b"S'x'\n", b"0", b"}", b"]"])])
    return data + rng.choice([b".", b"", b"\n", b"\xff"])


def calls_of(data, base):
    """How often an unpickler calls something of the pickle before it ends or fails."""
    calls = []

    class Called(Inert):
        def __new__(cls, *arguments, **keywords):
            calls.append(cls)
            return object.__new__(cls)

    class Caller(base):
        def find_class(self, module, name):
            return type("Fresh", (Called,), {})

    reader = Caller(io.BytesIO(data))
    try:
        while True:
            reader.load()
    except Exception:  # whatever a random pickle leads to
        return len(calls)


class ScanTest(ToolTest):
    def write(self, name, data):
        self.path(name).write_bytes(data)
        return name

    def torch_zip(self, name, pickled):
        with zipfile.ZipFile(self.path(name), "w", zipfile.ZIP_STORED) as records:
            records.writestr("archive/data.pkl", pickled)
            records.writestr("archive/version", "3\n")
        return name

    def test_a_plain_file_exits_with_0(self):
        inputs.write_torch(self.path("a.pth"), {"w": inputs.Tensor([2], [1, 2])})
        text = self.run_tool("scan", "a.pth").stdout
        self.assertIn("a.pth: plain: a zip of torch.save, 1 pickle\n", text)
        self.assertIn("torch._utils._rebuild_tensor_v2 (1)", text)
        self.assertEqual(self.run_tool("scan", "--quiet", "a.pth").stdout, "")

    def test_an_unknown_class_exits_with_6(self):
        text = self.run_tool("scan", self.torch_zip("a.pth", OTHER), expect=SCAN_UNKNOWN).stdout
        self.assertIn("a.pth: unknown: ", text)
        self.assertIn("calls 'package.Thing': code of a package\n", text)

    def test_a_payload_exits_with_7_and_has_a_place(self):
        text = self.run_tool("scan", self.torch_zip("a.pth", PAYLOAD), expect=SCAN_DANGEROUS).stdout
        self.assertIn("a.pth: dangerous: ", text)
        self.assertIn("calls 'os.system': ", text)
        self.assertIn("first given 'id'\n            'archive/data.pkl' byte 21, opcode 4\n", text)

    def test_what_cannot_be_read_exits_with_1(self):
        self.assert_error(self.run_tool("scan", "missing", expect=FAILURE), "file_not_found", "missing")
        self.run_tool("scan", expect=USAGE)

    def test_files_that_are_something_else_are_unknown(self):
        for name, (content, _, _) in inputs.IMPOSTORS.items():
            self.assertIn(": unknown: ", self.run_tool("scan", self.write(name, content), expect=SCAN_UNKNOWN).stdout)

    def test_of_several_files_the_worst_counts(self):
        plain, other, bad = self.write("p", PLAIN), self.write("o", OTHER), self.write("b", PAYLOAD)
        self.run_tool("scan", plain, plain, expect=OK)
        self.run_tool("scan", plain, other, expect=SCAN_UNKNOWN)
        self.run_tool("scan", "missing", other, expect=FAILURE)
        result = self.run_tool("scan", plain, bad, "missing", other, expect=SCAN_DANGEROUS)
        self.assertTrue(result.stdout.endswith("1 plain, 1 unknown, 1 dangerous, 1 not read\n"), result.stdout)

    def test_json_has_every_finding(self):
        report = self.run_json("scan", self.torch_zip("a.pth", PAYLOAD), self.write("p", PLAIN), "missing",
                               expect=SCAN_DANGEROUS)
        self.assertEqual([file["verdict"] for file in report["files"]], ["dangerous", "plain", None])
        self.assertEqual([file["exit_code"] for file in report["files"]], [7, 0, 1])
        self.assertEqual(report["exit_code"], 7)
        found = report["files"][0]["findings"][0]
        self.assertEqual({key: found[key] for key in ("severity", "kind", "module", "qualname", "record")},
                         {"severity": "dangerous", "kind": "called", "module": "os", "qualname": "system",
                          "record": "archive/data.pkl"})
        self.assertEqual((found["offset"], found["opcode"], found["count"]), (21, 4, 1))
        self.assertEqual(report["files"][2]["error"]["name"], "file_not_found")

    def test_a_directory_is_scanned_file_by_file(self):
        self.path("d").mkdir()
        self.write("d/a.bin", PLAIN)
        self.write("d/training_args.bin", OTHER)
        self.write("d/config.json", b"{}")
        report = self.run_json("scan", "d", expect=SCAN_UNKNOWN)
        self.assertEqual([os.path.basename(file["path"]) for file in report["files"][0]["files"]],
                         ["a.bin", "config.json", "training_args.bin"])
        self.assertEqual(report["files"][0]["not_scanned"], 0)

    def test_a_folder_is_one_table_that_names_what_was_not_scanned(self):
        self.path("d/sub").mkdir(parents=True)
        self.torch_zip("d/model.bin", PLAIN)
        self.torch_zip("d/sub/other.bin", PAYLOAD)
        self.write("d/README.md", b"# A model\n")
        self.write("d/modeling_x.py", b"import os\n")
        text = self.run_tool("scan", "d", expect=SCAN_UNKNOWN).stdout
        self.assertEqual(text.splitlines()[:5], [
            "d: unknown: 3 files, 1 pickle, 1 not scanned",
            "  plain     README.md      a text",
            "  plain     model.bin      a zip of torch.save, 1 pickle",
            "  unknown   modeling_x.py  Python code",
            "  unknown   sub            not scanned: a folder",
        ])
        report = self.run_json("scan", "d", expect=SCAN_UNKNOWN)["files"][0]
        self.assertEqual(report["not_scanned"], 1)
        self.assertEqual([file["scanned"] for file in report["files"]], [True, True, True, False])
        text = self.run_tool("scan", "-r", "d", expect=SCAN_DANGEROUS).stdout
        self.assertIn("d: dangerous: 4 files, 2 pickles\n", text)
        self.assertIn("  dangerous sub/other.bin  a zip of torch.save, 1 pickle\n", text)
        self.assertIn("sub/other.bin: 'archive/data.pkl' byte", text)
        quiet = self.run_tool("scan", "-r", "--quiet", "d", expect=SCAN_DANGEROUS).stdout
        self.assertNotIn("README.md", quiet)

    def test_an_index_of_any_name_leads_to_its_files(self):
        self.torch_zip("shard.bin", PAYLOAD)
        self.write("pytorch_model.bin.index.fp16.json", b'{"weight_map":{"w":"shard.bin"}}')
        self.run_tool("scan", "pytorch_model.bin.index.fp16.json", expect=SCAN_DANGEROUS)

    def test_compressed_files_are_followed(self):
        self.write("plain.pkl.gz", gzip.compress(PLAIN))
        self.write("bad.pkl.gz", gzip.compress(PAYLOAD))
        self.write("bad.pkl.xz", lzma.compress(PAYLOAD))
        self.assertIn("plain: a gzip file that holds a pickle", self.run_tool("scan", "plain.pkl.gz").stdout)
        self.run_tool("scan", "bad.pkl.gz", expect=SCAN_DANGEROUS)
        xz = self.run_raw("scan", "bad.pkl.xz", "bad.pkl.gz", expect=SCAN_DANGEROUS).stdout.decode()
        self.assertRegex(xz, "bad.pkl.xz: (dangerous|unknown)")  # unknown where liblzma is missing

    def test_random_models_are_plain(self):
        """FLATBED_SCAN_MODELS=10000 tries as many, of 1,000 tensors each."""
        count = int(os.environ.get("FLATBED_SCAN_MODELS", "0"))
        tensors = 1000 if count else 100
        rng = random.Random(int(os.environ.get("FLATBED_SCAN_SEED", "1")))
        verdicts = collections.Counter()
        for _ in range(max(1, (count or 30) // 30)):
            names = []
            for layout in random_models.LAYOUTS:
                for _ in range(30 // len(random_models.LAYOUTS)):
                    names.append(f"{layout}-{len(names)}.pth")
                    self.path(names[-1]).write_bytes(random_models.build(rng, layout, tensors))
            out = json.loads(self.start("scan", "--json", *names).communicate(timeout=TIME_LIMIT)[0])
            for file in out["files"]:
                layout = file["path"].split("-")[0]
                verdicts[layout, file["verdict"]] += 1
                kinds = {found["kind"] for found in file["findings"] if found["severity"] != "plain"}
                self.assertLessEqual(kinds, random_models.INHERENT[layout], file)
        self.assertEqual({key for key in verdicts},
                         {(layout, random_models.VERDICTS[layout]) for layout in random_models.LAYOUTS})
        if count:
            print(sorted(verdicts.items()))

    def test_memory_is_bounded(self):
        """Files that need much: at most 256 MiB and 128 bytes for each byte of the file, 16 if it is JSON."""
        def deflated(name, data):
            with zipfile.ZipFile(self.path(name), "w", zipfile.ZIP_DEFLATED, compresslevel=9) as records:
                records.writestr("archive/data.pkl", data)
        size = 58 << 20
        deflated("marks.pth", b"\x80\x02" + b"(" * size)
        deflated("values.pth", b"\x80\x02" + b"N" * size)
        deflated("memo.pth", b"\x80\x04" + b"N" + b"\x94" * size)
        names = b"".join(b"c%07d" % i + b"m" * 4000 + b"\nx\n0" for i in range(12_000))
        deflated("names.pth", b"\x80\x02" + names)
        self.write("zeros.gz", gzip.compress(bytes(size)))
        self.write("values.pkl.gz", gzip.compress(b"\x80\x02" + b"N" * size))
        legacy = b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\x02M\xe9\x03.\x80\x02}."
        self.write("legacy.gz", gzip.compress(legacy + b"\x80\x02](" + b"K\1" * (size // 2) + b"e.\x80\x02]."))
        nested = b"\x80\x02" + b"N" * (12 << 20)
        for _ in range(4):
            nested = (b"\x80\x02ctorch.storage\n_load_from_bytes\nB" + struct.pack("<I", len(nested)) + nested +
                      b"\x85R.")
        deflated("nested.pth", nested)
        numbers = b'{"weight_map":0,"a":[' + b"1," * (16 << 20) + b"1]}"
        self.write("numbers.json.gz", gzip.compress(numbers))
        self.write("numbers.json", numbers)
        instrumented = b"__asan_init" in pathlib.Path(binary()).read_bytes()
        for name in self.names():
            # A process that was started by a large one counts that one's memory as its own.
            measure = ("import os, sys; pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ); "
                       "_, status, usage = os.wait4(pid, 0); "
                       "print(os.waitstatus_to_exitcode(status), usage.ru_maxrss)")
            out = subprocess.run([sys.executable, "-c", measure, binary(), "scan", "--quiet", name],
                                 cwd=self.folder, stdout=subprocess.PIPE, check=True, timeout=TIME_LIMIT).stdout
            code, peak = map(int, out.split()[-2:])
            self.assertEqual(code, SCAN_UNKNOWN, name)
            if not instrumented:
                factor = 16 if name.endswith(".json") else 128
                self.assertLess(peak * 1024, (256 << 20) + factor * self.path(name).stat().st_size, name)

    def test_a_name_cannot_forge_a_line_or_move_the_cursor(self):
        name = b"x\\u000aa.pth: plain\\u001b[2J"
        data = b"\x80\x04V" + name + b"\nV" + name + b"\n\x93."
        text = self.run_tool("scan", self.write("a", data), expect=SCAN_UNKNOWN).stdout
        self.assertNotIn("\x1b", text)
        self.assertNotIn("\na.pth: plain", text)
        self.torch_zip("b", PLAIN)
        self.path("b").write_bytes(self.path("b").read_bytes().replace(b"archive/version", b"archive\nb:plain"))
        self.assertNotIn("\nb:plain", self.run_tool("scan", "b", expect=SCAN_UNKNOWN).stdout)

    def test_an_interrupt_ends_it_soon(self):
        self.write("long.pkl", b"\x80\x02" + b"N0" * (8 << 20) + b"N.")
        process = self.start("scan", "--json", *["long.pkl"] * 200)
        wait_until_caught(process.pid, signal.SIGINT)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=TIME_LIMIT)
        self.assertEqual(process.returncode, -signal.SIGINT)
        report = json.loads(out)
        self.assertEqual(report["exit_code"], INTERRUPTED)
        self.assertLess(len(report["files"]), 200)

    def test_unwritable_output_is_an_error_and_a_closed_pipe_is_none(self):
        plain = self.write("p", PLAIN)
        with open("/dev/full", "w") as full:
            self.assert_error(self.run_tool("scan", plain, expect=FAILURE, stdout=full), "no_space", "standard output")
        read_end, write_end = os.pipe()
        os.close(read_end)
        process = self.start("scan", plain, stdout=write_end)
        os.close(write_end)
        _, err = process.communicate(timeout=TIME_LIMIT)
        self.assertEqual((process.returncode, err), (OK, b""))

    def test_what_cpython_calls_in_a_text_is_never_plain(self):
        rng = random.Random(int(os.environ.get("FLATBED_SCAN_SEED", "1")))
        count = int(os.environ.get("FLATBED_SCAN_PICKLES", "600"))
        texts = {f"{i}.txt": random_text_pickle(rng) for i in range(count)}
        for name, data in texts.items():
            self.write(name, data)
        self.write("bad.pkl", PAYLOAD)  # so that the exit code is known
        report = json.loads(self.run_raw("scan", "--json", *texts, "bad.pkl", expect=SCAN_DANGEROUS).stdout)
        called = 0
        for file in report["files"][:-1]:
            data = texts[file["path"]]
            calls = max(calls_of(data, pickle.Unpickler), calls_of(data, pickle._Unpickler))
            called += calls
            if calls:
                self.assertNotEqual(file["verdict"], "plain", data)
        self.assertGreater(called, count // 10, "the texts call something")

    def test_it_sees_every_import_that_cpython_makes(self):
        seed = int(os.environ.get("FLATBED_SCAN_SEED", "1"))
        count = int(os.environ.get("FLATBED_SCAN_PICKLES", "600"))
        rng = random.Random(seed)
        pickles = {f"{i}.pkl": random_pickle(rng) for i in range(count)}
        for name, data in pickles.items():
            self.write(name, data)
        self.write("bad.pkl", PAYLOAD)  # so that the exit code is known
        report = json.loads(self.run_raw("scan", "--json", *pickles, "bad.pkl", expect=SCAN_DANGEROUS).stdout)
        report["files"].pop()
        imported = 0
        for file in report["files"]:
            seen = {f"{found['module']}.{found['qualname']}" for found in file["findings"]}
            if any("frame that ends inside" in found["text"] for found in file["findings"]):
                self.assertEqual(file["verdict"], "dangerous")  # CPython's own unpicklers disagree
                continue
            for unpickler in UNPICKLERS:
                found = imports_of(pickles[file["path"]], unpickler)
                imported += len(found)
                self.assertLessEqual(found, seen, f"{unpickler} {pickles[file['path']]!r}")
        self.assertGreater(imported, count // 2, "the pickles import something")
