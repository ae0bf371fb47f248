"""The values of ``verify=``."""

from __future__ import annotations

VERIFY_MODES = ("tensor", "copy", "off")


def check_verify(verify: str) -> str:
    """``verify`` itself.

    Raises:
        ValueError: it is not a mode.
    """
    if verify not in VERIFY_MODES:
        raise ValueError(
            f"verify must be one of {', '.join(map(repr, VERIFY_MODES))}, not {verify!r}"
        )
    return verify
