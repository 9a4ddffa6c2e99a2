"""``torch.export`` archives (``.pt2``): the way to bring any network without code.

torch's own loader unpickles sample inputs, pickled weights and opaque objects, and loads compiled libraries. Here the
archive's directory is read, and of its members only two kinds: the graph and the lists of tensors (JSON), and tensors
that lie there as raw bytes. Whatever else could run is refused by its name, before any member is opened; the sample
inputs that every archive has are left where they are, once their pickle is seen to name nothing but data.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from quant_lens_engine.errors import CheckpointError
from quant_lens_engine.intake.formats import FORMATS, CheckpointFormat
from quant_lens_engine.intake.formats.layout import MAX_TENSORS, Contents, StoredTensor
from quant_lens_engine.intake.formats.pickle_program import refuse_code
from quant_lens_engine.intake.formats.torch_zip import is_exported_archive, sound_directory
from quant_lens_engine.intake.given import GivenFile
from quant_lens_engine.intake.graphs.aten_linears import with_linears
from quant_lens_engine.intake.graphs.aten_names import names_of
from quant_lens_engine.intake.graphs.aten_network import network_of
from quant_lens_engine.intake.graphs.aten_program import DTYPES, read_json, read_program
from quant_lens_engine.intake.graphs.names import is_path
from quant_lens_engine.intake.graphs.refusals import EXPORT_HINT, bad_graph
from quant_lens_engine.intake.zip_archive import Member

MAX_JSON_BYTES = 256 << 20
_MAX_SAMPLE_BYTES = 64 << 20
_WITHOUT_SAMPLES = "save it without them: program.example_inputs = None, then torch.export.save(program, 'model.pt2')"
_WITHOUT_LIBRARY = "bring the graph, not what was compiled from it: torch.export.save(program, 'model.pt2')"
_PLAIN_TENSORS = (
    "use plain tensors, which torch.export.save writes as raw bytes; quantized ones and objects are pickled: "
    "bring the float network"
)


def _recognises(given: GivenFile) -> bool:
    return is_exported_archive(given)


def _read(given: GivenFile) -> Contents:
    path, members = given.path, sound_directory(given)
    root = _root(members)
    inside = {name.removeprefix(root): member for name, member in members.items()}
    _refuse_what_could_run(inside)
    model = _only_model(inside)
    _check_byte_order(path, inside)
    program = read_program(_bytes_of(path, inside[f"models/{model}.json"]))
    stored: dict[str, StoredTensor] = {}
    shared: dict[tuple[str, StoredTensor], str] = {}
    ties: dict[str, str] = {}
    for folder in ("weights", "constants"):
        config = inside.get(f"data/{folder}/{model}_{folder}_config.json")
        for name, entry in _entries(path, config).items():
            place, tensor = _placed(name, entry, f"data/{folder}/", inside)
            if not is_path(name):
                raise bad_graph(f"a tensor cannot be called {name[:80]!r}")
            if name in stored:
                raise bad_graph(f"two tensors are called {name[:80]!r}")
            stored[name] = tensor
            first = shared.setdefault((place, tensor), name)
            if first != name:
                ties[name] = first
    _check_complete(program.tensors.values(), stored)
    if len(stored) > MAX_TENSORS:
        raise bad_graph(f"it lists {len(stored)} tensors; at most {MAX_TENSORS} are read")
    program = with_linears(program, {name: tensor.shape for name, tensor in stored.items()})
    names = names_of(program, stored)
    tensors = {names[name]: tensor for name, tensor in stored.items()}
    network = network_of(
        program,
        names,
        {names[name]: names[first] for name, first in ties.items()},
        {name: tensor.dtype for name, tensor in tensors.items()},
    )
    notes = [network.sentence]
    if any(name.startswith("data/sample_inputs/") for name in inside):
        notes.append("Its sample inputs were not opened.")
    if program.said:
        notes.append(program.said)
    return Contents(tensors, notes=tuple(notes), network=network)


def _root(members: Mapping[str, Member]) -> str:
    """The folder that everything in the archive lies in."""
    marks = [name for name in members if name.rpartition("/")[2] == "archive_format"]
    if len(marks) != 1:
        raise _refused("an archive of an old torch.export (before 2.8), whose tensors are pickled", "exported_archive")
    return marks[0].removesuffix("archive_format")


def _refuse_what_could_run(inside: Mapping[str, Member]) -> None:
    for name in inside:
        last = name.rpartition("/")[2]
        if last.endswith((".so", ".dll", ".dylib", ".cubin", ".pyd")) or name.startswith("data/aotinductor/"):
            raise _refused(f"it holds a compiled library ({last[:60]!r})", "archive_with_library", _WITHOUT_LIBRARY)
        if last.startswith(("opaque_obj_", "custom_obj_")):
            raise _refused(f"it holds a pickled object ({last[:60]!r})", "archive_with_objects", _PLAIN_TENSORS)
        if name.startswith(("data/weights/", "data/constants/", "data/xl_model_weights/")) and last.endswith(".pt"):
            raise _refused(f"its tensors are pickled ({last[:60]!r})", "archive_with_pickle", _PLAIN_TENSORS)


def _only_model(inside: Mapping[str, Member]) -> str:
    models = [
        name.removeprefix("models/").removesuffix(".json") for name in inside
        if name.startswith("models/") and name.endswith(".json")
    ]  # fmt: skip
    if len(models) != 1:
        found = "no graph" if not models else f"{len(models)} graphs"
        raise CheckpointError(f"a torch.export archive with {found}", hint=EXPORT_HINT, code="bad_graph")
    return models[0]


def _check_byte_order(path: Path, inside: Mapping[str, Member]) -> None:
    order = inside.get("byteorder")
    if order is not None and _bytes_of(path, order) != b"little":
        raise CheckpointError("its tensors are big-endian", hint="save it on a little-endian machine")
    for name, member in inside.items():
        if name.startswith("data/sample_inputs/"):
            _look_at_samples(_bytes_of(path, member, _MAX_SAMPLE_BYTES))


def _look_at_samples(content: bytes) -> None:
    """Refuse sample inputs that would run something; nothing of them is needed."""
    try:
        programs = [content]
        if content.startswith(b"PK"):
            with zipfile.ZipFile(io.BytesIO(content)) as archive:
                entries = [entry for entry in archive.infolist() if entry.filename.endswith(".pkl")]
                if any(entry.file_size > len(content) for entry in entries):
                    raise _refused("its sample inputs are no sound archive", "archive_with_pickle", _WITHOUT_SAMPLES)
                programs = [archive.read(entry) for entry in entries]
        for program in programs:
            if program:
                refuse_code(io.BytesIO(program))
    except (zipfile.BadZipFile, ValueError, OSError, NotImplementedError, EOFError, CheckpointError) as error:
        reason = error.message if isinstance(error, CheckpointError) else f"they cannot be read: {type(error).__name__}"
        raise _refused(
            f"its sample inputs are no plain tensors: {reason}", "archive_with_pickle", _WITHOUT_SAMPLES
        ) from None


def _entries(path: Path, config: Member | None) -> dict[str, Any]:
    if config is None:
        return {}
    found = read_json(_bytes_of(path, config), "a list of tensors").get("config")
    if not isinstance(found, dict):
        raise bad_graph("a list of tensors is malformed")
    return found


def _placed(name: str, entry: Any, folder: str, inside: Mapping[str, Member]) -> tuple[str, StoredTensor]:
    try:
        if entry["use_pickle"] is not False:
            raise _refused(f"its tensor {name[:80]!r} is pickled", "archive_with_pickle", _PLAIN_TENSORS)
        place, meta = entry["path_name"], entry["tensor_meta"]
        dtype = DTYPES[meta["dtype"]]
        shape, stride = (tuple(_whole(size["as_int"]) for size in meta[key]) for key in ("sizes", "strides"))
        start = _whole(meta["storage_offset"]["as_int"])
        member = inside[folder + place]
    except (KeyError, TypeError, AttributeError):
        raise bad_graph(f"the entry of the tensor {name[:80]!r} is malformed, or its bytes are not there") from None
    if member.size % dtype.itemsize:
        raise bad_graph(f"the tensor {name[:80]!r} has {member.size} bytes, which is no number of {dtype}")
    tensor = StoredTensor(shape, dtype, member.offset, member.size // dtype.itemsize, start, stride)
    tensor.check_bounds(name)
    return folder + place, tensor


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _check_complete(names: Any, stored: Mapping[str, StoredTensor]) -> None:
    missing = [name for name in names if name not in stored]
    if missing:
        raise bad_graph(f"the tensor {missing[0][:80]!r} that it reads is not in the archive")


def _bytes_of(path: Path, member: Member, limit: int = MAX_JSON_BYTES) -> bytes:
    if member.size > limit:
        raise bad_graph(f"its member {member.name[:80]!r} has {member.size} bytes; at most {limit} are read")
    with path.open("rb") as file:
        file.seek(member.offset)
        return file.read(member.size)


def _refused(what: str, code: str, hint: str = EXPORT_HINT) -> CheckpointError:
    return CheckpointError(f"a torch.export archive (.pt2) was not opened: {what}", hint=hint, code=code)


FORMATS.add(
    "torch-export",
    CheckpointFormat(_recognises, _read, (".pt2",), "torch.export: any network, as a graph without code"),
)
