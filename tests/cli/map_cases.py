"""flatbed map: areas that are the bytes, colours, what is too small, and names that are no markup."""

import html.parser
import json
import os
import re
import resource
import struct
import xml.etree.ElementTree as ElementTree

import inputs
import writer
from tool import FAILURE, USAGE, ToolTest

SVG = "{http://www.w3.org/2000/svg}"
WIDTH, HEIGHT = 1200, 750
AREA = WIDTH * HEIGHT
SMALLEST = 4  # square pixels


class Tile:
    def __init__(self, element):
        self.x, self.y, self.width, self.height = (float(element.get(key)) for key in ("x", "y", "width", "height"))
        self.group = element.get("class").split()[1]
        self.text = element.find(SVG + "title").text
        self.name = self.text.split("\n")[0]
        self.nbytes = int(re.search(r"\(([\d,]+) B\)", self.text)[1].replace(",", ""))

    @property
    def area(self):
        return self.width * self.height

    def overlaps(self, other):
        # Coordinates have seven digits.
        return (min(self.x + self.width, other.x + other.width) - max(self.x, other.x) > 1e-3
                and min(self.y + self.height, other.y + other.height) - max(self.y, other.y) > 1e-3)


class MapTest(ToolTest):
    def write(self, name, sizes, dtype="U8"):
        """A file whose tensors have these sizes and take no room on the disk."""
        header, end = {}, 0
        for tensor, nbytes in sizes.items():
            entry = {"dtype": dtype, "shape": [nbytes], "data_offsets": [end, end + nbytes]}
            header[tensor] = entry
            end += nbytes
        text = json.dumps(header).encode()
        with open(self.path(name), "wb") as stream:
            stream.write(struct.pack("<Q", len(text)) + text)
            stream.truncate(8 + len(text) + end)
        return name

    def draw(self, *arguments, out="map.svg"):
        self.run_tool("map", *arguments, "--force", "-o", out)
        return ElementTree.parse(self.path(out)).getroot()

    def tiles(self, root):
        return [Tile(rect) for rect in root.iter(SVG + "rect") if rect.find(SVG + "title") is not None]

    def drawn(self, *arguments):
        return self.tiles(self.draw(*arguments))

    def texts(self, root):
        return [text.text for text in root.iter(SVG + "text")]

    def check_areas(self, tiles):
        """That areas are in the proportion of the bytes, and fill the picture."""
        total = sum(tile.nbytes for tile in tiles)
        for tile in tiles:
            self.assertAlmostEqual(tile.area, AREA * tile.nbytes / total, delta=0.02 + tile.area * 1e-5, msg=tile.name)
            self.assertGreaterEqual(min(tile.x, tile.y), 0)
            self.assertLessEqual(tile.x + tile.width, WIDTH + 1e-3)
            self.assertLessEqual(tile.y + tile.height, HEIGHT + 1e-3)


class AreaTest(MapTest):
    def test_areas_are_in_the_proportion_of_the_bytes(self):
        sizes = {"embed.weight": 600, "layers.0.w": 100, "layers.0.b": 4, "layers.1.w": 100, "layers.1.b": 4,
                 "head": 192}
        tiles = self.drawn(self.write("m.safetensors", sizes))
        self.assertEqual({tile.name: tile.nbytes for tile in tiles}, sizes)
        self.check_areas(tiles)

    def test_two_tensors_of_one_size_halve_the_picture(self):
        one, two = self.drawn(self.write("m.safetensors", {"a": 10, "b": 10}))
        self.assertEqual((one.x, one.y, one.width, one.height), (0, 0, 600, 750))
        self.assertEqual((two.x, two.y, two.width, two.height), (600, 0, 600, 750))

    def test_tiles_do_not_overlap_and_are_no_slivers(self):
        sizes = {f"layers.{i // 10}.{i % 10}.w": 1000 + 37 * i % 500 for i in range(120)}
        tiles = self.drawn(self.write("m.safetensors", sizes))
        for i, tile in enumerate(tiles):
            self.assertFalse(any(tile.overlaps(other) for other in tiles[:i]), tile.name)
            self.assertLess(max(tile.width, tile.height) / min(tile.width, tile.height), 4, tile.name)
        self.check_areas(tiles)

    def test_tensors_of_a_module_lie_together(self):
        tiles = self.drawn(self.write("m.safetensors", {"a.x": 50, "b.x": 60, "a.y": 50, "b.y": 40}))
        area = {tile.name: tile for tile in tiles}
        right = {module: max(area[f"{module}.{t}"].x + area[f"{module}.{t}"].width for t in "xy") for module in "ab"}
        left = {module: min(area[f"{module}.{t}"].x for t in "xy") for module in "ab"}
        self.assertTrue(right["a"] <= left["b"] or right["b"] <= left["a"])

    def test_a_tensor_and_a_module_may_have_one_name(self):
        tiles = self.drawn(self.write("m.safetensors", {"a": 5, "a.b": 5, "": 5, ".": 5, "a..": 5}))
        self.assertEqual(sorted(tile.name for tile in tiles), ["", ".", "a", "a..", "a.b"])
        self.check_areas(tiles)

    def test_small_tensors_share_a_tile_of_their_module(self):
        sizes = {"big": 10**9, "m.w": 10**8, **{f"m.b{i}": 10 for i in range(12)}}
        tiles = self.drawn(self.write("m.safetensors", sizes))
        self.assertEqual([(tile.name, tile.nbytes) for tile in tiles if "more" in tile.name], [("12 more in m", 120)])
        self.check_areas(tiles)

    def test_labels_lie_within_their_tiles(self):
        sizes = {f"layers.{i // 9}.self_attn.{'qkvogudab'[i % 9]}_proj.weight": 9000 // (i % 9 + 1) for i in range(180)}
        root = self.draw(self.write("m.safetensors", sizes))
        tiles = self.tiles(root)
        drawing = root.find(SVG + "g")
        labels = [text for text in drawing.findall(SVG + "text") if text.get("class") == "l"]
        self.assertGreater(len(labels), 20)
        for label in labels:
            x, y = float(label.get("x")), float(label.get("y"))
            end = x + 6.6 * len(label.text)
            around = [tile for tile in tiles if tile.x <= x and end <= tile.x + tile.width
                      and tile.y <= y - 8 and y + 2 <= tile.y + tile.height]
            plates = [plate for plate in drawing.findall(SVG + "rect") if plate.get("class") == "p"]
            begins = [float(plate.get("x")) for plate in plates]
            ends = [begin + float(plate.get("width")) + 1 for begin, plate in zip(begins, plates, strict=True)]
            on_plate = any(begin <= x and end <= right for begin, right in zip(begins, ends, strict=True))
            self.assertTrue(around or on_plate, label.text)

    def test_twenty_thousand_tensors_stay_tiles_in_a_file_of_some_megabytes(self):
        names = [f"model.layers.{i // 100}.experts.{i % 100}.weight" for i in range(20_000)]
        tiles = self.drawn(self.write("m.safetensors", {name: 4096 for name in names}))
        self.assertEqual(len(tiles), len(names))
        self.check_areas(tiles)
        self.assertLess(self.path("map.svg").stat().st_size, 8_000_000)

    def test_more_tensors_than_can_be_seen_are_merged(self):
        sizes = {f"l.{i // 200}.{i}": 1 + i % 7 for i in range(100_000)}
        tiles = self.drawn(self.write("m.safetensors", sizes))
        self.assertLessEqual(len(tiles), 30_000)
        self.assertEqual(sum(tile.nbytes for tile in tiles), sum(sizes.values()))
        shown = [tile for tile in tiles if " more" not in tile.name]
        self.assertTrue(all(tile.area >= SMALLEST - 0.1 for tile in shown))
        self.check_areas(tiles)
        self.assertLess(self.path("map.svg").stat().st_size, 9_000_000)

    def test_what_has_no_bytes_is_said(self):
        self.assertIn("0 tensors, 0 parameters, 0 B; there are no bytes to show",
                      self.texts(self.draw(self.write("none.safetensors", {}))))
        root = self.draw(self.write("zero.safetensors", {"a": 0, "b.c": 0}))
        self.assertIn("2 tensors, 0 parameters, 0 B; there are no bytes to show", self.texts(root))
        self.assertEqual(self.tiles(root), [])
        root = self.draw(self.write("some.safetensors", {"a": 0, "b": 3}))
        self.assertIn("2 tensors, 3 parameters, 3 B; 1 tensor of 0 bytes is not shown", self.texts(root))


class ColourTest(MapTest):
    def test_each_dtype_has_a_colour_and_a_line_of_the_legend(self):
        inputs.write_safetensors(self.path("m.safetensors"), {
            "w": ("F32", [2], bytes(8)), "b": ("BF16", [3], bytes(6)), "c": ("F32", [1], bytes(4))})
        root = self.draw("m.safetensors")
        self.assertEqual({tile.name: tile.group for tile in self.tiles(root)}, {"w": "c0", "c": "c0", "b": "c1"})
        rules = root.find(SVG + "style").text
        self.assertIn(".c0{fill:#8db8ea}.c1{fill:#f5b971}", rules)
        texts = self.texts(root)
        self.assertEqual(texts[-8:], ["F32", "2", "3", "12 B", "BF16", "1", "3", "6 B"])

    def test_a_tile_of_several_dtypes_has_a_colour_of_its_own(self):
        path = self.path("m.safetensors")
        inputs.write_safetensors(path, {"big": ("U8", [10**7], bytes(10**7)), "m.a": ("U8", [1], b"x"),
                                        "m.b": ("I8", [1], b"x")})
        root = self.draw("m.safetensors")
        self.assertEqual({tile.name: tile.group for tile in self.tiles(root)}, {"big": "c0", "2 more": "cm"})
        self.assertIn("several", self.texts(root))

    def test_a_tile_says_shape_parameters_bytes_and_share(self):
        inputs.write_safetensors(self.path("m.safetensors"), {"w": ("F32", [30, 10], bytes(1200)),
                                                              "v": ("U8", [400], bytes(400))})
        texts = {tile.name: tile.text for tile in self.drawn("m.safetensors")}
        self.assertEqual(texts["w"], "w\nF32[30, 10]\n300 parameters\n1.2 KiB (1,200 B), 75 %")

    def test_the_shards_of_a_set_are_listed_and_can_be_the_outer_level(self):
        self.write("a.safetensors", {"x": 30, "y": 10})
        self.run_tool("convert", "a.safetensors", "-o", "set", "--max-shard-size", "30B")
        root = self.draw("set", "--by", "shard")
        texts = self.texts(root)
        self.assertIn("2 tensors, 40 parameters, 40 B in 2 shards", texts)
        begin = texts.index("SHARD")
        self.assertEqual(texts[begin + 4 : begin + 7], ["model-00001-of-00002.safetensors", "1", "30 B"])
        self.assertIn("\nmodel-00001-of-00002.safetensors", self.tiles(root)[0].text)
        self.check_areas(self.tiles(root))

    def test_other_tensors_are_chosen_and_renamed_as_in_ls(self):
        self.write("m.safetensors", {"a.w": 1, "a.b": 1, "c": 1})
        names = [tile.name for tile in self.drawn("m.safetensors", "--include", "a.*", "--rename", "a.*=z.{1}")]
        self.assertEqual(sorted(names), ["z.b", "z.w"])
        result = self.run_tool("map", "m.safetensors", "-o", "n.svg", "--include", "zz", expect=FAILURE)
        self.assertIn("[tensor_not_found]", result.stderr)
        self.assertFalse(self.path("n.svg").exists())

    def test_colours_say_what_changed(self):
        writer.write(self.path("old.safetensors"), [
            ("same", "U8", [4], b"same"), ("bytes", "U8", [4], b"old!"), ("dtype", "U8", [4], b"1234"),
            ("shape", "U8", [4], b"1234"), ("gone", "U8", [7], b"1234567")])
        writer.write(self.path("new.safetensors"), [
            ("same", "U8", [4], b"same"), ("bytes", "U8", [4], b"new!"), ("dtype", "I8", [4], b"1234"),
            ("shape", "U8", [2, 2], b"1234"), ("added", "U8", [5], b"12345")])
        root = self.draw("new.safetensors", "--diff", "old.safetensors")
        rules = dict(re.findall(r"\.(c\w+)\{fill:(#\w+)\}", root.find(SVG + "style").text))
        colours = {tile.name: rules[tile.group] for tile in self.tiles(root)}
        self.assertEqual(colours, {"same": "#d5d7da", "bytes": "#f5ab4e", "added": "#7ecb86", "dtype": "#c9a2ea",
                                   "shape": "#ab8be6"})
        self.assertEqual(self.texts(root)[-4:], ["gone", "U8", "[7]", "7 B"])
        last = {tile.name: tile.text.split("\n")[-1] for tile in self.tiles(root)}
        self.assertEqual(last, {"same": "equal", "bytes": "other bytes", "added": "added", "dtype": "was U8[4]",
                                "shape": "was U8[4]"})


class Markup(html.parser.HTMLParser):
    """The tags of a page and what it would load or run."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.attributes = set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


class MarkupTest(MapTest):
    NAMES = ('"><script>alert(1)</script>', "a&amp;<b>'\"", "nul\0and\x1b[31mcontrols\x7f", "\u202eright to left",
             "\ufffe\uffff", "x" * 10_000, "." * 10_000, "a." * 5000, "漢字" * 50, "]]>", "<!--", "\U0001f600")

    def hostile(self):
        return self.write("m.safetensors", {name: 1000 + i for i, name in enumerate(self.NAMES)})

    def test_hostile_names_are_text(self):
        root = self.draw(self.hostile())  # is XML
        names = [tile.name for tile in self.tiles(root)]
        self.assertEqual(len(names), len(self.NAMES))
        self.assertIn('"><script>alert(1)</script>', names)
        self.assertIn("nul\\u0000and\\u001b[31mcontrols\\u007f", names)
        self.assertIn("\\u202eright to left", names)
        self.assertIn("\\ufffe\\uffff", names)
        self.assertIn("x" * 499 + "…" + "x" * 500, names)
        self.assertEqual({element.tag for element in root.iter()},
                         {SVG + tag for tag in ("svg", "title", "style", "g", "rect", "text")})

    def test_a_page_has_nothing_that_runs_or_loads(self):
        self.hostile()
        self.run_tool("map", "m.safetensors", "-o", "m.html")
        page = Markup(self.path("m.html").read_text())
        self.assertLessEqual(page.tags, {"html", "head", "meta", "title", "style", "body", "h1", "p", "svg", "rect",
                                         "text", "g", "table", "tr", "th", "td", "span"})
        self.assertLessEqual(page.attributes, {"lang", "charset", "http-equiv", "content", "class", "style", "viewbox",
                                               "x", "y", "width", "height", "transform"})
        self.assertIn("default-src 'none'", self.path("m.html").read_text())

    def test_a_page_holds_the_same_drawing(self):
        self.write("m.safetensors", {"a.w": 30, "b": 10})
        self.run_tool("map", "m.safetensors", "-o", "m.html")
        self.draw("m.safetensors")
        for line in self.path("m.html").read_text().splitlines():
            if line.startswith("<rect"):
                self.assertIn(line + "\n", self.path("map.svg").read_text())

    def test_a_path_that_is_not_utf8_is_text_too(self):
        self.write("m.safetensors", {"a": 1})
        os.rename(self.path("m.safetensors"), os.path.join(os.fsencode(self.folder), b"\xff<.safetensors"))
        root = self.draw(os.fsdecode(b"\xff<.safetensors"))
        self.assertEqual(self.texts(root)[0], "\\xff<.safetensors")


class PlaceTest(MapTest):
    def test_an_output_is_written_once_and_never_replaced_by_accident(self):
        path = self.write("m.safetensors", {"a.w": 30, "b": 10})
        self.assertEqual(self.run_tool("map", path, "-o", "m.svg").stdout, "m.svg: 2 tensors, 40 B in 2 tiles\n")
        self.assertEqual(self.run_tool("map", path, "-o", "m.svg").stdout, "m.svg: up to date\n")
        self.path("m.svg").write_bytes(b"mine")
        result = self.run_tool("map", path, "-o", "m.svg", expect=USAGE)
        self.assert_error(result, "file_exists", "m.svg exists", "--force")
        self.assertEqual(self.path("m.svg").read_bytes(), b"mine")
        self.run_tool("map", path, "-o", "m.svg", "--force")
        self.assertEqual(self.names(), ["m.safetensors", "m.svg"])

    def test_a_link_is_replaced_and_not_followed(self):
        path = self.write("m.safetensors", {"a": 1})
        self.path("l.svg").symlink_to("other")
        self.assert_error(self.run_tool("map", path, "-o", "l.svg", expect=USAGE), "file_exists")
        self.run_tool("map", path, "-o", "l.svg", "--force")
        self.assertFalse(self.path("l.svg").is_symlink())
        self.assertEqual(self.names(), ["l.svg", "m.safetensors"])

    def test_what_a_killed_run_left_is_removed(self):
        path = self.write("m.safetensors", {"a": 1})
        self.path(f".m.svg.{'0' * 32}.flatbed.tmp").write_text("half")
        self.run_tool("map", path, "-o", "m.svg")
        self.assertEqual(self.names(), ["m.safetensors", "m.svg"])

    def test_a_replaced_picture_keeps_its_permissions(self):
        path = self.write("m.safetensors", {"a": 1})
        self.path("m.svg").write_bytes(b"mine")
        self.path("m.svg").chmod(0o600)
        self.run_tool("map", path, "-o", "m.svg", "--force")
        self.assertEqual(self.path("m.svg").stat().st_mode & 0o777, 0o600)

    def test_an_input_is_never_written_over(self):
        self.write("m.svg", {"a": 1})
        data = self.path("m.svg").read_bytes()
        for arguments in (["m.svg"], [self.write("n.safetensors", {"a": 1}), "--diff", "m.svg"]):
            result = self.run_tool("map", *arguments, "-o", "m.svg", "--force", expect=USAGE)
            self.assert_error(result, "invalid_argument", "is an input")
        self.assertEqual(self.path("m.svg").read_bytes(), data)

    def test_a_place_that_cannot_be_written_to(self):
        path = self.write("m.safetensors", {"a": 1})
        self.path("d.svg").mkdir()
        self.assert_error(self.run_tool("map", path, "-f", "-o", "d.svg", expect=FAILURE), "not_a_regular_file")
        result = self.run_tool("map", path, "-o", "no/m.svg", expect=FAILURE)
        self.assert_error(result, "file_not_found", "directory 'no'")
        self.assert_error(self.run_tool("map", path, "-o", "m.png", expect=USAGE), "invalid_argument", ".html or .svg")

    def test_a_full_disk_leaves_nothing(self):
        path = self.write("m.safetensors", {"a": 1})

        def small_disk():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

        result = self.run_tool("map", path, "-o", "m.svg", expect=FAILURE, preexec_fn=small_disk)
        self.assert_error(result, "no_space", "m.svg")
        self.assertEqual(self.names(), ["m.safetensors"])

    def test_json_counts_tensors_bytes_and_tiles(self):
        report = self.run_json("map", self.write("m.safetensors", {"a": 30, "b": 10, "c": 0}), "-o", "m.html")
        for key, value in {"command": "map", "path": "m.safetensors", "output": "m.html", "status": "written",
                           "tensors": 3, "nbytes": 40, "tiles": 2, "error": None}.items():
            self.assertEqual(report[key], value, key)


class BarsTest(MapTest):
    def bars(self, sizes, *arguments):
        text = self.run_tool("ls", "--map", self.write("m.safetensors", sizes), *arguments).stdout
        return text.split("\n\n")[1].splitlines()

    def test_two_levels_of_modules_with_their_share(self):
        lines = self.bars({"embed": 512, "layers.0.w": 200, "layers.0.b": 56, "layers.1.w": 256})
        self.assertEqual([line.split()[:4] for line in lines], [
            ["embed", "512", "B", "50.0%"], ["layers", "512", "B", "50.0%"], ["0", "256", "B", "25.0%"],
            ["1", "256", "B", "25.0%"]])
        self.assertEqual([len(line.split()[4]) for line in lines], [26, 26, 13, 13])  # of 80 - 28 columns
        self.assertTrue(all(len(line) <= 80 for line in lines))

    def test_modules_without_siblings_are_skipped(self):
        lines = self.bars({"model.a.w": 3, "model.b.w": 1})
        self.assertEqual([line.split()[0] for line in lines], ["model.a", "w", "model.b", "w"])

    def test_many_modules_are_summed_up(self):
        lines = self.bars({f"m{i}": 10 for i in range(100)})
        self.assertEqual((len(lines), lines[-1].split()[:5]), (41, ["60", "more", "600", "B", "60.0%"]))

    def test_long_and_hostile_names_keep_the_columns(self):
        lines = self.bars({"x" * 500: 1, "\x1b[31m": 1})
        self.assertTrue(all(len(line) <= 80 for line in lines), lines)
        self.assertIn("\\u001b[31m", lines[1])

    def test_what_has_no_bytes_is_said(self):
        self.assertEqual(self.bars({}), ["  there are no bytes to show"])
        self.assertEqual(self.bars({"a": 1, "b": 0})[-1], "  1 tensor of 0 bytes is not shown")
