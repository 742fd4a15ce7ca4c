"""limbeck distils a massively multilingual encoder into a small, fast model.

`limbeck.load(bundle)` gives a bundle to ask: `limbeck.runtime.load`, imported when it is asked
for. Importing this package imports neither torch nor transformers.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Give `load`, which stands floors above."""
    if name == "load":
        return import_module("limbeck.runtime").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
