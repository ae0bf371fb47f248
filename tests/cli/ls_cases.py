"""flatbed ls: text, tree, JSON and bytes."""

import argparse
import collections
import datetime
import decimal
import json
import pathlib

import inputs
import writer
from tool import FAILURE, OK, ROOT, ToolTest


class LsTest(ToolTest):
    def small(self, name="a.safetensors", metadata=None):
        path = self.path(name)
        tensors = {
            "fc.weight": ("F32", [2, 3], inputs.floats(1, 2, 3, 4, 5, 6)),
            "fc.bias": ("BF16", [2], b"\x80\x3f\0\xc0"),
        }
        inputs.write_safetensors(path, tensors, metadata)
        return path

    def test_lists_names_dtypes_shapes_sizes_and_totals(self):
        text = self.run_tool("ls", self.small()).stdout
        self.assertRegex(text, r"(?m)^  fc\.weight +F32 +\[2, 3\] +24 B$")
        self.assertRegex(text, r"(?m)^  fc\.bias +BF16 +\[2\] +4 B$")
        self.assertRegex(text, r"(?m)^seal: unsealed$")
        self.assertRegex(text, r"(?m)^2 tensors, 28 B of data in \d+ B on disk$")

    def test_says_sealed_with_the_content_digest(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [3], b"abc")])
        self.assertRegex(self.run_tool("ls", "s.safetensors").stdout, r"(?m)^seal: sealed, content [0-9a-f]{16}$")

    def test_lists_a_broken_seal_instead_of_refusing(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [3], b"abc")])
        raw = self.path("s.safetensors").read_bytes()
        self.path("s.safetensors").write_bytes(raw.replace(b'"w":', b'"v":'))
        text = self.run_tool("ls", "s.safetensors").stdout
        self.assertRegex(text, r"(?m)^seal: broken .*\(.+\)$")

    def test_lists_aliases(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [3], b"abc")], aliases={"head": "w"})
        self.assertIn("ALIASES\n  head -> w\n", self.run_tool("ls", "s.safetensors").stdout)
        self.assertEqual(self.run_json("ls", "s.safetensors")["aliases"], [{"name": "head", "target": "w"}])

    def test_json_is_one_object_with_exact_sizes(self):
        path = self.small(metadata={"format": "pt", "note": "é\n"})
        listed = self.run_json("ls", path)
        self.assertEqual(listed["tensor_count"], 2)
        self.assertEqual(listed["nbytes"], 28)
        self.assertEqual(listed["file_nbytes"], path.stat().st_size)
        self.assertEqual(listed["seal"], "unsealed")
        self.assertEqual(listed["metadata"], {"format": "pt", "note": "é\n"})
        weight = next(tensor for tensor in listed["tensors"] if tensor["name"] == "fc.weight")
        self.assertEqual((weight["dtype"], weight["shape"], weight["nbytes"]), ("F32", [2, 3], 24))
        raw = path.read_bytes()[weight["offset"] :]
        self.assertEqual(raw[:24], inputs.floats(1, 2, 3, 4, 5, 6))

    def test_json_keeps_flatbeds_own_metadata_to_itself(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [3], b"abc")], metadata={"by": "me"})
        self.assertEqual(self.run_json("ls", "s.safetensors")["metadata"], {"by": "me", "format": "pt"})

    def test_names_cannot_move_the_terminals_cursor(self):
        name = "a\x1b[2Jb\u202ec\nd\x7f"
        inputs.write_safetensors(self.path("n.safetensors"), {name: ("U8", [1], b"x")})
        text = self.run_tool("ls", "n.safetensors").stdout
        self.assertIn("a\\u001b[2Jb\\u202ec\\nd\\u007f", text)
        self.assertEqual(self.run_json("ls", "n.safetensors")["tensors"][0]["name"], name)

    def test_describes_a_lightning_checkpoint(self):
        inputs.write_torch(self.path("l.ckpt"), inputs.lightning())
        text = self.run_tool("ls", "l.ckpt").stdout
        self.assertIn("l.ckpt: PyTorch file, Lightning checkpoint, epoch 12\n", text)
        self.assertRegex(text, r"(?m)^  optimizer_states\.0\.state\.0\.exp_avg +F32 +\[2, 3\] +24 B$")

    def test_shows_a_file_whose_root_is_a_tuple(self):
        weights = {"fc.weight": inputs.Tensor([2], [1, 2])}
        inputs.write_torch(self.path("t.pth"), (weights, 7, "text"))
        text = self.run_tool("ls", "--tree", "t.pth").stdout
        self.assertIn("fc.weight", text)
        self.assertIn("7", text)
        self.assertEqual(self.run_json("ls", "t.pth")["tensor_count"], 1)

    def test_describes_other_checkpoints(self):
        weight = inputs.Tensor([1], [1])
        cases = {
            "state dict": {"w": weight},
            "timm checkpoint of resnet18, epoch 3": {"arch": "resnet18", "epoch": 3, "state_dict": {"w": weight}},
            "optimizer state": {"state": {0: {"m": weight}}, "param_groups": []},
            "training checkpoint, epoch 1": {"model": {"w": weight}, "optimizer": {"state": {}}, "epoch": 1},
            "Ultralytics checkpoint, epoch -1": {"train_args": {}, "ema": None, "epoch": -1, "x": weight},
            "single tensor": weight,
            "list of 2 items": [weight, weight],
            "nested structure": {"anything": {"w": weight}},
            "pickled argparse.Namespace": argparse.Namespace(w=weight),
        }
        for kind, value in cases.items():
            inputs.write_torch(self.path("c.pth"), value)
            self.assertEqual(self.run_json("ls", "c.pth")["kind"], kind)

    def test_describes_a_torchscript_archive(self):
        path = ROOT / "tests/fixtures/torch2/script_values.pt"
        text = self.run_tool("ls", path).stdout
        self.assertIn("script_values.pt: TorchScript archive, whole model __torch__.script_models.Values\n", text)
        self.assertIn("NOTES\n  left out the TorchScript code: 2 records in code/\n  left out 1 record in extra/: ",
                      text)
        self.run_tool("convert", path, self.path("v.safetensors"))
        self.assertIn("sealed", self.run_tool("verify", "v.safetensors").stdout)

    def test_select_lists_one_part(self):
        inputs.write_torch(self.path("l.ckpt"), inputs.lightning())
        listed = self.run_json("ls", "l.ckpt", "--select", "state_dict")
        self.assertEqual([tensor["name"] for tensor in listed["tensors"]], ["fc.weight", "fc.bias"])
        self.assert_error(self.run_tool("ls", "l.ckpt", "--select", "nowhere", expect=FAILURE), "path_not_found")

    def test_lists_the_files_of_a_set(self):
        for name, tensor in (("model-00001-of-00002.safetensors", "a"), ("model-00002-of-00002.safetensors", "b")):
            inputs.write_safetensors(self.path(name), {tensor: ("U8", [1], b"x")})
        weight_map = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
        index = {"metadata": {"total_size": 2}, "weight_map": weight_map}
        self.path("model.safetensors.index.json").write_text(json.dumps(index))
        for place in ("model.safetensors.index.json", "."):
            text = self.run_tool("ls", place).stdout
            self.assertIn("sharded set of 2 safetensors files", text)
            self.assertRegex(text, r"FILES\n  model-00001-of-00002\.safetensors .*\n  model-00002")
            self.assertIn("2 tensors, 2 B of data", text)

    def test_a_malformed_tree_is_a_note_and_an_error_of_tree(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [3], b"abc")])
        vector = ROOT / "spec/vectors/invalid"
        listed = [path for path in sorted(vector.glob("T*.safetensors"))]
        self.assertTrue(listed, "spec/vectors/invalid has malformed trees")
        text = self.run_tool("ls", listed[0]).stdout
        self.assertRegex(text, r"NOTES\n  .*\[tree_\w+\]\n")
        self.assertRegex(self.run_json("ls", listed[0])["tree_error"]["name"], r"\Atree_")
        result = self.run_tool("ls", "--tree", listed[0], expect=FAILURE)
        self.assertRegex(result.stderr, r"\[tree_\w+\]\n\Z")

    def test_errors_have_code_name_and_message_in_json(self):
        result = self.run_tool("ls", "missing.pth", "--json", expect=FAILURE)
        error = json.loads(result.stdout)["error"]
        self.assertEqual((error["code"], error["name"]), (2, "file_not_found"))
        self.assertIn("missing.pth", error["message"])
        self.assert_error(result, "file_not_found", "missing.pth")

    def test_impostors_are_named(self):
        for name, (content, code, word) in inputs.IMPOSTORS.items():
            self.path(name).write_bytes(content)
            self.assert_error(self.run_tool("ls", name, expect=FAILURE), code, name, word)

    def test_truncated_downloads_are_named(self):
        path = self.small()
        path.write_bytes(path.read_bytes()[:-1])
        self.assert_error(self.run_tool("ls", path, expect=FAILURE), "data_truncated")
        whole = inputs.torch_bytes(inputs.lightning())
        self.path("cut.pth").write_bytes(whole[: len(whole) // 2])
        self.assert_error(self.run_tool("ls", "cut.pth", expect=FAILURE), "zip_end_missing", "cut off")


class TreeTest(ToolTest):
    def tree(self, value, *arguments):
        inputs.write_torch(self.path("t.pth"), value)
        return self.run_tool("ls", "--tree", "t.pth", *arguments).stdout.split("\n\n", 1)[1].splitlines()

    def test_shows_one_line_per_entry(self):
        self.assertEqual(
            self.tree(inputs.lightning()),
            [
                "dict (6)",
                "  epoch: 12",
                "  global_step: 900",
                "  pytorch-lightning_version: '2.1.0'",
                "  state_dict: OrderedDict (2), state dict, 2 tensors: --select state_dict",
                "    fc.weight: F32[2, 3]",
                "    fc.bias: F32[3]",
                "  optimizer_states: list (1)",
                "    0: dict (2)",
                "      state: dict (1)",
                "        0: dict (2)",
                "          step: 5",
                "          exp_avg: F32[2, 3]",
                "      param_groups: [{lr: 0.001, params: [0]}]",
                "  hyper_parameters: {name: 'tiny', sizes: (2, 3)}",
            ],
        )

    def test_shows_sharing_and_cycles_as_references(self):
        shared, cycle = {"a": 1}, [1]
        cycle.append(cycle)
        self.assertEqual(
            self.tree({"x": shared, "y": shared, "c": cycle}),
            ["dict (3)", "  x: #1 {a: 1}", "  y: -> #1", "  c: #2 list (2)", "    0: 1", "    1: -> #2"],
        )

    def test_folds_long_containers_unless_asked_for_all(self):
        value = {f"k{i}": "x" * 60 for i in range(100)}
        lines = self.tree(value)
        self.assertEqual((lines[0], lines[-1]), ("dict (100)", "  … 84 more"))
        self.assertEqual(len(lines), 1 + 16 + 1)
        self.assertEqual(len(self.tree(value, "--all")), 101)

    def test_keeps_long_runs_of_numbers_on_one_line(self):
        lines = self.tree({"losses": list(range(5000))})
        self.assertEqual(len(lines), 2)
        self.assertRegex(lines[1], r"\A  losses: \[0, 1, 2, .*, … 5,000 in all\]\Z")
        self.assertLess(len(lines[1]), 120)

    def test_tells_keys_of_different_types_apart(self):
        lines = self.tree({1: "a", "1": "b", (0, "x"): "c", None: "d", "None": "e", "a b": "f"})
        self.assertEqual(
            lines,
            ["dict (6)", "  1: 'a'", "  '1': 'b'", "  (0, 'x'): 'c'", "  None: 'd'", "  'None': 'e'", "  'a b': 'f'"],
        )

    def test_shows_values_as_python_does(self):
        values = {
            "1.0": 1.0,
            "-0.0": -0.0,
            "inf": float("inf"),
            "0x10000000000000000": 2**64,
            "True": True,
            "None": None,
            r"b'\x00\xff'": b"\0\xff",
            r"'a\'\n\u001b'": "a'\n\x1b",
            "{}": {},
            "()": (),
            "(1,)": (1,),
            "complex(1.0, -2.0)": complex(1, -2),
            "{7}": {7},
        }
        lines = self.tree(collections.OrderedDict((f"k{i}", value) for i, value in enumerate(values.values())))
        self.assertEqual(lines[0], "OrderedDict (13)")
        self.assertEqual(lines[1:], [f"  k{i}: {text}" for i, text in enumerate(values)])

    def test_shows_objects_as_python_writes_them(self):
        utc = datetime.timezone(datetime.timedelta(seconds=3600))
        values = {
            "defaultdict(list, {a: [1]})": collections.defaultdict(list, {"a": [1]}),
            "Counter({a: 2, b: 1})": collections.Counter("aab"),
            "deque([1, 2])": collections.deque([1, 2]),
            "OrderedDict({a: 1})": collections.OrderedDict(a=1),
            "datetime(2024, 1, 2, 3, 4, 5, 678)": datetime.datetime(2024, 1, 2, 3, 4, 5, 678),
            "datetime(2024, 1, 2, 0, 0, timezone(timedelta(0, 3600, 0)))": datetime.datetime(2024, 1, 2, tzinfo=utc),
            "date(2026, 1, 2)": datetime.date(2026, 1, 2),
            "time(1, 2, 3)": datetime.time(1, 2, 3),
            "PurePosixPath('a/b')": pathlib.PurePosixPath("a/b"),
            "PurePosixPath('/a')": pathlib.PurePosixPath("/a"),
            "Namespace(lr=0.001, name='x')": argparse.Namespace(lr=1e-3, name="x"),
            "frozenset({1})": frozenset([1]),
            "set()": set(),
            "slice(1, None, None)": slice(1, None),
            "Decimal('1.50')": decimal.Decimal("1.50"),
        }
        lines = self.tree({f"k{i}": value for i, value in enumerate(values.values())})
        self.assertEqual(lines[1:], [f"  k{i}: {text}" for i, text in enumerate(values)])

    def test_objects_with_tensors_have_lines_of_their_own(self):
        lines = self.tree({"a": argparse.Namespace(w=inputs.Tensor([1], [1])), "d": collections.defaultdict(int)})
        self.assertEqual(
            lines, ["dict (2)", "  a: Namespace", "    state: dict (1)", "      w: F32[1]", "  d: defaultdict(int)"]
        )

    def test_a_config_of_omegaconf_is_its_values(self):
        layers = [1, 2, {"kernel": 3}]
        config = inputs.omega({"lr": 0.1, "name": "run", "layers": layers, "w": inputs.Tensor([1], [1])})
        lines = self.tree({"hyper_parameters": {"cfg": config}, "all": inputs.omega({"a": None})})
        self.assertEqual(
            lines,
            [
                "dict (2)",
                "  hyper_parameters: dict (1)",
                "    cfg: dict (4)",
                "      lr: 0.1",
                "      name: 'run'",
                "      layers: [1, 2, {kernel: 3}]",
                "      w: F32[1]",
                "  all: {a: None}",
                "(folded: --all shows every entry)",
            ],
        )
        lines = self.tree({"cfg": config}, "--all")
        self.assertIn("  cfg: #1 omegaconf.dictconfig.DictConfig", lines)
        self.assertIn("        lr: omegaconf.nodes.AnyNode", lines)
        self.assertIn("            _parent: -> #1", lines)
        listed = self.run_tool("ls", "t.pth").stdout
        self.assertRegex(listed, r"(?m)^  cfg\._content\.w\._val +F32 +\[1\] +4 B$")

    def test_lightnings_objects_are_their_entries(self):
        parameters = inputs.other("lightning_fabric.utilities.data", "AttributeDict")
        parameters.update(lr=0.1, mean=inputs.Tensor([1], [1]))
        checkpoint = inputs.OTHERS["pytorch_lightning.callbacks.model_checkpoint", "ModelCheckpoint"]
        callbacks = {checkpoint: {"best_model_score": inputs.Tensor([], [0.5]), "best_model_path": "a/b.ckpt"}}
        self.assertEqual(
            self.tree({"hyper_parameters": parameters, "callbacks": callbacks}),
            [
                "dict (2)",
                "  hyper_parameters: lightning_fabric.utilities.data.AttributeDict (2)",
                "    lr: 0.1",
                "    mean: F32[1]",
                "  callbacks: dict (1)",
                "    pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint: dict (2)",
                "      best_model_score: F32[]",
                "      best_model_path: 'a/b.ckpt'",
            ],
        )
        listed = self.run_tool("ls", "t.pth").stdout
        for name in ("hyper_parameters.mean", "callbacks.0.best_model_score"):
            self.assertRegex(listed, r"(?m)^  %s +F32" % name.replace(".", r"\."))

    def test_deep_nesting_ends(self):
        value = inner = []
        for _ in range(150):
            inner.append([0, {}])
            inner[0][1]["x"] = next_inner = []
            inner = next_inner
        lines = self.tree(value, "--all")
        self.assertLess(len(lines), 250)
        self.assertRegex(lines[-1], r"nested too deeply to show")
        lines = self.tree(value)
        self.assertLess(len(lines), 102)
        self.assertEqual(lines[-1], "(folded: --all shows every entry)")
        self.assertRegex(lines[-2], r"list \(\d\) …\Z")


class FoldedTreeTest(ToolTest):
    """How --tree shows models on one page."""

    def tree(self, value, *arguments):
        inputs.write_torch(self.path("t.pth"), value)
        return self.run_tool("ls", "--tree", "t.pth", *arguments).stdout.split("\n\n", 1)[1].splitlines()

    def test_a_module_is_its_class_parameters_buffers_and_children(self):
        self.assertEqual(
            self.tree({"epoch": 3, "ema": inputs.net()}),
            [
                "dict (2)",
                "  epoch: 3",
                "  ema: inputs.Module, whole model, 4 tensors: --select ema",
                "    0: inputs.Module",
                "      weight: #1 F32[2, 2]",
                "      mean: F32[1]",
                "    1: #2 inputs.Module",
                "      weight: F32[2]",
                "      tmp: F32[1]",
                "    head: -> #2",
                "    names: {0: 'cat'}",
                "    flat: list (1)",
                "      0: -> #1",
                "(folded: --all shows every entry)",
            ],
        )
        everything = self.tree({"epoch": 3, "ema": inputs.net()}, "--all")
        self.assertTrue(any("_state_dict_hooks" in line for line in everything))
        self.assertFalse(any("--select" in line for line in everything))

    def test_a_model_alone_says_what_convert_keeps(self):
        lines = self.tree(inputs.net())
        self.assertEqual(lines[0], "inputs.Module, whole model, 4 tensors: convert keeps its state dict")

    def test_a_compiled_model_is_the_model_inside(self):
        module = inputs.Module({"weight": inputs.Tensor([2], [1, 2])})
        compiled = inputs.other("torch._dynamo.eval_frame", "OptimizedModule", inside=module)
        self.assertEqual(
            self.tree({"model": compiled}),
            [
                "dict (1)",
                "  model: torch._dynamo.eval_frame.OptimizedModule, whole model, 1 tensor: --select model",
                "    _orig_mod: inputs.Module",
                "      weight: F32[2]",
                "(folded: --all shows every entry)",
            ],
        )
        (tensor,) = self.run_json("ls", "t.pth", "--select", "model")["tensors"]
        self.assertEqual(tensor["name"], "_orig_mod.weight")
        (tensor,) = self.run_json("ls", "t.pth", "--select", "model._orig_mod")["tensors"]
        self.assertEqual(tensor["name"], "weight")
        self.assertEqual(self.run_raw("cat", "t.pth", "model._orig_mod.weight").stdout, inputs.floats(1, 2))

    def layers(self, count):
        def linear():
            return inputs.Module({"weight": inputs.Tensor([2], [1, 2])})

        block = [inputs.Module(children={"q": linear(), "k": linear()}) for _ in range(count)]
        return inputs.Module(children={"layers": inputs.Module(children={str(i): b for i, b in enumerate(block)})})

    def test_layers_that_look_alike_are_one_entry_with_a_count(self):
        self.assertEqual(
            self.tree(self.layers(32))[1:],
            [
                "  layers: inputs.Module",
                "    0 … 31: 32 × inputs.Module",
                "      q: inputs.Module",
                "        weight: F32[2]",
                "      k: inputs.Module",
                "        weight: F32[2]",
                "(folded: --all shows every entry)",
            ],
        )

    def test_the_states_of_an_optimizer_are_one_entry(self):
        state = {i: {"step": i, "m": inputs.Tensor([2], [1, 2])} for i in range(40)}
        self.assertEqual(
            self.tree({"optimizer": {"state": state}})[2:],
            ["    state: dict (40)", "      0 … 39: 40 × dict (2)", "        step: 0", "        m: F32[2]",
             "(folded: --all shows every entry)"],
        )

    def test_names_that_differ_in_numbers_are_one_entry(self):
        weight, other = inputs.Tensor([2], [1, 2]), inputs.Tensor([3], [1, 2, 3])
        values = {f"layers.{i}.{name}": inputs.Tensor([2], [1, 2]) for i in range(30) for name in ("w", "b")}
        self.assertEqual(
            self.tree({"embed": weight, **values, "x.7.y": other, "z": 3}),
            ["dict (63)", "  embed: F32[2]", "  layers.{0…29}.w: 30 × F32[2]", "  layers.{0…29}.b: 30 × F32[2]",
             "  x.7.y: F32[3]", "  z: 3", "(folded: --all shows every entry)"],
        )
        values["layers.3.w"] = other
        self.assertIn("  layers.{0…29}.w: 30 × like F32[2]", self.tree(values))

    def endless(self):
        module = inputs.Module({"w": inputs.Tensor([1], [1])})
        module._modules["up"] = module
        return module

    def picks(self, value):
        inputs.write_torch(self.path("p.pth"), value)
        return [pick["select"] for pick in self.run_json("ls", "p.pth")["weights"]]

    def test_looking_for_weights_ends(self):
        # 5,000,000 entries of all state dicts are looked at; one without an end counts as a quarter of them.
        net = inputs.Module({"w": inputs.Tensor([1], [1])})
        self.assertEqual(self.picks({**{f"x{i}": self.endless() for i in range(3)}, "net": net}), ["net"])
        self.assertEqual(self.picks({**{f"x{i}": self.endless() for i in range(4)}, "net": net}), [])
        for _ in range(17):
            net = inputs.Module(children={"a": net, "b": net})
        value = {**{f"x{i}": self.endless() for i in range(3)}, **{f"y{i}": net for i in range(20)}}
        fit = -(-5_000_000 // 4 // (2**17 + 1))  # the last of them began within the bound
        self.assertEqual(self.picks(value), [f"y{i}" for i in range(fit)])
        text = self.run_tool("ls", "--tree", "p.pth").stdout
        self.assertIn("  y9: -> #", text)

    def test_a_page_holds_any_model(self):
        def odd(level, seed):
            children = {str(i): odd(level - 1, seed * 3 + i) for i in range(3 + seed % 4)} if level else {}
            return inputs.Module({f"w{seed % 5}": inputs.Tensor([1], [1])}, children=children)

        value = odd(5, 1)
        self.assertGreater(len(self.tree(value, "--all")), 1000)
        lines = self.tree(value)
        self.assertLess(len(lines), 102)
        self.assertGreater(len(lines), 5)
        self.assertTrue(any(line.endswith(" …") for line in lines))


class HexTest(ToolTest):
    def test_annotates_every_run_of_a_small_file(self):
        tensors = {"b": ("F32", [2], inputs.floats(1, -2)), "c": ("U8", [3], b"\x07\x08\x09")}
        inputs.write_safetensors(self.path("a.safetensors"), tensors, {"format": "pt"})
        lines = self.run_tool("ls", "--hex", "a.safetensors").stdout.splitlines()
        nbytes = int.from_bytes(self.path("a.safetensors").read_bytes()[:8], "little")
        length = f"{nbytes:02x} 00 00 00 00 00 00 00"
        self.assertEqual(lines[0], f"+0x0000 | {length} | u64 LE | {nbytes} | N, bytes of header")
        self.assertRegex(lines[1], r"\A\+0x0008 \| 7b 22 5f 5f 6d 65 74 61 \| JSON   \| \{\"__metadata__\"")
        self.assertEqual(lines[-2], f"+0x{8 + nbytes:04x} | 00 00 80 3f 00 00 00 c0 | F32[2] | 1.0, -2.0   tensor 'b'")
        self.assertEqual(lines[-1], f"+0x{16 + nbytes:04x} | {'07 08 09':<23} | U8[3]  | 7, 8, 9   tensor 'c'")

    def test_shows_the_padding_of_a_sealed_file(self):
        writer.write(self.path("s.safetensors"), [("w", "U8", [3], b"abc")])
        text = self.run_tool("ls", "--hex", "s.safetensors").stdout
        self.assertRegex(text, r"(?m)^\+0x[0-9a-f]{4} \| 20 x \d+ +\| pad    \| spaces; 8 \+ N = 4096$")
        self.assertRegex(text, r"(?m)^\+0x1000 \| 61 62 63 +\| U8\[3\]  \| 97, 98, 99   tensor 'w'$")

    def test_refuses_a_pytorch_file(self):
        inputs.write_torch(self.path("a.pth"), {"w": inputs.Tensor([1], [1])})
        self.assert_error(self.run_tool("ls", "--hex", "a.pth", expect=FAILURE), "unsupported_format", "a.pth")

    def test_prints_the_worked_example_of_the_specification(self):
        printed = self.run_tool("ls", "--hex", ROOT / "spec/vectors/valid/worked-example.safetensors").stdout
        specification = (ROOT / "spec/FORMAT.md").read_text()
        self.assertTrue(f"```\n{printed}```\n" in specification, printed)
