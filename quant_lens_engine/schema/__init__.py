"""Torch-free records: what is asked for, what is answered, and what a run consists of."""

from quant_lens_engine.schema.algorithms import AlgorithmFacts, OptionFacts
from quant_lens_engine.schema.analyses import PRESET_DESCRIPTIONS, Analyses, CurvatureOptions, LineOptions
from quant_lens_engine.schema.assemble import assemble, assemble_variants, compare_to_float, sharpness_ratio
from quant_lens_engine.schema.base import MaybeFloat, Record, Request
from quant_lens_engine.schema.capabilities import (
    ArchitectureFacts,
    Capabilities,
    Examples,
    FormatFacts,
    ObserverFacts,
    SchemeFacts,
    WorkerFacts,
)
from quant_lens_engine.schema.fingerprint import stage_fingerprint
from quant_lens_engine.schema.inspection import (
    ArchitectureMatch,
    CheckpointInspection,
    DataInspection,
    Inspection,
    KeyDifference,
    TensorFacts,
)
from quant_lens_engine.schema.number_format import ActivationFormat, NumberFormat
from quant_lens_engine.schema.recipe import AlgorithmStep, LayerChoice, Recipe, parse_recipe
from quant_lens_engine.schema.run_record import (
    TERMINAL_STATES,
    ErrorBody,
    RunEvent,
    RunProgress,
    RunRecord,
    RunState,
    StageProgress,
    StageState,
)
from quant_lens_engine.schema.run_result import (
    FLOAT_VARIANT,
    SCHEMA_VERSION,
    Activation,
    Band,
    Comparison,
    Curvature,
    DataFacts,
    Density,
    Eigenvalue,
    Evaluation,
    Landscape,
    Layer,
    Line,
    ModelFacts,
    Plane,
    PlanePoint,
    RunResult,
    SkippedLayer,
    StageFailure,
    TraceEstimate,
    Variant,
    Verdict,
    VerdictLevel,
)
from quant_lens_engine.schema.run_spec import (
    Calibration,
    DataSource,
    Execution,
    ModelSource,
    RunSpec,
    Transform,
    canonical_json,
    digest,
    parse_run_spec,
)
from quant_lens_engine.schema.scheme import QuantizationScheme, parse_scheme
from quant_lens_engine.schema.stages import (
    ESSENTIAL_STAGES,
    PAYLOADS,
    VARIANT_STAGES,
    CurvaturePayload,
    EvaluatePayload,
    InspectPayload,
    LinePayload,
    StageKey,
    Unit,
    VerdictPayload,
    plan_stages,
    plan_units,
)

__all__ = [
    "ESSENTIAL_STAGES", "FLOAT_VARIANT", "PAYLOADS", "PRESET_DESCRIPTIONS", "SCHEMA_VERSION", "TERMINAL_STATES",
    "VARIANT_STAGES", "Activation", "ActivationFormat", "AlgorithmFacts", "AlgorithmStep", "Analyses",
    "ArchitectureFacts", "ArchitectureMatch", "Band", "Calibration", "Capabilities", "CheckpointInspection",
    "Comparison", "Curvature", "CurvatureOptions", "CurvaturePayload", "DataFacts", "DataInspection", "DataSource",
    "Density", "Eigenvalue", "ErrorBody", "EvaluatePayload", "Evaluation", "Examples", "Execution", "FormatFacts",
    "InspectPayload", "Inspection", "KeyDifference", "Landscape", "Layer", "LayerChoice", "Line", "LineOptions",
    "LinePayload", "MaybeFloat", "ModelFacts", "ModelSource", "NumberFormat", "ObserverFacts", "OptionFacts",
    "Plane", "PlanePoint", "QuantizationScheme", "Recipe", "Record", "Request", "RunEvent", "RunProgress",
    "RunRecord", "RunResult", "RunSpec", "RunState", "SchemeFacts", "SkippedLayer", "StageFailure", "StageKey",
    "StageProgress", "StageState", "TensorFacts", "TraceEstimate", "Transform", "Unit", "Variant", "Verdict",
    "VerdictLevel", "VerdictPayload", "WorkerFacts", "assemble", "assemble_variants", "canonical_json",
    "compare_to_float", "digest", "parse_recipe", "parse_run_spec", "parse_scheme", "plan_stages", "plan_units",
    "sharpness_ratio", "stage_fingerprint",
]  # fmt: skip
