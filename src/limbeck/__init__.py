"""limbeck distils a massively multilingual encoder into a small, fast model.

Importing this package imports neither torch nor transformers.
"""

__version__ = "0.1.0"
