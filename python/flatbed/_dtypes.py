"""Names of dtypes: those of safetensors files, and those by which torch and numpy call them."""

from __future__ import annotations

from typing import Any

# What torch and numpy call the dtypes, in lower case.
_OTHER_NAMES = {
    "bool": "BOOL",
    "uint8": "U8",
    "int8": "I8",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3": "F8_E4M3",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e8m0fnu": "F8_E8M0",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "int16": "I16",
    "uint16": "U16",
    "float16": "F16",
    "half": "F16",
    "bfloat16": "BF16",
    "int32": "I32",
    "uint32": "U32",
    "float32": "F32",
    "float": "F32",
    "complex64": "C64",
    "float64": "F64",
    "double": "F64",
    "int64": "I64",
    "uint64": "U64",
}
DTYPES = ("F4", "F6_E2M3", "F6_E3M2", *dict.fromkeys(_OTHER_NAMES.values()))
_NAMES = {**_OTHER_NAMES, **{name.lower(): name for name in DTYPES}}


def dtype_name(dtype: Any) -> str:
    """The name in safetensors files of ``"bf16"``, ``"bfloat16"``, ``torch.bfloat16`` and so on.

    Raises:
        TypeError: ``dtype`` is no dtype. ValueError: flatbed has none of this name.
    """
    kind = type(dtype)
    if kind is str:
        text = dtype
    elif kind.__name__ == "dtype" and kind.__module__ == "torch":
        text = str(dtype)
    elif kind.__module__.startswith("numpy") and hasattr(dtype, "name"):
        text = dtype.name  # numpy.dtype("float32")
    elif isinstance(dtype, type) and dtype.__module__ == "numpy":
        text = dtype.__name__  # numpy.float32
    else:
        raise TypeError(f"dtype: expected a name, or a dtype of torch or numpy, not {dtype!r}")
    name = _NAMES.get(text.lower().removeprefix("torch."))
    if name is None:
        raise ValueError(f"dtype: {text!r} is not one of {', '.join(DTYPES)}")
    return name
