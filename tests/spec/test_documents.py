"""Tests of what spec/ says beside the rules: tables, registry, overview, schemas, and the coverage of the rules.

    python3 tests/spec/test_documents.py

Standard library only, but that the schemas are tried with the jsonschema module where it can be imported.
"""

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import unittest
from decimal import Decimal
from unittest import mock

SPEC = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "spec")
VECTORS = os.path.join(SPEC, "vectors")
sys.path.insert(0, SPEC)

import make_vectors  # noqa: E402
import reader  # noqa: E402
import vector_rules  # noqa: E402
import vector_writers  # noqa: E402
import writer  # noqa: E402

with contextlib.suppress(ImportError):
    import jsonschema


def text_of(*path):
    with open(os.path.join(SPEC, *path), encoding="utf-8") as stream:
        return stream.read()


def block_after(text, words):
    """The first fenced block of code after these words."""
    return re.search(r"```\w*\n(.*?)```", text[text.index(words) :], re.DOTALL)[1]


def manifest():
    return make_vectors.read_table(VECTORS, "manifest.tsv")


def read_json(path):
    with open(os.path.join(VECTORS, path), encoding="utf-8") as stream:
        return json.load(stream)


class Format(unittest.TestCase):
    def test_every_rule_that_is_named_is_defined(self):
        text = text_of("FORMAT.md")
        defined = set(make_vectors.rules_of_the_text())
        letters = "".join(sorted({rule[0] for rule in defined}))
        self.assertEqual(letters, "ACEHJLNQRSTV")
        # Not rules: names of element types, and hex.
        prose = re.sub(r"`[^`]*`|```.*?```", "", text, flags=re.DOTALL)
        named = set(re.findall(rf"\b([{letters}][1-9][0-9]?)\b", prose))
        self.assertLessEqual(named - defined - {"C64", "E2", "E4", "E5", "E8"}, set())

    def test_every_rule_has_an_anchor(self):
        text = text_of("FORMAT.md")
        self.assertEqual(re.findall(r"^- \*\*([A-Z]\d+)\b|^\| (R\d+) \|", text, re.MULTILINE), [])
        for anchor, rule in re.findall(r'<a id="(\w+)"></a>\**([A-Z]\d+)', text):
            self.assertEqual(anchor, rule)

    def test_the_table_of_digests(self):
        rows = re.findall(r"\| (\d+) \| `([0-9a-f]{16})` ", text_of("FORMAT.md"))
        self.assertEqual(len(rows), 15)
        for length, digest in rows:
            data = bytes(7 * i & 0xFF for i in range(int(length)))
            self.assertEqual(f"{reader.xxh3_pure(data):016x}", digest, length)

    def test_the_form_of_reals_is_that_of_python(self):
        for value in (abs(value) for value in vector_writers.FLOATS if value):
            decimal = Decimal(repr(value)).normalize().as_tuple()
            digits, p = "".join(map(str, decimal.digits)), len(decimal.digits) + decimal.exponent
            if -4 < p <= 16:
                plain = digits.rjust(len(digits) - p, "0") if p <= 0 else digits.ljust(p, "0")
                point = max(p, 0)
                written = (plain[:point] or "0") + "." + (plain[point:] or "0")
            else:
                more = "." + digits[1:] if digits[1:] else ""
                written = f"{digits[0]}{more}e{'-' if p < 1 else '+'}{abs(p - 1):02}"
            self.assertEqual(written, repr(value))

    def test_the_worked_model_is_a_vector(self):
        block = block_after(text_of("FORMAT.md"), "A model to try it on")
        with reader.File(os.path.join(VECTORS, "names", "worked-model.safetensors")) as file:
            self.assertEqual(json.loads(block), json.loads(file.strings["flatbed.tree"]))
            said = re.findall(r"`(model\.[\w.]+)`", text_of("FORMAT.md"))
            self.assertLessEqual(set(file.tensors), set(said))

    def test_the_statement_is_that_of_a_vector(self):
        text = text_of("FORMAT.md")
        shown = "".join(line.strip() for line in block_after(text, "so that it has one form only").splitlines())
        stated = reader.Series(os.path.join(VECTORS, "series", "three")).entries[1].text
        self.assertEqual(stated, writer.summed(shown))
        self.assertIn(f"its SUM is `{stated[2:18]}`", text)
        members = re.findall(r"^\| `(\w+)` \| ", text[text.index("**Q4") : text.index("**Q5")], re.MULTILINE)
        self.assertEqual(tuple(members), reader.Statement._fields)

    def test_the_grammar_of_type_is_the_readers(self):
        block = block_after(text_of("FORMAT.md"), "TYPE of `array` and `scalar`")
        kinds = dict(re.findall(r'"([fc])" \(([^)]*)\)', block))
        for kind, sizes in kinds.items():
            for size in re.findall(r"\d+", sizes):
                self.assertTrue(reader.TYPESTR.fullmatch(f"<{kind}{size}"), (kind, size))
        units = re.search(r"UNIT.*?\(([^)]*)\)", block)[1]
        for unit in re.findall(r"\w+", units):
            self.assertTrue(reader.TYPESTR.fullmatch(f"<M8[{unit}]"), unit)


class Reader(unittest.TestCase):
    def test_it_is_one_file_that_can_be_copied(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = shutil.copy(os.path.join(SPEC, "reader.py"), folder)
            good = os.path.join(VECTORS, "valid", "small.safetensors")
            done = subprocess.run([sys.executable, "-I", "-B", copy, "check", good], capture_output=True, text=True)
            self.assertEqual((done.returncode, done.stdout, done.stderr), (0, f"{good}: sealed\n", ""))
            load = "import sys; sys.path.insert(0, sys.argv[1]); import reader; print(len(reader.load(sys.argv[2])))"
            command = [sys.executable, "-I", "-B", "-c", load, folder, good]
            done = subprocess.run(command, capture_output=True, text=True)
            self.assertEqual((done.stdout, done.stderr), ("2\n", ""))


class Manifest(unittest.TestCase):
    def test_every_pattern_of_the_rules_finds_a_vector(self):
        paths = [row["path"] for row in manifest()]
        for pattern, names in vector_rules.ALSO:
            self.assertTrue(any(re.search(pattern, path) for path in paths), (pattern, names))

    def test_levels_and_kinds_are_those_of_the_readme(self):
        for row in manifest():
            self.assertEqual(row["level"], make_vectors.LEVELS[row["kind"]])
        readme = text_of("vectors", "README.md")
        for kind in make_vectors.LEVELS:
            self.assertIn(f"`{kind}`", readme)
        columns = re.findall(r"^\| \d+ \| `(\w+)` \|", readme, re.MULTILINE)
        self.assertEqual(tuple(columns), (*make_vectors.COLUMNS, *make_vectors.MADE_COLUMNS))

    def test_json_and_tsv_say_the_same(self):
        by_path = read_json("manifest.json")
        for row in manifest():
            self.assertEqual({"path": row["path"], **by_path[row["path"]]},
                             {key: text for key, text in row.items() if text != "-"})


class Registry(unittest.TestCase):
    def test_it_lists_the_errors_of_the_specification(self):
        listed = re.findall(r"^\| (\d+) \| `(\w+)` \| \[\w+\]\(\S+\) \| (.*) \|$", text_of("REGISTRY.md"), re.MULTILINE)
        with open(os.path.join(SPEC, "..", "include", "flatbed", "error.hpp"), encoding="utf-8") as stream:
            table = re.findall(r'X\((\d+), (\w+), "([^"]*)"\)', stream.read())
        self.assertLessEqual({row for row in table if 30 <= int(row[0]) <= 99}, set(listed))
        self.assertLessEqual(set(listed), set(table))
        codes = {code for row in manifest() for code in (*row["expect"].split("|"), *row["cause"].split("|"))}
        names = {name for _, name, _ in table}
        self.assertLessEqual(codes & names, {name for _, name, _ in listed})

    def test_it_lists_the_tags_and_the_attributes(self):
        text = text_of("REGISTRY.md")
        lists = {"Tags ([T2]": reader.TreeCheck.TAGS, "Attributes of tensors ([T5]": reader.TreeCheck.ATTRIBUTES}
        for words, names in lists.items():
            line = text[text.index(words) :].splitlines()[0]
            self.assertEqual(re.findall(r"`(\w+)`", line), list(names))


class Overview(unittest.TestCase):
    def program(self):
        return block_after(text_of("OVERVIEW.md"), "## Verify a file in 60 lines")

    def test_the_program_has_60_lines(self):
        code = [line for line in self.program().splitlines() if line.strip()]
        self.assertLessEqual(len(code), 60)

    def test_the_program_finds_the_state_of_every_vector(self):
        names = {"__name__": "verify_in_60_lines"}
        with mock.patch.dict(sys.modules, {"xxhash": None}):
            exec(compile(self.program(), "OVERVIEW.md", "exec"), names)  # noqa: S102
        seen = set()
        for row in manifest():
            if row["kind"] != "seal" or row["expect"] == "invalid":
                continue
            expected = row["expect"]
            if row["cause"].startswith("chunk_"):
                name, begin = re.fullmatch(r"(.*):(\d+)-\d+", row["where"]).groups()
                expected = f"damaged: {name}, from byte {begin}"
            elif row["cause"] != "-":
                expected += f": {row['cause']}"
            self.assertEqual(names["verify"](os.path.join(VECTORS, row["path"])), expected, row["path"])
            seen.add((row["rule"], expected.split(",")[0]))
        self.assertLessEqual({f"S6.{row}" for row in range(2, 9)}, {rule for rule, _ in seen})
        self.assertEqual(len({state for _, state in seen if state.startswith("broken")}), 4)


@unittest.skipUnless("jsonschema" in globals(), "needs the jsonschema module")
class Schemas(unittest.TestCase):
    def validator(self, name):
        schema = json.loads(text_of("schema", name + ".schema.json"))
        jsonschema.Draft202012Validator.check_schema(schema)
        return jsonschema.Draft202012Validator(schema)

    def texts(self, kind):
        """(row, the JSON of flatbed.KIND) of each vector whose text is JSON, and not deeper than Python likes."""
        for row in manifest():
            if row["kind"] != kind or row["expect"] == "absent":
                continue
            with reader.File(os.path.join(VECTORS, row["path"])) as file:
                text = file.strings.get("flatbed." + kind)
            if text is None or "[" * 60 in text or '["list",' * 60 in text:
                continue
            with contextlib.suppress(ValueError):
                yield row, json.loads(text)

    def test_of_the_tree(self):
        validator, refused, accepted = self.validator("tree"), set(), set()
        always = {"tree_unknown_tag", "tree_unexpected_object"}
        for row, tree in self.texts("tree"):
            valid = validator.is_valid(tree)
            if row["expect"] == "ok":
                self.assertTrue(valid, row["path"])
            elif row["expect"] in always:
                self.assertFalse(valid, row["path"])
            (accepted if valid else refused).add(row["expect"])
        mostly = {"tree_malformed_node", "tree_malformed_number", "tree_unknown_attribute"}
        self.assertLessEqual(always | mostly, refused)

    def test_of_aliases(self):
        validator = self.validator("aliases")
        for row, value in self.texts("aliases"):
            if row["expect"] == "ok":
                self.assertTrue(validator.is_valid(value), row["path"])
        self.assertFalse(validator.is_valid({"x": 1}))
        self.assertFalse(validator.is_valid(["x", "h"]))

    def test_of_sidecars(self):
        validator = self.validator("sidecar")
        for row in manifest():
            path = row["path"] + ".flatbed.json"
            if row["kind"] != "sidecar" or not os.path.isfile(os.path.join(VECTORS, path)) or "ignored" in path:
                continue
            with contextlib.suppress(ValueError, RecursionError):
                valid = validator.is_valid(read_json(path))
                if row["expect"] != "broken":
                    self.assertTrue(valid, path)
                elif row["cause"] in ("sidecar_malformed", "seal_malformed") and "twice" not in path:
                    self.assertFalse(valid, path)

    def test_of_statements(self):
        validator = self.validator("series")
        beyond_a_schema = re.compile(r"score-integer|sequence-real|epoch-real|metric-of-257-bytes")
        for name, expected in (("statements", True), ("statements-malformed", False)):
            folder = os.path.join(VECTORS, "series", name)
            for file in os.listdir(folder):
                if not beyond_a_schema.match(file):
                    _, text = reader.read_statement(os.path.join(folder, file))
                    valid = validator.is_valid(json.loads(text.split("/", 2)[2]))
                    self.assertEqual(valid, expected or file == "good.safetensors", file)

    def test_of_indexes(self):
        validator = self.validator("index")
        for row in manifest():
            path = row["path"]
            if row["kind"] != "shards" or not path.endswith(".json") or path.startswith("made/") or "depth" in path:
                continue
            with contextlib.suppress(ValueError):
                valid = validator.is_valid(read_json(path))
                if row["expect"] == "ok" and row["rule"] != "H5":
                    self.assertTrue(valid, path)
        for text in ('{"weight_map":{}}', '{"weight_map":[]}', '{"weight_map":{"a":1}}', '{"weight_map":{"a":"b.bin"}}',
                     '{"metadata":{}}', '{"weight_map":{"a":"b.safetensors"},"metadata":[]}', "[]"):
            self.assertFalse(validator.is_valid(json.loads(text)), text)


if __name__ == "__main__":
    unittest.main()
