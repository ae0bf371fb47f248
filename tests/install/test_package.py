"""The installed files themselves: what is there, what an older C++ is told, whether the shared
libraries find each other, and the uninstallation.

Usage: test_package.py CMAKE CXX PREFIX SHARED_PREFIX
"""

import ctypes
import glob
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

CMAKE, CXX, PREFIX, SHARED_PREFIX = sys.argv[1:5]
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def find(prefix, name):
    """The files of this name, or pattern, below a prefix."""
    return sorted(glob.glob(os.path.join(prefix, "**", name), recursive=True))


class Package(unittest.TestCase):
    def test_holds_the_licence_and_the_specification(self):
        folder = os.path.join(PREFIX, "share", "doc", "flatbed")
        self.assertEqual(sorted(os.listdir(folder)), ["FORMAT.md", "LICENSE", "README.md"])

    def test_holds_completions_and_the_manual_page(self):
        for name in ("bash-completion/completions/flatbed", "zsh/site-functions/_flatbed",
                     "fish/vendor_completions.d/flatbed.fish", "man/man1/flatbed.1"):
            path = os.path.join(PREFIX, "share", name)
            with open(path, encoding="utf-8") as file:
                self.assertIn("verify", file.read(), path)

    def test_has_a_pkg_config_file_for_each_library(self):
        libraries = {os.path.basename(path).removeprefix("lib").split(".")[0]
                     for path in find(PREFIX, "libflatbed*")}
        files = {os.path.basename(path).removesuffix(".pc").replace("-", "_")
                 for path in find(PREFIX, "*.pc")}
        self.assertIn("flatbed", files)
        self.assertEqual(files, libraries)

    def test_cpp_17_gets_one_error(self):
        include = os.path.join(PREFIX, "include")
        with tempfile.NamedTemporaryFile("w", suffix=".cpp") as source:
            source.write('#include "flatbed/flatbed.hpp"\n')
            source.flush()
            run = subprocess.run([CXX, "-std=c++17", "-fsyntax-only", "-I", include, source.name],
                                 capture_output=True, text=True, check=False)
        self.assertNotEqual(run.returncode, 0)
        self.assertEqual(run.stderr.count("error:"), 1, run.stderr)
        self.assertIn("flatbed needs C++20", run.stderr)

    def test_the_shared_components_find_the_library_beside_them(self):
        # Moved together, and loaded by a program that knows of neither.
        with tempfile.TemporaryDirectory() as folder:
            for path in find(SHARED_PREFIX, "libflatbed*.so.?"):
                shutil.copy(path, folder)
            for component in ("cuda", "remote"):
                if not find(SHARED_PREFIX, f"libflatbed_{component}.so"):
                    self.skipTest(f"built without flatbed::{component}")
                library, = find(folder, f"libflatbed_{component}.so.*")
                ctypes.CDLL(library, mode=os.RTLD_LOCAL | os.RTLD_NOW)

    def test_uninstall_removes_what_was_installed_and_nothing_else(self):
        with tempfile.TemporaryDirectory() as folder:
            prefix = os.path.join(folder, "prefix")
            shutil.copytree(PREFIX, prefix, symlinks=True)
            installed = [os.path.join(at, name) for at, _, names in os.walk(prefix)
                         for name in names]
            other = os.path.join(prefix, "include", "other.h")
            open(other, "w", encoding="utf-8").close()
            manifest = os.path.join(folder, "install_manifest.txt")
            with open(manifest, "w", encoding="utf-8") as file:
                file.write("\n".join(installed))
            subprocess.run([CMAKE, f"-DMANIFEST={manifest}", "-P",
                            os.path.join(ROOT, "src", "cmake", "uninstall.cmake")],
                           check=True, capture_output=True)
            left = [os.path.join(at, name) for at, _, names in os.walk(prefix) for name in names]
            self.assertGreater(len(installed), 20)
            self.assertEqual(left, [other])
            self.assertFalse(os.path.exists(os.path.join(prefix, "include", "flatbed")))

    def test_uninstall_without_an_installation_says_so(self):
        run = subprocess.run([CMAKE, "-DMANIFEST=/nowhere/at/all", "-P",
                              os.path.join(ROOT, "src", "cmake", "uninstall.cmake")],
                             check=False, capture_output=True, text=True)
        self.assertNotEqual(run.returncode, 0)
        self.assertIn("nothing was installed", run.stderr)


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1])
