"""Everything that the ``safetensors`` package offers, with every tensor of a sealed file verified.

Use it in place of ``safetensors`` in a program of your own::

    from flatbed.safetensors import safe_open
    from flatbed.safetensors.torch import load_file, save_file

or put it under programs that import ``safetensors``, such as transformers, without changing them::

    import flatbed.safetensors
    flatbed.safetensors.install()

The default, ``verify="tensor"``, hashes the chunks of a tensor before the tensor is returned, once
per state of the file. Tensors for PyTorch then lie in the mapped file: damage that comes later is
not seen. ``verify="copy"`` hashes bytes while they are read into memory of the tensor's own.
``verify="off"`` ignores seals. Files without a seal are read as ``safetensors`` reads them.
"""

from __future__ import annotations

from ._errors import SafetensorError
from ._install import install
from ._open import PySafeSlice, _safe_open_handle, safe_open
from ._save import TensorSpec, deserialize, serialize, serialize_file

# The version of safetensors whose interface this is. What 0.9 adds is not here: prefetch().
__version__ = "0.8.0"

__all__ = [
    "PySafeSlice",
    "SafetensorError",
    "TensorSpec",
    "__version__",
    "deserialize",
    "install",
    "safe_open",
    "serialize",
    "serialize_file",
]
