"""RunSpec: everything that a run's numbers depend on."""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from quant_lens_engine.errors import QuantLensError, SpecError
from quant_lens_engine.schema.analyses import Analyses
from quant_lens_engine.schema.base import Request
from quant_lens_engine.schema.direction_name import NAMES_A_VARIANT, DirectionName
from quant_lens_engine.schema.recipe import RECIPE_GRAMMAR, Recipe, parse_recipe
from quant_lens_engine.schema.run_result import FLOAT_VARIANT

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Task = Literal[
    "classification", "multi-label", "segmentation", "token-classification", "causal-lm", "masked-lm", "regression",
    "self-distillation",
]  # fmt: skip
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$")]


class _NamedOrInFull:
    """OpenAPI's words for a recipe: most write it by its name."""

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        name = {
            "type": "string",
            "description": f"{RECIPE_GRAMMAR}. GET /capabilities lists schemes, observers and algorithms.",
            "examples": ["int4-g128", "w8a8+smoothquant", "int3+gptq:act_order=true+skip:head"],
        }
        in_full = handler(core)
        return name if in_full.get("type") == "string" else {"title": "Scheme or recipe", "anyOf": [name, in_full]}


RecipeField = Annotated[
    Recipe,
    BeforeValidator(parse_recipe),
    PlainSerializer(lambda recipe: recipe.name, return_type=str),
    _NamedOrInFull(),
]
"""A scheme or a recipe, by its name or in full; written as its name, which says all of it."""


class ModelSource(Request):
    """Where the checkpoint is: exactly one of an uploaded file, an example, or a path on an allow-list.

    Attributes:
        part: which state dict of a training checkpoint is meant (``ema``, ``state_dict.generator``); null: the
            likeliest, which the file's inspection names.
        adapter: an uploaded LoRA adapter (a zip of PEFT's folder) that is merged into the weights.
        checkpoints: uploaded files of the same training, in order: what the directions ``checkpoint:N`` and ``pca:N``
            lead to, and what is marked on planes. They are not measured otherwise.
    """

    file: Sha256 | None = None
    example: str | None = None
    path: str | None = None
    architecture: str = "auto"
    options: dict[str, Any] = {}
    part: str | None = Field(default=None, min_length=1, max_length=500)
    adapter: Sha256 | None = None
    checkpoints: tuple[Sha256, ...] = Field(default=(), max_length=64)

    @model_validator(mode="after")
    def _one_source(self) -> ModelSource:
        _exactly_one("model", file=self.file, example=self.example, path=self.path)
        if self.adapter and self.checkpoints:
            raise ValueError("checkpoints of a training are whole models: give no adapter with them")
        return self


class Transform(Request):
    """What is done to x before the model sees it: ``(x * scale - mean) / std``, with channels first.

    Attributes:
        layout: how the images lie in the file. ``NHW`` gains a channel axis; ``None`` leaves x as it is.
        scale: 1/255 for bytes.
        mean: a channel's mean, after scaling; one number serves every channel.
        std: a channel's standard deviation, after scaling.
    """

    layout: Literal["NHWC", "NCHW", "NHW"] | None = None
    scale: float = Field(default=1.0, allow_inf_nan=False)
    mean: tuple[Annotated[float, Field(allow_inf_nan=False)], ...] = ()
    std: tuple[Annotated[float, Field(gt=0, allow_inf_nan=False)], ...] = ()


class Calibration(Request):
    """Rows that static activation ranges and algorithms look at, never used for evaluation.

    Attributes:
        limit: at most so many; drawn by the seed from the rows that the evaluation leaves.
        file: another file to take them from.
    """

    limit: int = Field(default=256, ge=1)
    file: Sha256 | None = None


class TextOptions(Request):
    """How texts become rows of tokens, by the tokenizer that comes with the model.

    Attributes:
        length: most tokens of a row; what a text has beyond is cut off where each text is a row of its own.
        packed: texts are joined and cut into full rows (their tokens then see those of the text before). Null: a plain
            text file is, and a file with a text a line (JSON lines) is not.
    """

    length: int = Field(default=128, ge=2, le=65_536)
    packed: bool | None = None


class DataSource(Request):
    """The rows that every variant is measured on.

    Attributes:
        limit: evaluation rows; a seeded sample is drawn where the file has more.
        batch_size: rows of one forward pass of the evaluation; ``execution.micro_batch`` for curvature.
    """

    file: Sha256 | None = None
    example: str | None = None
    path: str | None = None
    limit: int | None = Field(default=1024, ge=1)
    batch_size: int = Field(default=128, ge=1)
    transform: Transform = Transform()
    text: TextOptions = TextOptions()
    calibration: Calibration = Calibration()

    @model_validator(mode="after")
    def _one_source(self) -> DataSource:
        _exactly_one("data", file=self.file, example=self.example, path=self.path)
        return self


class Execution(Request):
    """What digits depend on besides the spec; what is left out is fixed by shape and memory rules, never by time."""

    device: Device = "auto"
    dtype: Literal["float32", "float64"] = "float32"
    threads: int | None = Field(default=None, ge=1, le=256)
    micro_batch: int | None = Field(default=None, ge=1)
    hvp_plan: Literal["reuse", "fresh", "forward-over-reverse", "finite-difference", "measured"] | None = None


class RunSpec(Request):
    """A run: what is measured on what, how, and from which seed.

    Example:
        >>> spec = RunSpec(model={"example": "digits-mlp"}, data={"example": "digits"}, schemes=["int8"])
        >>> spec.schemes[0].name, spec.analyses.curvature.trace_probes
        ('int8', 64)
    """

    name: str = Field(default="", max_length=200)
    model: ModelSource
    data: DataSource
    task: Task = "classification"
    schemes: tuple[RecipeField, ...] = Field(
        min_length=1,
        max_length=64,
        description="Number formats of weights and activations, each with the algorithms that bring the network into "
        "it and the layers that it is for. Each is one variant of the result.",
    )
    analyses: Analyses = Analyses()
    execution: Execution = Execution()
    seed: int = Field(default=0, ge=0, lt=2**63)

    @field_validator("schemes")
    @classmethod
    def _no_scheme_twice(cls, schemes: tuple[Recipe, ...]) -> tuple[Recipe, ...]:
        names = [scheme.name for scheme in schemes]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"schemes named twice: {', '.join(repeated)}")
        return schemes

    @model_validator(mode="after")
    def _landscapes_name_variants(self) -> RunSpec:
        names = [scheme.name for scheme in self.schemes]
        line, plane = self.analyses.line, self.analyses.plane
        directions = [*line.kinds, *(name for pair in plane.pairs for name in pair)]
        found = [DirectionName.parse(text) for text in directions]
        asked = [name.argument for name in found if name.kind in NAMES_A_VARIANT] + list(plane.variants)
        unknown = sorted(set(asked) - {FLOAT_VARIANT, *names})
        if unknown:
            raise ValueError(
                f"analyses name a variant {unknown[0]!r}; the run has {', '.join([FLOAT_VARIANT, *names])}"
            )
        return self


def parse_run_spec(value: Any) -> RunSpec:
    """A RunSpec from JSON-like data.

    Raises:
        SpecError: ``bad_spec``; every problem stands in ``details["problems"]`` with its place.
        SchemeError: a scheme that is not one.
    """
    try:
        return RunSpec.model_validate(value)
    except QuantLensError:
        raise
    except ValidationError as error:
        problems = [
            {"at": ".".join(map(str, item["loc"])), "message": item["msg"].removeprefix("Value error, ")}
            for item in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        first = problems[0]
        raise SpecError(
            f"{first['at'] or 'the specification'}: {first['message']}",
            hint="see the RunSpec in /api/docs",
            details={"problems": problems},
        ) from None


_JSON_EXAMPLES = {
    "text": '{"length": 256, "packed": true}',
    "transform": '{"layout": "NHWC", "scale": 0.00392156862745098}',
    "line": '{"kinds": ["random", "eigenvector:1"], "steps": 51}',
    "plane": '{"pairs": [["random", "random"]], "steps": 21}',
    "curvature": '{"top": 10, "bottom": 10, "layer_eigenvalues": "all"}',
}


def parse_json_option(option: str, text: str | None) -> Any:
    """The value of a command-line option that takes JSON; ``{}`` where it was not given.

    Raises:
        SpecError: the text is not JSON; the message names the option.

    Example:
        >>> parse_json_option("transform", '{"layout": "NHWC"}')
        {'layout': 'NHWC'}
    """
    if text is None:
        return {}
    try:
        return json.loads(text)
    except ValueError as error:
        example = _JSON_EXAMPLES.get(option, '{"width": 64}')
        raise SpecError(f"--{option} is not JSON: {error}", hint=f"such as '{example}'") from None


def switched(**analyses: bool | None) -> dict[str, dict[str, bool]]:
    """Analyses that a command line switches on or off, as ``analyses`` of a specification says it; what was not given
    stays as the preset has it.

    Example:
        >>> switched(activations=False, batchnorm=None)
        {'activations': {'enabled': False}}
    """
    return {name: {"enabled": enabled} for name, enabled in analyses.items() if enabled is not None}


def canonical_json(value: Any) -> str:
    """One text for equal values: sorted keys, no spaces. What fingerprints hash."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def digest(value: Any) -> str:
    """SHA-256 of :func:`canonical_json`, in hexadecimal."""
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()


def _exactly_one(what: str, **sources: str | None) -> None:
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise ValueError(f"{what} needs exactly one of {', '.join(sources)}; got {', '.join(given) or 'none'}")
