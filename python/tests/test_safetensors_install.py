"""flatbed.safetensors.install(), before and after safetensors is imported."""

import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest

HAS_ALL = all(importlib.util.find_spec(name) for name in ("safetensors", "numpy"))


@unittest.skipUnless(HAS_ALL, "needs safetensors and numpy")
class InstallTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def run_python(self, script):
        """Runs a program of its own in a folder of its own; returns what it prints."""
        path = os.pathsep.join(filter(None, sys.path))
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    CHECK = """
        import numpy as np, os
        def check():
            import safetensors, safetensors.numpy as sn, flatbed.safetensors as fs
            from safetensors._safetensors_rust import safe_open
            assert "flatbed" in safetensors._safetensors_rust.__file__
            assert safe_open is safetensors.safe_open is sn.safe_open
            assert safetensors.SafetensorError is fs.SafetensorError
            sn.save_file({"w": np.arange(4)}, "w.safetensors")
            assert sn.load_file("w.safetensors")["w"].tolist() == [0, 1, 2, 3]
            fs.numpy.save_file({"w": np.arange(4)}, "sealed.safetensors", seal=True)
            data = bytearray(open("sealed.safetensors", "rb").read())
            data[-1] ^= 1
            open("sealed.safetensors", "wb").write(data)
            try:
                sn.load_file("sealed.safetensors")
            except safetensors.SafetensorError as error:
                assert "tensor 'w'" in str(error), error
            else:
                raise AssertionError("loaded what is damaged")
        import flatbed.safetensors
        import flatbed.safetensors.numpy
    """

    def test_before_safetensors_is_imported(self):
        self.run_python(
            self.CHECK
            + """
        flatbed.safetensors.install()
        import sys
        check()
        """
        )

    def test_after_safetensors_was_imported(self):
        self.run_python(
            self.CHECK
            + """
        import safetensors.numpy
        from safetensors import safe_open, serialize as write, SafetensorError
        import safetensors._safetensors_rust as module
        class Loader:
            opener = safe_open
            table = {"open": safe_open}
        openers = [safe_open]
        pair = (safe_open, 1)
        def load(opener=safe_open, *, error=SafetensorError):
            return opener, error
        def make():
            local = safe_open
            return lambda: local
        closure = make()
        del make
        old = safe_open
        name = old.__module__
        del old
        flatbed.safetensors.install()
        check()
        new = safetensors.safe_open
        assert new is not None and new.__mro__[1] is flatbed.safetensors.safe_open
        assert safe_open is new and Loader.opener is new and Loader.table["open"] is new
        assert openers == [new] and pair == (new, 1) and closure() is new
        assert load() == (new, flatbed.safetensors.SafetensorError)
        assert write is safetensors.serialize and module is safetensors._safetensors_rust
        assert Loader().opener is new
        """
        )

    def test_raises_where_it_cannot_replace(self):
        for holder, where in (
            ("class Mine(safetensors.SafetensorError): pass", "the class __main__.Mine"),
            ("held = {safetensors.safe_open}", "a builtins.set"),
            ("held = {safetensors.safe_open: 1}", "a key of a dict"),
            (
                "import functools; held = functools.partial(safetensors.safe_open, framework='np')",
                "functools.partial",
            ),
        ):
            self.run_python(f"""
                import flatbed.safetensors, safetensors
                before = safetensors.safe_open
                {holder}
                del before
                try:
                    flatbed.safetensors.install()
                except RuntimeError as error:
                    assert {where!r} in str(error), error
                else:
                    raise AssertionError("installed")
                assert "flatbed" not in safetensors._safetensors_rust.__file__
                assert not safetensors.safe_open.__module__.startswith("flatbed")
                """)

    def test_changes_nothing_if_an_object_refuses(self):
        self.run_python("""
            import dataclasses, typing, flatbed.safetensors
            import safetensors, safetensors.numpy
            from safetensors import safe_open
            @dataclasses.dataclass(frozen=True)
            class Reader:
                open: typing.Any
            reader, readers, old = Reader(safe_open), {"open": safe_open}, [safe_open, safe_open]
            held = [safetensors.safe_open, safetensors.numpy.safe_open, reader.open]
            try:
                flatbed.safetensors.install()
            except RuntimeError as error:
                assert "FrozenInstanceError" in str(error), error
            else:
                raise AssertionError("installed")
            now = [safetensors.safe_open, safetensors.numpy.safe_open, reader.open]
            assert len({id(one) for one in held + now + old + [readers["open"], safe_open]}) == 1
            assert not safe_open.__module__.startswith("flatbed")
            """)

    def test_again_with_other_options(self):
        self.run_python(
            self.CHECK
            + """
        flatbed.safetensors.install()
        check()
        import safetensors
        from safetensors import safe_open, serialize_file
        flatbed.safetensors.install(verify="off", seal=True)
        assert safe_open is safetensors.safe_open
        safe_open("sealed.safetensors", "np").get_tensor("w")
        safetensors.numpy.save_file({"w": np.arange(4)}, "new.safetensors", {"a": "b"})
        assert b'"flatbed.digests"' in open("new.safetensors", "rb").read()
        assert safe_open("new.safetensors", "np").metadata() == {"a": "b", "format": "pt"}
        flatbed.safetensors.install(verify="tensor", seal=False)
        check()
        """
        )

    def test_refuses_an_unknown_mode(self):
        self.run_python("""
            import flatbed.safetensors, sys
            try:
                flatbed.safetensors.install(verify="later")
            except ValueError:
                pass
            else:
                raise AssertionError("installed")
            assert "safetensors._safetensors_rust" not in sys.modules
            """)

    def test_annotations_and_open_files_do_not_matter(self):
        self.run_python("""
            import typing, numpy, safetensors.numpy, flatbed.safetensors
            from typing import Optional
            safetensors.numpy.save_file({"w": numpy.arange(4)}, "w.safetensors")
            opened = safetensors.safe_open("w.safetensors", "np")
            def load(file: safetensors.safe_open, other: Optional[safetensors.safe_open] = None,
                     more: "list[safetensors.safe_open]" = ()) -> dict[str, safetensors.safe_open]:
                return file.keys()
            try:
                safetensors.safe_open("w.safetensors", "np").get_tensor("no")
            except safetensors.SafetensorError as error:
                kept = error
            flatbed.safetensors.install()
            assert load(opened) == ["w"]
            """)


if __name__ == "__main__":
    unittest.main()
