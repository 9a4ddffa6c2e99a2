"""What every algorithm owes, on schemes and kinds of layers. Runs over the registry: a new one is tested on its day."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.errors import SchemeError
from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import QuantizedVariant, quantize
from quant_lens_engine.quantization.algorithms import ALGORITHMS
from quant_lens_engine.quantization.blocks import split_blocks
from quant_lens_engine.quantization.layers import survey_weights
from quant_lens_engine.quantization.rounding import Moved
from quant_lens_engine.schema import parse_scheme

SCHEMES = ["int3", "int4-g32-asym", "nf4-g64", "fp8-e4m3", "mxfp4", "nvfp4", "w4a4", "w8a8-fp8", "float", "w16a8"]
QUICK = {
    "adaround": ":steps=60:learning_rate=0.05",
    "qat": ":steps=2",
    "qat-sam": ":steps=2",
    "clip": ":steps=10",
    "awq": ":steps=5",
}


@pytest.fixture(params=ALGORITHMS)
def algorithm(request: pytest.FixtureRequest) -> str:
    return request.param


def named(scheme: str, algorithm: str) -> str:
    return f"{scheme}+{algorithm}{QUICK.get(algorithm, '')}"


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


class Mixed(nn.Module):
    """A convolution, a normalisation, a linear layer, attention, and a layer that nobody calls."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution, self.norm = nn.Conv1d(3, 8, 3, padding=1, bias=False), nn.BatchNorm1d(8)
        self.linear = nn.Linear(8, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.unused = nn.Linear(6, 6)
        self.head = nn.Linear(6, 4)
        nn.init.uniform_(self.norm.running_var, 0.5, 2.0)
        nn.init.normal_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.norm(self.convolution(x))).transpose(1, 2)
        hidden = torch.relu(self.linear(hidden))
        return self.head(self.attention(hidden, hidden, hidden)[0].mean(1))


def mixed() -> Objective:
    torch.manual_seed(0)
    x, y = seeded(24, 3, 5), torch.arange(24) % 4
    return Objective(Mixed(), [(x[:10], y[:10]), (x[10:], y[10:])])


def is_defined(algorithm: str, scheme: str) -> bool:
    try:
        ALGORITHMS[algorithm].check(parse_scheme(scheme))
    except SchemeError:
        return False
    return True


@pytest.mark.parametrize("scheme", SCHEMES)
def test_an_algorithm_is_defined_for_a_scheme_or_says_that_it_is_not(algorithm: str, scheme: str) -> None:
    objective = mixed()
    before = {name: tensor.clone() for name, tensor in objective.model.state_dict().items()}
    recipe = f"{named(scheme, algorithm)}+skip:head"
    if not is_defined(algorithm, scheme):
        with pytest.raises(SchemeError, match=f"{algorithm} is not defined for {scheme}: ") as refused:
            quantize(objective.model, recipe, objective)
        assert refused.value.code == "not_defined"
        told = {"algorithm": algorithm, "scheme": scheme, "reason": refused.value.details["reason"]}
        assert refused.value.details == told
        assert told["reason"] in str(refused.value)
        assert refused.value.hint
        return
    if scheme == "float" and ALGORITHMS[algorithm].phase != "train":
        with pytest.raises(SchemeError) as refused:
            quantize(objective.model, recipe, objective)
        assert refused.value.code == "nothing_to_quantize"
        return
    variant, again = (quantize(objective.model, recipe, objective, seed=3) for _ in range(2))
    assert set(variant.point) == set(objective.point)
    for name, value in variant.point.items():
        own = objective.point[name]
        assert (value.shape, value.dtype, value.device) == (own.shape, own.dtype, own.device)
        assert torch.isfinite(value).all()
        assert torch.equal(value, again.point[name]), "the same seed, the same digits"
    assert all(torch.equal(before[name], tensor) for name, tensor in objective.model.state_dict().items())
    if ALGORITHMS[algorithm].phase != "train":
        assert torch.equal(variant.point["head.weight"], objective.point["head.weight"])
    assert "head" in {item.name for item in variant.skipped}
    assert variant.live(objective).loss() == again.live(objective).loss()
    assert torch.isfinite(torch.tensor(variant.live(objective).loss()))
    check_on_grid(variant, objective, scheme)


def check_on_grid(variant: QuantizedVariant, objective: Objective, scheme: str) -> None:
    """No group has more values than it has codes, in the coordinates that it is rounded in."""
    fmt = parse_scheme(scheme)
    for site in survey_weights(objective.model).sites:
        rounding = variant.requantize.roundings.get(site.parameter)
        if rounding is None:
            continue
        inner: Any = rounding.inner if isinstance(rounding, Moved) else rounding
        matrix = inner.scaling.apply(site.layout.rows(variant.point[site.parameter]))
        for blocks in split_blocks(matrix, fmt):
            for block in blocks.flatten(0, -2):
                values = block.sort().values
                apart = values.diff() > 1e-5 * values.abs().max()
                assert int(apart.sum()) + 1 <= 2**fmt.bits
    assert variant.effective_bits is not None


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.body = nn.Embedding(7, 6), nn.Linear(6, 6)
        self.head = nn.Linear(6, 7, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.body(self.embedding(x)))).mean(1)


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x)[0][:, -1])


class Cross(nn.Module):
    def __init__(self, **options: int) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True, **options)
        self.key, self.value = options.get("kdim", 6), options.get("vdim", 6)

    def forward(self, x: Tensor) -> Tensor:
        memory = x.flip(1)[:, :-1] + 1
        return self.attention(x, memory[..., : self.key], memory[..., : self.value])[0].mean(1)


class Pooled(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).flatten(2).mean(2)


def encoder_layer() -> nn.Module:
    return nn.TransformerEncoderLayer(6, 2, 8, batch_first=True, dropout=0.1)


def one_sided(*shape: int) -> Tensor:
    """Inputs whose features go together: what one column loses another can make up."""
    return seeded(*shape).abs()


IMAGE = (4, 7, 7)
KINDS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "grouped": (lambda: Pooled(nn.Conv2d(4, 6, 3, groups=2)), lambda: one_sided(12, *IMAGE)),
    "depthwise": (lambda: Pooled(nn.Conv2d(4, 4, 3, groups=4, padding=1)), lambda: one_sided(12, *IMAGE)),
    "dilated": (lambda: Pooled(nn.Conv2d(4, 6, 3, dilation=2)), lambda: one_sided(12, *IMAGE)),
    "strided, one channel": (lambda: Pooled(nn.Conv2d(1, 6, (3, 2), stride=2)), lambda: one_sided(12, 1, 7, 7)),
    "same": (lambda: Pooled(nn.Conv2d(4, 6, 4, padding="same")), lambda: one_sided(12, *IMAGE)),
    "1d": (lambda: Pooled(nn.Conv1d(4, 6, 3, padding=2, padding_mode="circular")), lambda: one_sided(12, 4, 9)),
    "3d": (lambda: Pooled(nn.Conv3d(2, 6, 2)), lambda: one_sided(12, 2, 4, 4, 4)),
    "transposed": (lambda: Pooled(nn.ConvTranspose2d(4, 6, 3, groups=2)), lambda: one_sided(12, *IMAGE)),
    "cross attention": (Cross, lambda: one_sided(12, 5, 6)),
    "attention of other widths": (lambda: Cross(kdim=4, vdim=5), lambda: one_sided(12, 5, 6)),
    "attention of one other width": (lambda: Cross(kdim=4, vdim=4), lambda: one_sided(12, 5, 6)),
    "lstm": (Recurrent, lambda: one_sided(12, 5, 3)),
    "tied embedding": (Tied, lambda: torch.arange(36).reshape(12, 3) % 7),
    "encoder layer": (lambda: Pooled(encoder_layer()), lambda: one_sided(12, 5, 6)),
}
LEFT = {"transposed": "overlap", "lstm": "hidden states", "tied embedding": "looks rows up"}
"""Kinds whose inputs are no matrix, and the words that say so."""


@pytest.mark.filterwarnings("ignore:Using padding='same'")
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_layer(algorithm: str, kind: str) -> None:
    build, rows = KINDS[kind]
    torch.manual_seed(0)
    model, x = build(), rows()
    with torch.no_grad():
        classes = model.eval()(x).shape[1]
    objective = Objective(model, [(x[:7], torch.arange(7) % classes), (x[7:], torch.arange(len(x) - 7) % classes)])
    scheme = "int3-act-int4" if algorithm == "smoothquant" else "int3"
    variant, plain = (quantize(objective.model, name, objective) for name in (named(scheme, algorithm), scheme))
    assert all(torch.isfinite(value).all() for value in variant.point.values())
    assert [layer.parameter for layer in variant.layers] == [layer.parameter for layer in plain.layers]
    loss, float_loss = variant.live(objective).loss(), objective.loss()
    assert abs(loss - float_loss) < 3 * abs(plain.live(objective).loss() - float_loss) + 0.2
    phase = ALGORITHMS[algorithm].phase
    looks = ALGORITHMS[algorithm].needs_calibration and phase != "train" and algorithm != "fold-batchnorm"
    if looks and kind in LEFT:
        assert any(note.startswith(f"{algorithm} passes over ") and LEFT[kind] in note for note in variant.notes)
        first = plain.layers[0].parameter
        assert torch.equal(variant.point[first], plain.point[first])
    if phase == "round" and kind not in LEFT:
        assert any(not torch.equal(variant.point[name], plain.point[name]) for name in plain.point)
    check_on_grid(variant, objective, scheme)


def test_a_tied_weight_stays_tied(algorithm: str) -> None:
    torch.manual_seed(0)
    x = torch.arange(36).reshape(12, 3) % 7
    objective = Objective(Tied(), [(x, torch.arange(12) % 7)])
    scheme = "int3-act-int4" if algorithm == "smoothquant" else "int3"
    variant = quantize(objective.model, named(scheme, algorithm), objective)
    assert set(variant.point) == {"embedding.weight", "body.weight", "body.bias"}
    assert variant.quantized_layers == 3
    assert len(variant.layers) == 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_models_in_short_dtypes(algorithm: str, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    x, y = seeded(24, 3, 5), torch.arange(24) % 4
    objective, wide = (Objective(Mixed(), [(x, y)], dtype=kind) for kind in (dtype, torch.float32))
    scheme = "int4-act-int8-dynamic" if algorithm == "smoothquant" else "int4"
    variant = quantize(objective.model, named(scheme, algorithm), objective)
    assert {value.dtype for value in variant.point.values()} == {dtype}
    assert all(torch.isfinite(value).all() for value in variant.point.values())
    expected = quantize(wide.model, named(scheme, algorithm), wide)
    assert variant.live(objective).loss() == pytest.approx(expected.live(wide).loss(), abs=0.3)


def test_an_algorithm_says_what_it_does(algorithm: str) -> None:
    found = ALGORITHMS[algorithm]
    assert found.description
    assert found.options().model_dump() == {key: field.default for key, field in found.options.model_fields.items()}


def test_without_rows_an_algorithm_that_looks_at_some_is_refused(algorithm: str) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    scheme = "w8a8-dynamic" if algorithm == "smoothquant" else "int4"
    if ALGORITHMS[algorithm].needs_calibration:
        with pytest.raises(SchemeError) as refused:
            quantize(model, named(scheme, algorithm))
        assert refused.value.code == "needs_calibration"
    else:
        assert quantize(model, named(scheme, algorithm)).quantized_layers == 2
