"""What this engine can do, read from its registries: what the New page and ``GET /capabilities`` offer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from quant_lens_engine.intake import (
    ARCHITECTURES,
    DATA_FORMATS,
    EXAMPLE_DATA,
    EXAMPLE_MODELS,
    FORMATS,
    describe_arrays,
    example_path,
    inspect_file,
    load_plugins,
)
from quant_lens_engine.landscape.directions import DIRECTIONS
from quant_lens_engine.quantization.catalog import available_algorithms, available_observers, available_schemes
from quant_lens_engine.schema import (
    PRESET_DESCRIPTIONS,
    ActivationOptions,
    Analyses,
    ArchitectureFacts,
    BatchNormOptions,
    Capabilities,
    CurvatureOptions,
    Examples,
    FormatFacts,
    LineOptions,
    PlaneOptions,
)
from quant_lens_engine.subject import AVAILABLE_TASKS
from quant_lens_engine.version import __version__


def capabilities(plugins: Path | None = None, *, trusted: bool = False) -> tuple[Capabilities, list[str]]:
    """What can be asked for, and what is wrong with plug-ins that could not be loaded.

    Args:
        plugins: the team's folder of plug-ins.
        trusted: checkpoints that are code may be run here.

    Example:
        >>> facts, problems = capabilities()
        >>> "digits-cnn" in facts.examples.models, problems
        (True, [])
    """
    problems = [f"{file.name}: {file.problem}" for file in load_plugins(plugins) if file.problem is not None]
    architectures = [
        ArchitectureFacts(name=name, description=known.description, source=known.source.name, options=known.options)
        for name, known in sorted(ARCHITECTURES.items())
    ]
    facts = Capabilities(
        engine_version=__version__,
        examples=_examples(),
        schemes=available_schemes(),
        observers=available_observers(),
        algorithms=available_algorithms(),
        formats=_formats(),
        trusted_formats=trusted,
        architectures=architectures,
        analyses=_analyses(),
        tasks=list(AVAILABLE_TASKS),
    )
    return facts, problems


def devices() -> list[str]:
    """What ``execution.device`` may say here: ``cpu``, then ``cuda:0`` and so on."""
    return ["cpu", *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]


def _examples() -> Examples:
    inspections: dict[str, dict[str, Any]] = {
        name: inspect_file(example_path(name)).model_dump(mode="json") for name in EXAMPLE_MODELS
    }
    for name, data in EXAMPLE_DATA.items():
        arrays = data.load()
        size = arrays.x.nbytes + (0 if arrays.y is None else arrays.y.nbytes)
        inspections[name] = describe_arrays(arrays, "example", name, size).model_dump(mode="json")
    return Examples(models=list(EXAMPLE_MODELS), data=list(EXAMPLE_DATA), inspections=inspections)


def _formats() -> list[FormatFacts]:
    read = {name: known for name, known in FORMATS.items() if not known.refused}
    return [
        FormatFacts(
            name=name, kind="checkpoint", extensions=list(known.extensions), description=known.description,
            is_code=known.run is not None,
        )
        for name, known in read.items()
    ] + [
        FormatFacts(name=name, kind="data", extensions=list(known.extensions), description=known.description)
        for name, known in DATA_FORMATS.items()
    ]  # fmt: skip


def _analyses() -> dict[str, Any]:
    presets = {
        name: {"description": text, **Analyses.model_validate({"preset": name}).model_dump(exclude={"preset"})}
        for name, text in PRESET_DESCRIPTIONS.items()
    }
    options = {
        "curvature": CurvatureOptions.model_json_schema(),
        "line": LineOptions.model_json_schema(),
        "activations": ActivationOptions.model_json_schema(),
        "batchnorm": BatchNormOptions.model_json_schema(),
    }
    options["plane"] = PlaneOptions.model_json_schema()
    options["directions"] = {name: kind.description for name, kind in DIRECTIONS.items()}
    return {"presets": presets, "options": options}
