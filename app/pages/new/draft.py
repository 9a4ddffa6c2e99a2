"""What the New page has been told so far: from a link or an older run, to a RunSpec, and back into the address bar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import parse_qs, urlencode

from app.pages.new.landscapes import (
    DEFAULT_SAMPLING,
    DEFAULT_TOLERANCE,
    MOST_TOLERANCE,
    PLANES,
    POINTS,
    SAMPLINGS,
    chosen_lines,
    chosen_plane,
    needed_checkpoints,
    plane_choice,
    tolerance_percent,
)
from app.pages.new.tasks import TASK_WORDS, USUAL
from app.pages.new.texts import DEFAULT_LENGTH, LONGEST, PACKING, packing_of
from app.pages.new.written_numbers import numbers_text, read_number, read_numbers, read_scale, scale_text
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
        part: which state dict of the checkpoint is meant; nothing: the likeliest.
        adapter: hash of a LoRA adapter that is merged into the weights.
        task: what is measured; nothing: what the files suggest (:func:`app.pages.new.tasks.suggested_task`).
        text_length: most tokens of a row of texts.
        packing: how texts become rows: a choice of :mod:`app.pages.new.texts`.
        scale: a number or a fraction such as ``1/255`` as text; nothing leaves x unscaled.
        mean: numbers for each channel as text, separated by commas; likewise ``std``.
        calibration: the file that calibration rows come from; None: rows that are not measured.
        checkpoints: hashes of further checkpoints of the training, in order.
        along: kinds of directions of the lines.
        plane: what the plane goes through: a choice of :mod:`app.pages.new.landscapes`.
        points: of it along each direction, as text; nothing: as many as the preset has.
        sampling: whether every point of a plane is measured: of :data:`app.pages.new.landscapes.SAMPLINGS`.
        tolerance: of losses that are interpolated, in per cent.
        base: the spec of the run that this one repeats, whose finer options are kept.
    """

    name: str = ""
    model: dict[str, Any] | None = None
    data: dict[str, Any] | None = None
    part: str = ""
    adapter: str = ""
    task: str = ""
    text_length: int | None = DEFAULT_LENGTH
    packing: str = ""
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
    checkpoints: tuple[str, ...] = ()
    along: tuple[str, ...] = ("random",)
    plane: str = "variants"
    points: str = ""
    sampling: str = DEFAULT_SAMPLING
    tolerance: float | None = DEFAULT_TOLERANCE
    seed: int | None = 0
    device: str = "auto"
    dtype: str = "float32"
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
        if _in_reach(tolerance := read_number(given.get("tolerance", ""))):
            found["tolerance"] = tolerance
        if _HASH.fullmatch(given.get("adapter", "")):
            found["adapter"] = given["adapter"]
        if "checkpoints" in given:
            found["checkpoints"] = tuple(dict.fromkeys(filter(_HASH.fullmatch, given["checkpoints"].split(","))))
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
            part=known.model.part or "",
            adapter=known.model.adapter or "",
            text_length=known.data.text.length,
            packing=packing_of(known.data.text.packed),
            architecture=known.model.architecture,
            layout=transform.layout,
            scale=scale_text(transform.scale),
            mean=numbers_text(transform.mean),
            std=numbers_text(transform.std),
            limit=known.data.limit,
            batch_size=known.data.batch_size,
            calibration=_chosen(known.data.calibration.file, None, None),
            calibration_limit=known.data.calibration.limit,
            schemes=tuple(scheme.name for scheme in known.schemes),
            preset=known.analyses.preset,
            checkpoints=known.model.checkpoints,
            along=known.analyses.line.kinds,
            plane=plane_choice(known.analyses.plane),
            sampling=known.analyses.plane.sampling,
            tolerance=tolerance_percent(known.analyses.plane.tolerance),
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
        if self.adapter:
            said["adapter"] = self.adapter
        if self.tolerance is not None and self.tolerance != plain.tolerance:
            said["tolerance"] = f"{self.tolerance:g}"
        if self.checkpoints:
            said["checkpoints"] = ",".join(self.checkpoints)
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
            scale=read_scale(self.scale),
            mean=read_numbers(self.mean, "mean"),
            std=read_numbers(self.std, "std"),
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
            read_scale(self.scale)
        except ValueError as error:
            found["scale"] = str(error)
        for key in ("mean", "std"):
            try:
                if any(value <= 0 for value in read_numbers(getattr(self, key), key)) and key == "std":
                    found[key] = "std must be above 0."
            except ValueError as error:
                found[key] = str(error)
        numbers = {"limit": "Samples", "batch_size": "Batch size", "calibration_limit": "Calibration rows"}
        for key, words in numbers.items():
            value = getattr(self, key)
            if value is not None and value < 1:
                found[key] = f"{words}: 1 or more."
        wanted = needed_checkpoints([*self.along, *(name for pair in PLANES.get(self.plane, ()) for name in pair)])
        if wanted > len(self.checkpoints):
            some = "a further checkpoint" if wanted == 1 else f"{wanted} further checkpoints"
            found["checkpoints"] = f"Choose {some} of the training: the directions that you chose lead there."
        if self.adapter and self.checkpoints:
            found["adapter"] = "Further checkpoints of a training are whole models: choose them or an adapter."
        if self.text_length is None or not 2 <= self.text_length <= LONGEST:
            found["text_length"] = f"Tokens a row: 2 to {LONGEST}."
        if self.sampling != DEFAULT_SAMPLING and not _in_reach(self.tolerance):
            found["tolerance"] = f"Largest error: above 0 and up to {MOST_TOLERANCE:g} %."
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
                    "part": self.part or None,
                    "architecture": self.architecture,
                    "options": old_model.get("options", {}) if same_model else {},
                    "adapter": self.adapter or None,
                    "checkpoints": list(self.checkpoints),
                },
                "data": {
                    **data,
                    "limit": self.limit,
                    "batch_size": self.batch_size or 128,
                    "transform": self.transform().model_dump(mode="json"),
                    "text": {"length": self.text_length, "packed": PACKING[self.packing]},
                    "calibration": {
                        "limit": self.calibration_limit or DEFAULT_CALIBRATION,
                        "file": (self.calibration or {}).get("file"),
                    },
                },
                "task": self.task or USUAL,
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
        plane = chosen_plane(self.plane, self.points, self.sampling, self.tolerance, found.plane)
        return found.model_copy(update={"line": line, "plane": plane})

    def changed(self, **fields: Any) -> Draft:
        """This draft with some fields changed."""
        return replace(self, **fields)


_HASH = re.compile("[0-9a-f]{64}")
_SOURCES = ("file", "example", "path")
_SOURCE_KINDS: dict[str, tuple[str, ...]] = {"model": _SOURCES, "data": _SOURCES, "calibration": ("file",)}
_NUMBERS = ("limit", "batch_size", "calibration_limit", "text_length", "seed")
_CHOICES: dict[str, tuple[str, ...]] = {
    "layout": LAYOUTS,
    "preset": tuple(PRESET_DESCRIPTIONS),
    "dtype": ("float32", "float64"),
    "plane": (*PLANES, "none"),
    "points": POINTS,
    "sampling": tuple(SAMPLINGS),
    "task": tuple(TASK_WORDS),
    "packing": tuple(PACKING),
}
_TEXTS = (
    "name", "part", "architecture", "layout", "scale", "mean", "std", "preset", "plane", "points", "sampling", "device",
    "dtype", "task", "packing",
)  # fmt: skip


def is_direction(text: str) -> bool:
    """Whether it could name a direction."""
    try:
        DirectionName.parse(text)
    except ValueError:
        return False
    return True


def _in_reach(tolerance: float | None) -> bool:
    return tolerance is not None and 0 < tolerance <= MOST_TOLERANCE


def _source_of(text: str, kinds: tuple[str, ...]) -> dict[str, Any] | None:
    kind, _, value = text.partition(":")
    return {kind: value} if kind in kinds and value else None


def _chosen(file: str | None, example: str | None, path: str | None) -> dict[str, Any] | None:
    return next(({kind: value} for kind, value in zip(_SOURCES, (file, example, path), strict=True) if value), None)
