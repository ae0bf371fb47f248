"""URLs and the options for them, before the compiled module gets them."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

_TEXTS = {
    "access_key_id",
    "endpoint",
    "http_proxy",
    "hub_endpoint",
    "no_proxy",
    "proxy",
    "region",
    "secret_access_key",
    "session_token",
    "token",
}
_SYSTEM_CA = {"SSL_CERT_FILE": "system_ca_file", "SSL_CERT_DIR": "system_ca_dir"}
_MOST = {"cache_nbytes": 2**64 - 1, "retries": 1000}
_OF_CREDENTIALS = {"access_key_id", "headers", "secret_access_key", "session_token", "token"}


def _checked(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in ("ca_file", "cache"):
        return os.fsdecode(value)
    if key == "headers":
        return [_encodable(key, f"{name}: {text}") for name, text in dict(value).items()]
    if key in _TEXTS and isinstance(value, str):
        return _encodable(key, value)
    if key in _MOST and isinstance(value, int) and not isinstance(value, bool):
        if 0 <= value <= _MOST[key]:
            return value
        raise ValueError(f"storage_options[{key!r}]: found {value}, expected 0 to {_MOST[key]}")
    # Without the value, which may be a secret.
    kind = "str" if key in _TEXTS else "int"
    raise TypeError(f"storage_options[{key!r}]: expected {kind}, not {type(value).__name__}")


def _encodable(key: str, text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:  # whose message has the text
        raise ValueError(f"storage_options[{key!r}]: found a lone surrogate") from None
    return text


def options_of(storage_options: Mapping[str, Any] | None) -> dict[str, Any]:
    """A dict with what the module understands. Raises TypeError for anything else."""
    options: dict[str, Any] = {}
    for key, value in dict(storage_options or {}).items():
        if key == "credentials":
            if value is not None and not callable(value):
                raise TypeError("storage_options['credentials']: expected a callable")
            options[key] = value
        elif key in _TEXTS or key in ("ca_file", "cache", "cache_nbytes", "headers", "retries"):
            options[key] = _checked(key, value)
        else:
            raise TypeError(f"storage_options: unknown key {key!r}")
    for variable, key in _SYSTEM_CA.items():  # as Python's own module ssl does
        place = os.environ.get(variable)
        # Some systems name a file that they do not have.
        if place and (variable != "SSL_CERT_FILE" or os.path.exists(place)):
            options[key] = place
    return options


def credentials_of(
    function: Callable[[str, bool], Mapping[str, Any] | None], origin: str, refused: bool
) -> dict[str, Any]:
    """What a caller's function returns for one origin."""
    found = dict(function(origin, refused) or {})
    for key in found:
        if key not in _OF_CREDENTIALS:
            raise TypeError(f"credentials: unknown key {key!r}")
    return {key: _checked(key, value) for key, value in found.items()}
