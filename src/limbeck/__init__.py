"""limbeck distils a massively multilingual encoder into a small, fast model.

Importing this package imports neither torch nor transformers.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from limbeck.runtime import load

__version__ = "0.1.0"
__all__ = ["__version__", "load"]


def __getattr__(name: str) -> Any:
    """Import what is asked for only then."""
    if name == "load":
        from limbeck.runtime import load

        return load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
