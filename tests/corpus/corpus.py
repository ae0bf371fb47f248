"""The corpus as it is collected: valid files ("twins") and hostile ones, each of which differs from its twin by one
defect alone and says which error it must give.

Where two lies come to the same bytes (half of 2 is one less than 2), the second is left out, and must have been told
with the same error. A hostile file that equals a valid one is a mistake of the tables.
"""

import hashlib
import json
import os
import re

import error_codes


class Sparse:
    """A file too large to be written: zeros but for some parts, {offset: bytes}. It ends with the last one."""
    def __init__(self, parts):
        self.parts = dict(sorted(parts.items()))

    def __len__(self):
        return max(at + len(part) for at, part in self.parts.items())


def digest_of(data):
    """Of contents; of a sparse file, of what makes it."""
    return hashlib.sha256(repr(data.parts).encode() if isinstance(data, Sparse) else data).digest()


class Corpus:
    def __init__(self):
        self.entries = []        # of the manifest, in order
        self.data = {}           # contents by id
        self.twins = {}          # id by digest of the contents
        self.seen = {}           # ids of hostile files by the digest of their contents
        self.by_id = {}          # entries
        self.repeated = 0        # lies that came to the bytes of another one, and are not counted

    def twin(self, name, data, tensors=None, tree=None):
        """A valid file. `tensors`: {name: (dtype, shape, bytes)}, all of them; `tree`: what show() of
        tests/support/show.hpp makes of its object. Returns its id; one of the same bytes is used again."""
        digest = digest_of(data)
        if digest in self.twins:
            return self.twins[digest]
        entry = {"id": name, "class": name.split("/")[0], "expect": "ok"}
        if tensors is not None:
            entry["tensors"] = [[tensor, dtype, list(shape), contents.hex()]
                                for tensor, (dtype, shape, contents) in sorted(tensors.items())]
        if tree is not None:
            entry["tree"] = tree
        self.add(entry, data)
        self.twins[digest] = name
        return name

    def hostile(self, name, data, expect, *says, twin):
        """A file that must give the error `expect`, with a message that has each of `says`."""
        assert expect in error_codes.NAMES, f"{name}: no error is called {expect}"
        digest = digest_of(data)
        if digest in self.seen:
            there = self.by_id[self.seen[digest]]
            assert (there["expect"], there["says"]) == (expect, list(says)), f"{name} is {there}"
            self.repeated += 1
            return
        assert digest not in self.twins, f"{name} has the bytes of the valid {self.twins[digest]}"
        assert twin in self.data, f"{name}: its twin {twin} is not there"
        self.seen[digest] = name
        self.add({"id": name, "class": name.split("/")[0], "expect": expect, "says": list(says), "twin": twin}, data)

    def add(self, entry, data):
        assert entry["id"] not in self.data, f"{entry['id']} appears twice"
        self.data[entry["id"]] = data
        self.entries.append(entry)
        self.by_id[entry["id"]] = entry

    def write(self, folder):
        """All files and manifest.jsonl."""
        os.makedirs(folder, exist_ok=True)
        lines = []
        for number, entry in enumerate(self.entries):
            data = self.data[entry["id"]]
            name = f"{number:05}-" + re.sub(r"[^A-Za-z0-9.+=-]+", "_", entry["id"])[:80] + ".pth"
            with open(os.path.join(folder, name), "wb") as file:
                for at, part in data.parts.items() if isinstance(data, Sparse) else [(0, data)]:
                    file.seek(at)
                    file.write(part)
            lines.append(json.dumps({**entry, "file": name, "size": len(data), "digest": digest_of(data).hex()}))
        with open(os.path.join(folder, "manifest.jsonl"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")
