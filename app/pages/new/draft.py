"""What the New page has been told so far: from a link or an older run, to a RunSpec, and back into the address bar."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlencode

from app.pages.new.landscapes import PLANES, POINTS, chosen_lines, chosen_plane, plane_choice
from quant_lens_engine.errors import QuantLensError
from quant_lens_engine.schema import (
    PRESET_DESCRIPTIONS,
    Analyses,
    DirectionName,
    RunSpec,
    Transform,
    parse_recipe,
    parse_run_spec,
)

DEFAULT_SCHEMES = ("int8", "int4")
DEFAULT_LIMIT = 1024
DEFAULT_CALIBRATION = 256
LAYOUTS = ("NHWC", "NCHW", "NHW")


@dataclass(frozen=True)
class Draft:
    """The fields of the page, as typed.

    Attributes:
        model: ``{"example": name}`` or ``{"file": sha256, "filename", "size"}``; None while nothing is chosen.
        data: the same for the data.
        scale: a number or a fraction such as ``1/255`` as text; nothing leaves x unscaled.
        mean: numbers for each channel as text, separated by commas; likewise ``std``.
        calibration: the file that calibration rows come from; None: rows that are not measured.
        along: kinds of directions of the lines.
        plane: what the plane goes through: a choice of :mod:`app.pages.new.landscapes`.
        points: of it along each direction, as text; nothing: as many as the preset has.
        base: the spec of the run that this one repeats, whose finer options are kept.
    """

    name: str = ""
    model: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    architecture: str = "auto"
    layout: str | None = None
    scale: str = ""
    mean: str = ""
    std: str = ""
    limit: int | None = DEFAULT_LIMIT
    batch_size: int | None = 128
    calibration: dict[str, Any] | None = None
    calibration_limit: int | None = DEFAULT_CALIBRATION
    schemes: tuple[str, ...] = DEFAULT_SCHEMES
    preset: str = "standard"
    along: tuple[str, ...] = ("random",)
    plane: str = "variants"
    points: str = ""
    seed: int | None = 0
    device: str = "auto"
    dtype: str = "float32"
    task: str = "classification"
    base: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_query(cls, search: str) -> Draft:
        """The draft that a link describes; what it does not say, or says badly, keeps its default."""
        given = {key: values[0] for key, values in parse_qs(search.lstrip("?")).items()}
        found: dict[str, Any] = {
            key: given[key] for key in _TEXTS if key in given and given[key] in _CHOICES.get(key, (given[key],))
        }
        for key, kinds in _SOURCE_KINDS.items():
            if (source := _source_of(given.get(key, ""), kinds)) is not None:
                found[key] = source
        for key in _NUMBERS:
            if given.get(key, "").isdecimal():
                found[key] = int(given[key])
        if "schemes" in given:
            # A '+' that somebody wrote into the address by hand has arrived as a space.
            names = (name.strip().replace(" ", "+") for name in given["schemes"].split(","))
            found["schemes"] = tuple(dict.fromkeys(filter(None, names)))
        if "along" in given:
            found["along"] = tuple(dict.fromkeys(filter(is_direction, given["along"].split(",")))) or ("random",)
        return cls(**found)

    @classmethod
    def from_spec(cls, spec: Mapping[str, Any], *, name: str | None = None) -> Draft:
        """The draft of a run that exists, to be run again or changed."""
        known = parse_run_spec(dict(spec))
        transform = known.data.transform
        return cls(
            name=known.name if name is None else name,
            model=_chosen(known.model.file, known.model.example, known.model.path),
            data=_chosen(known.data.file, known.data.example, known.data.path),
            architecture=known.model.architecture,
            layout=transform.layout,
            scale=scale_text(transform.scale),
            mean=_texts(transform.mean),
            std=_texts(transform.std),
            limit=known.data.limit,
            batch_size=known.data.batch_size,
            calibration=_chosen(known.data.calibration.file, None, None),
            calibration_limit=known.data.calibration.limit,
            schemes=tuple(scheme.name for scheme in known.schemes),
            preset=known.analyses.preset,
            along=known.analyses.line.kinds,
            plane=plane_choice(known.analyses.plane),
            seed=known.seed,
            device=known.execution.device,
            dtype=known.execution.dtype,
            task=known.task,
            base=known.model_dump(mode="json"),
        )

    def query(self) -> str:
        """The link that opens this draft elsewhere; defaults are left out."""
        plain = Draft()
        said: dict[str, str] = {}
        for key, kinds in _SOURCE_KINDS.items():
            source = getattr(self, key)
            if source:
                kind = next(kind for kind in kinds if kind in source)
                said[key] = f"{kind}:{source[kind]}"
        for key in (*_TEXTS, *_NUMBERS):
            value = getattr(self, key)
            if value is not None and value != "" and value != getattr(plain, key):
                said[key] = str(value)
        if self.schemes != plain.schemes:
            said["schemes"] = ",".join(self.schemes)
        if self.along != plain.along:
            said["along"] = ",".join(self.along)
        return urlencode(said, safe=":,/")  # a '+' of a recipe is escaped: unescaped it would be a space

    def transform(self) -> Transform:
        """The transform of the data.

        Raises:
            ValueError: a number that is none, in words.
        """
        return Transform(
            layout=self.layout,
            scale=_scale(self.scale),
            mean=_numbers(self.mean, "mean"),
            std=_numbers(self.std, "std"),
        )

    def problems(self) -> dict[str, str]:
        """What keeps this draft from being run, by field."""
        found: dict[str, str] = {}
        if not self.model:
            found["model"] = "Choose a model."
        if not self.data:
            found["data"] = "Choose the data that it is measured on."
        if not self.schemes:
            found["schemes"] = "Choose at least one scheme."
        for name in self.schemes:
            try:
                parse_recipe(name)
            except QuantLensError as error:
                found["schemes"] = f"{error.message}. {error.hint}"
        try:
            _scale(self.scale)
        except ValueError as error:
            found["scale"] = str(error)
        for key in ("mean", "std"):
            try:
                if any(value <= 0 for value in _numbers(getattr(self, key), key)) and key == "std":
                    found[key] = "std must be above 0."
            except ValueError as error:
                found[key] = str(error)
        numbers = {"limit": "Samples", "batch_size": "Batch size", "calibration_limit": "Calibration rows"}
        for key, words in numbers.items():
            value = getattr(self, key)
            if value is not None and value < 1:
                found[key] = f"{words}: 1 or more."
        if self.seed is None or not 0 <= self.seed < 2**63:
            found["seed"] = "Seed: a whole number from 0."
        return found

    def spec(self) -> RunSpec:
        """The run.

        Raises:
            QuantLensError: what the page could not tell field by field.
            ValueError: a number that is none.
        """
        base = self.base
        model = {key: self.model[key] for key in _SOURCES if key in self.model} if self.model else {}
        data = {key: self.data[key] for key in _SOURCES if key in self.data} if self.data else {}
        old_model = base.get("model", {})
        same_model = bool(model) and all(old_model.get(key) == value for key, value in model.items())
        return parse_run_spec(
            {
                "name": self.name,
                "model": {
                    **model,
                    "architecture": self.architecture,
                    "options": old_model.get("options", {}) if same_model else {},
                    "checkpoints": old_model.get("checkpoints", []) if same_model else [],
                },
                "data": {
                    **data,
                    "limit": self.limit,
                    "batch_size": self.batch_size or 128,
                    "transform": self.transform().model_dump(mode="json"),
                    "calibration": {
                        "limit": self.calibration_limit or DEFAULT_CALIBRATION,
                        "file": (self.calibration or {}).get("file"),
                    },
                },
                "task": self.task,
                "schemes": list(self.schemes),
                "analyses": self.analyses().model_dump(mode="json"),
                "execution": {**base.get("execution", {}), "device": self.device, "dtype": self.dtype},
                "seed": 0 if self.seed is None else self.seed,
            }
        )

    def analyses(self) -> Analyses:
        """The preset, or the older run's own choice where its preset was left alone, with the landscapes chosen."""
        old = self.base.get("analyses")
        kept = old if old and old.get("preset") == self.preset else {"preset": self.preset}
        found = Analyses.model_validate(kept)
        line = chosen_lines(self.along, found.line)
        plane = chosen_plane(self.plane, self.points, found.plane)
        return found.model_copy(update={"line": line, "plane": plane})

    def changed(self, **fields: Any) -> Draft:
        """This draft with some fields changed."""
        return replace(self, **fields)


_SOURCES = ("file", "example", "path")
_SOURCE_KINDS: dict[str, tuple[str, ...]] = {"model": _SOURCES, "data": _SOURCES, "calibration": ("file",)}
_NUMBERS = ("limit", "batch_size", "calibration_limit", "seed")
_CHOICES: dict[str, tuple[str, ...]] = {
    "layout": LAYOUTS,
    "preset": tuple(PRESET_DESCRIPTIONS),
    "dtype": ("float32", "float64"),
    "plane": (*PLANES, "none"),
    "points": POINTS,
}
_TEXTS = (
    "name", "architecture", "layout", "scale", "mean", "std", "preset", "plane", "points", "device", "dtype", "task",
)  # fmt: skip


def is_direction(text: str) -> bool:
    """Whether it could name a direction."""
    try:
        DirectionName.parse(text)
    except ValueError:
        return False
    return True


def _source_of(text: str, kinds: tuple[str, ...]) -> dict[str, Any] | None:
    kind, _, value = text.partition(":")
    return {kind: value} if kind in kinds and value else None


def _chosen(file: str | None, example: str | None, path: str | None) -> dict[str, Any] | None:
    return next(({kind: value} for kind, value in zip(_SOURCES, (file, example, path), strict=True) if value), None)


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _numbers(text: str, name: str) -> tuple[float, ...]:
    """Numbers from text such as ``0.4914, 0.4822, 0.4465``."""
    parts = text.replace(";", ",").replace(",", " ").split()
    values = [_number(part) for part in parts]
    for part, value in zip(parts, values, strict=True):
        if value is None or not math.isfinite(value):
            raise ValueError(f"{name}: {part!r} is not a number. Write one for each channel, as in 0.49, 0.48, 0.45")
    return tuple(value for value in values if value is not None)


def scale_text(scale: float) -> str:
    """A scale as a person writes it.

    Example:
        >>> scale_text(1 / 255), scale_text(0.3), scale_text(1.0)
        ('1/255', '0.3', '')
    """
    if scale == 1.0:
        return ""
    whole = round(1 / scale) if 0 < scale < 1 else 0
    return f"1/{whole}" if whole and 1 / whole == scale else repr(scale)


def _scale(text: str) -> float:
    """The inverse of :func:`scale_text`."""
    above, slash, below = text.strip().partition("/")
    value, divisor = _number(above or "1"), _number(below) if slash else 1.0
    if value is None or not divisor or not math.isfinite(value / divisor) or value == 0:
        raise ValueError(f"scale: {text!r} is not a number. Write one, or a fraction such as 1/255")
    return value / divisor


def _texts(values: tuple[float, ...]) -> str:
    return ", ".join(repr(value) for value in values)
