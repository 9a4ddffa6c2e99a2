"""Where a specification's files are on this machine."""

from __future__ import annotations

from quant_lens_engine.errors import SpecError
from quant_lens_engine.schema import RunSpec
from worker.queue import allowed_path
from worker.store import Store
from worker.store.runs import named_files


def local_files(store: Store, spec: RunSpec) -> dict[str, str]:
    """Each upload by its SHA-256 and each allowed path by its name, as paths that an engine process can open.

    Raises:
        NotFound: an upload is not in the store any more.
        SpecError: ``path_not_allowed``.
    """
    files = {sha256: str(store.files.local_path(sha256)) for sha256 in named_files(spec.model_dump(mode="json"))}
    for path in filter(None, (spec.model.path, spec.data.path)):
        real = allowed_path(store.settings, path)
        if real is None:
            raise SpecError(f"the path {path!r} is not on this worker's allow-list", code="path_not_allowed")
        files[path] = str(real)
    return files
