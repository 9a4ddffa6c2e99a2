"""Labels of files in a folder or zip: from a labels file beside them, or from the folders that they lie in."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from quant_lens_engine.errors import DataError
from quant_lens_engine.intake.datasets.splits import choose_split, is_divided
from quant_lens_engine.intake.tree import Tree

MAX_LABELS_BYTES = 16 << 20
_LABEL_FILES = ("labels", "label", "metadata", "annotations", "targets")
_LABEL_SUFFIXES = (".csv", ".tsv", ".json", ".jsonl", ".txt")
_NAME_COLUMNS = ("name", "file", "filename", "file_name", "path", "image", "image_id", "audio")
_LABEL_COLUMNS = ("label", "labels", "class", "target", "y", "category")
_SHOWN = 5
_LABELS_HINT = "a labels file has a line for each file, 'name,label'; or put the files into one folder a class"


@dataclass(frozen=True)
class Labelled:
    """Files in the order of their names, with their labels.

    Attributes:
        names: of the members.
        y: ``(files,)`` labels, or None.
        notes: what the labels were taken from.
        calibration: files of a training split that lies beside.
    """

    names: tuple[str, ...]
    y: np.ndarray | None
    notes: tuple[str, ...] = ()
    calibration: Labelled | None = None


def label_members(tree: Tree, wanted: Sequence[str], what: str) -> Labelled:
    """Find the labels of the members ``wanted``.

    A labels file (labels.csv, metadata.jsonl …) is taken first; then folders, whose sorted names are the classes
    0, 1, … as torchvision's ``ImageFolder`` numbers them. Above the classes may lie folders named train, val or test.

    Args:
        tree: where they lie.
        wanted: their names.
        what: what they are called in messages, in the plural.

    Raises:
        DataError: ``bad_labels``, with the member or line at fault.
    """
    root = _common_folder(wanted)
    below = {name: tuple(name[len(root) :].split("/")) for name in wanted}
    tops = {parts[0] for parts in below.values() if len(parts) > 1}
    file = _labels_file(tree, root)
    if file is None and is_divided(tops) and all(len(parts) > 2 for parts in below.values()):
        return _divided(below, tops, what, tree)
    if file is not None:
        found = _from_file(tree, file, root, wanted, what)
    elif tops:
        found = _from_folders({name: parts[:-1] for name, parts in below.items()}, what)
    else:
        found = Labelled(tuple(wanted), None, (f"The {what} have no labels: {_LABELS_HINT}.",))
    unread = sorted(set(tree.sizes) - set(wanted) - {file})
    return Labelled(found.names, found.y, found.notes + _unread_notes(unread, tree))


def _divided(below: Mapping[str, tuple[str, ...]], tops: Iterable[str], what: str, tree: Tree) -> Labelled:
    """Splits with class folders in each; a class has the same number in all of them."""
    evaluated, training, note = choose_split(list(tops))
    whole = _from_folders({name: parts[1:-1] for name, parts in below.items()}, what)
    y = np.asarray(whole.y)

    def part(split: str) -> tuple[tuple[str, ...], np.ndarray]:
        chosen = np.array([below[name][0] == split for name in whole.names])
        return tuple(name for name, taken in zip(whole.names, chosen, strict=True) if taken), y[chosen]

    calibration = None if training is None else Labelled(*part(training))
    notes = (note, *whole.notes, *_unread_notes(sorted(set(tree.sizes) - set(below)), tree))
    return Labelled(*part(evaluated), notes, calibration)


def _from_folders(folders: Mapping[str, tuple[str, ...]], what: str) -> Labelled:
    loose = [name for name, parts in folders.items() if not parts]
    if loose:
        raise DataError(
            f"{len(loose)} of {len(folders)} {what} lie beside the class folders, first {loose[0][:120]!r}",
            hint=_LABELS_HINT,
            code="bad_labels",
            details={"members": loose[:20], "count": len(loose)},
        )
    classes = sorted({parts[0] for parts in folders.values()})
    numbers = {name: number for number, name in enumerate(classes)}
    notes = ["Folders are classes by their sorted names: " + class_list(classes) + "."]
    if classes != sorted(classes, key=lambda name: (len(name), name)) and all(name.isdecimal() for name in classes):
        notes.append("Folder names are sorted as text, as torchvision does: '10' comes before '2'.")
    y = np.array([numbers[parts[0]] for parts in folders.values()], np.int64)
    return Labelled(tuple(folders), y, tuple(notes))


def _from_file(tree: Tree, file: str, root: str, wanted: Sequence[str], what: str) -> Labelled:
    pairs = _pairs(tree, file)
    near = _folder(file)
    places = {name[len(start) :]: name for start in ("", root, near) for name in wanted}
    last_parts: dict[str, str | None] = {}
    for name in wanted:  # a bare name may stand for a file in a subfolder, where it is the only one
        last = name.rpartition("/")[2]
        last_parts[last] = None if last in last_parts else name
    labels: dict[str, Any] = {}
    for line, (name, label) in enumerate(pairs, 1):
        member = places.get(name) or last_parts.get(name)
        if member is None:
            raise _bad_file(file, f"entry {line} names {name[:120]!r}, which is not among the {what}", entry=line)
        if labels.setdefault(member, label) != label:
            raise _bad_file(file, f"entry {line} gives {name[:120]!r} a second label", entry=line)
    missing = [name for name in wanted if name not in labels]
    if missing:
        raise _bad_file(
            file, f"it has no label for {len(missing)} of {len(wanted)} {what}, first {missing[0][:120]!r}",
            members=missing[:20], count=len(missing),
        )  # fmt: skip
    y, classes = number_classes([labels[name] for name in wanted])
    notes = [f"Labels were taken from {file}."]
    if classes:
        notes.append("Labels are classes by their sorted names: " + class_list(classes) + ".")
    return Labelled(tuple(wanted), y, tuple(notes))


def number_classes(labels: Sequence[Any]) -> tuple[np.ndarray, list[str]]:
    """Labels as numbers: numbers as they are, names by their sorted order, with the list of these.

    Example:
        >>> number_classes(["2", "0"])[0].tolist(), number_classes(["dog", "cat"])
        ([2, 0], (array([1, 0]), ['cat', 'dog']))
    """
    for kind in (int, float):
        try:
            numbers = [kind(str(label)) for label in labels]
            return np.array(numbers, np.int64 if kind is int else np.float64), []
        except (ValueError, OverflowError):
            continue
    classes, places = np.unique([str(label) for label in labels], return_inverse=True)
    return places.astype(np.int64), classes.tolist()


def _labels_file(tree: Tree, root: str) -> str | None:
    near = [name for name in tree.sizes if root.startswith(_folder(name))]
    known = [name for name in near if name.lower().endswith(_LABEL_SUFFIXES)]
    return next(
        (name for stem in _LABEL_FILES for name in known if PurePosixPath(name).stem.lower() == stem), None
    )  # fmt: skip


def _folder(name: str) -> str:
    return name[: name.rfind("/") + 1]


def _pairs(tree: Tree, file: str) -> list[tuple[str, Any]]:
    """Name and label of each entry."""
    if tree.sizes[file] > MAX_LABELS_BYTES:
        raise _bad_file(file, f"it has {tree.sizes[file]} bytes; at most {MAX_LABELS_BYTES} are read")
    read = _READERS[PurePosixPath(file).suffix.lower()]
    try:
        pairs = read(tree.read(file, MAX_LABELS_BYTES).decode("utf-8-sig"))
    except DataError:
        raise
    except Exception as error:  # of the archive's libraries, the decoder or a parser
        raise _bad_file(file, f"it cannot be read ({error.__class__.__name__})") from None
    for line, (name, label) in enumerate(pairs, 1):
        if not isinstance(name, str) or not isinstance(label, str | int | float) or label == "":
            raise _bad_file(file, f"entry {line} is not a name and a label", entry=line)
    return [(name.strip().removeprefix("./"), label) for name, label in pairs]


def _delimited(text: str) -> list[tuple[Any, Any]]:
    first = text.partition("\n")[0]
    delimiter = max("\t;,", key=first.count)
    rows = [row for row in csv.reader(io.StringIO(text), delimiter=delimiter) if row]
    header = [cell.strip().lower() for cell in rows[0]]
    name, label = _column(header, _NAME_COLUMNS), _column(header, _LABEL_COLUMNS)
    if name is not None and label is not None:
        rows = rows[1:]
    else:
        name, label = 0, 1
    return [(row[name], row[label].strip()) if max(name, label) < len(row) else (None, None) for row in rows]


def _spaced(text: str) -> list[tuple[Any, Any]]:
    """Lines ``name label`` or ``name,label``; a name may hold spaces."""
    if "," in text.partition("\n")[0]:
        return _delimited(text)
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return [tuple(line.rsplit(None, 1)) if len(line.split()) > 1 else (None, None) for line in lines]  # type: ignore[misc]


def _json(text: str) -> list[tuple[Any, Any]]:
    value = json.loads(text)
    return list(value.items()) if isinstance(value, dict) else [_entry(item) for item in value]


def _json_lines(text: str) -> list[tuple[Any, Any]]:
    return [_entry(json.loads(line)) for line in text.splitlines() if line.strip()]


def _entry(item: Any) -> tuple[Any, Any]:
    if isinstance(item, dict):
        keys = list(item)
        name, label = _column(keys, _NAME_COLUMNS), _column(keys, _LABEL_COLUMNS)
        return (None, None) if name is None or label is None else (item[keys[name]], item[keys[label]])
    return tuple(item) if isinstance(item, list) and len(item) == 2 else (None, None)


_READERS: dict[str, Callable[[str], list[tuple[Any, Any]]]] = {
    ".csv": _delimited, ".tsv": _delimited, ".json": _json, ".jsonl": _json_lines, ".txt": _spaced,
}  # fmt: skip


def _column(header: Sequence[str], names: Sequence[str]) -> int | None:
    return next((header.index(name) for name in names if name in header), None)


def _common_folder(names: Sequence[str]) -> str:
    """The folder that all lie in, with a slash behind it; of class folders, the one above them."""
    parts = [name.split("/")[:-1] for name in names]
    depth = 0
    while all(len(folders) > depth for folders in parts) and len({folders[depth] for folders in parts}) == 1:
        depth += 1
    return "".join(f"{folder}/" for folder in parts[0][:depth])


def class_list(classes: Sequence[str]) -> str:
    """The names of classes beside their numbers, as far as fits into a sentence.

    Example:
        >>> class_list(["cat", "dog"])
        '0 = cat, 1 = dog'
    """
    shown = ", ".join(f"{number} = {name[:40]}" for number, name in enumerate(classes[:_SHOWN]))
    return shown + (f" … {len(classes) - 1} = {classes[-1][:40]}" if len(classes) > _SHOWN else "")


def _unread_notes(unread: Sequence[str], tree: Tree) -> tuple[str, ...]:
    notes = []
    for what, names in (("Not read", unread), ("Not followed (links)", tree.left_out)):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            notes.append(f"{what}: {', '.join(name[:80] for name in names[:_SHOWN])}{more}.")
    return tuple(notes)


def _bad_file(file: str, reason: str, **details: Any) -> DataError:
    return DataError(f"{file}: {reason}", hint=_LABELS_HINT, code="bad_labels", details={"file": file} | details)
