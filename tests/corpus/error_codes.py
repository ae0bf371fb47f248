"""The names of flatbed's error codes, from the table in error.hpp."""

import os
import re

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

with open(os.path.join(ROOT, "include", "flatbed", "error.hpp"), encoding="utf-8") as file:
    NAMES = set(re.findall(r"^ +X\(\d+, (\w+), ", file.read(), re.MULTILINE))
