"""Writes the hostile corpus: files that flatbed must refuse, each beside a valid twin that differs by the defect
alone, and manifest.jsonl, which says for every file what must come of it.

The tables are in cases_*.py, one for each group of classes (Z zip, P pickle, L legacy, T tar); nothing here is random,
so that the same checkout always gives the same bytes.

Usage: make.py OUT_DIR [--count]
"""

import collections
import os
import shutil
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import cases_legacy  # noqa: E402
import cases_objects  # noqa: E402
import cases_pickle_ops  # noqa: E402
import cases_pickle_values  # noqa: E402
import cases_tar  # noqa: E402
import cases_torch_records  # noqa: E402
import cases_torch_tensors  # noqa: E402
import cases_zip_ends  # noqa: E402
import cases_zip_entries  # noqa: E402
import cases_zip_headers  # noqa: E402
from corpus import Corpus  # noqa: E402

GROUPS = [cases_zip_headers, cases_zip_ends, cases_zip_entries, cases_pickle_ops, cases_pickle_values,
          cases_torch_records, cases_torch_tensors, cases_legacy, cases_tar, cases_objects]
LEAST_HOSTILE = 2000


def main():
    corpus = Corpus()
    for group in GROUPS:
        group.add(corpus)
    hostile = collections.Counter(entry["class"] for entry in corpus.entries if "twin" in entry)
    if sum(hostile.values()) < LEAST_HOSTILE:
        sys.exit(f"{sum(hostile.values())} hostile files, expected at least {LEAST_HOSTILE}")
    if "--count" in sys.argv:
        print("\n".join(f"{name} {count}" for name, count in sorted(hostile.items())))
    folders = [argument for argument in sys.argv[1:] if not argument.startswith("-")]
    if not folders:
        sys.exit(__doc__)
    shutil.rmtree(folders[0], ignore_errors=True)
    corpus.write(folders[0])
    print(f"{sum(hostile.values())} hostile files, {len(corpus.entries) - sum(hostile.values())} valid ones")


if __name__ == "__main__":
    main()
