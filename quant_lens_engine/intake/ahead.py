"""What a process can do ahead while it waits for a file: import the library of language models, which takes seconds.

Nothing here reads a file, and nothing depends on it: what was not done ahead is done when it is needed.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Callable, Iterator
from functools import partial

_LIBRARY = "transformers"
_MODULES = (
    "transformers",
    "transformers.core_model_loading",
    "transformers.models.auto.configuration_auto",
    "transformers.quantizers",
    "transformers.modeling_utils",
    "transformers.models.auto.modeling_auto",
    "transformers.models.bert.modeling_bert",  # with it comes what most classes are made of
)
"""In an order in which none takes much longer than a second: a file that arrives waits for one of them at most."""


def steps() -> Iterator[Callable[[], None]]:
    """Pieces of work, in order; none raises. There are none where transformers is not installed.

    Example:
        >>> all(callable(step) for step in steps())
        True
    """
    if importlib.util.find_spec(_LIBRARY) is None:
        return
    for name in _MODULES:
        yield partial(_import, name)
    yield _read_renamings


def _import(name: str) -> None:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when it is imported; nothing here asks the hub
    with contextlib.suppress(Exception):  # a library that is broken says so to the file that needs it
        importlib.import_module(name)


def _read_renamings() -> None:
    """The library's table of old names: a thousand regular expressions, compiled when it is first asked."""
    with contextlib.suppress(Exception):
        importlib.import_module("transformers.conversion_mapping").get_checkpoint_conversion_mapping("bert")
