"""Data with the sequence first: a row's answer is its own, whoever its neighbours are."""

import pytest
import torch
from torch import Tensor, nn

from quant_lens_engine.objective import Objective
from quant_lens_engine.quantization import fake_quantize, quantize
from quant_lens_engine.quantization.activation import Activation
from quant_lens_engine.quantization.activation_quantizer import ActivationQuantizer, PassControl
from quant_lens_engine.quantization.batch_axis import batch_axes
from quant_lens_engine.schema import ActivationFormat

ROWS, LENGTH, WIDTH = 8, 5, 8


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def uneven() -> Tensor:
    """Rows of very different size: a scale that they share would show."""
    return seeded(ROWS, LENGTH, WIDTH) * torch.logspace(-2, 2, ROWS, dtype=torch.float64)[:, None, None]


def test_a_scale_a_row_is_that_of_the_row() -> None:
    fmt = ActivationFormat(bits=4, dynamic=True, granularity="tensor")
    made = ActivationQuantizer(Activation("layer", "layer", batch_axis=1), fmt, PassControl())
    x = uneven().transpose(0, 1)
    expected = [fake_quantize(x[:, row].reshape(1, -1), "int4").reshape(LENGTH, WIDTH) for row in range(ROWS)]
    torch.testing.assert_close(made(x), torch.stack(expected, 1))
    vectors = seeded(ROWS, WIDTH)  # a pooled sequence has its rows first
    torch.testing.assert_close(made(vectors), fake_quantize(vectors, "int4"))


def test_a_moving_average_takes_one_row_after_another() -> None:
    fmt = ActivationFormat(bits=8, observer="moving-average")
    made = ActivationQuantizer(Activation("layer", "layer", batch_axis=1), fmt, PassControl())
    x = uneven()
    with made.control.during("watch"):
        for part in x.split(3):
            made(part.transpose(0, 1))
    made.settle()
    low, high = float(x[0].min()), float(x[0].max())
    for row in x[1:]:
        low, high = 0.99 * low + 0.01 * float(row.min()), 0.99 * high + 0.01 * float(row.max())
    assert (float(made.span.low), float(made.span.high)) == pytest.approx((low, high), rel=1e-6)


class Pooled(nn.Module):
    """Rows first outside, the sequence first inside a module."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.embed, self.inner, self.head = nn.Linear(WIDTH, WIDTH), inner, nn.Linear(WIDTH, 3)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x).transpose(0, 1)
        if isinstance(self.inner, nn.MultiheadAttention):
            mixed = self.inner(tokens, tokens, tokens, need_weights=False)[0]
        elif isinstance(self.inner, nn.TransformerDecoderLayer):
            mixed = self.inner(tokens, tokens.flip(0))
        else:
            mixed = self.inner(tokens)
        return self.head((mixed[0] if isinstance(mixed, tuple) else mixed).mean(0))


INNER = {
    "attention": lambda: nn.MultiheadAttention(WIDTH, 2),
    "encoder": lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(WIDTH, 2, 12), 2, enable_nested_tensor=False),
    "decoder layer": lambda: nn.TransformerDecoderLayer(WIDTH, 2, 12),
    "lstm": lambda: nn.LSTM(WIDTH, WIDTH),
    "gru, rows first": lambda: Swapped(nn.GRU(WIDTH, WIDTH, batch_first=True)),
}
SCHEMES = [
    "int8-act-int4-tensor-dynamic", "w4a4-nvfp4-dynamic", "w8a8-dynamic-attn", "w4a8-moving-average",
    "int4-act-int4-tensor-dynamic-attn",
]  # fmt: skip


class Swapped(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x.transpose(0, 1))[0].transpose(0, 1)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", INNER)
def test_batching_never_changes_the_answer(kind: str, scheme: str) -> None:
    torch.manual_seed(0)
    model = Pooled(INNER[kind]()).double()
    answers, spans = [], []
    for micro_batch in (8, 1, 3):
        objective = Objective(model, [(uneven(), torch.arange(ROWS) % 3)], micro_batch=micro_batch)
        variant = quantize(objective.model, scheme, objective)
        live = variant.live(objective)
        live.loss()
        with torch.no_grad():
            answers.append(torch.cat([live.output(batch) for batch in live.batches()]))
        spans.append([(item.low, item.high) for item in variant.activations])
    for other, ranges in zip(answers[1:], spans[1:], strict=True):
        torch.testing.assert_close(other, answers[0], rtol=1e-10, atol=1e-12)
        for one, two in zip(ranges, spans[0], strict=True):
            assert one == (None, None) or one == pytest.approx(two)


def test_which_modules_say_it() -> None:
    encoder = nn.TransformerEncoderLayer(WIDTH, 2, 12, batch_first=True)
    model = nn.ModuleDict(
        {
            "transformer": nn.Transformer(WIDTH, 2, 1, 1, 12, custom_encoder=nn.Sequential(encoder)),
            "lstm": nn.LSTM(WIDTH, WIDTH), "gru": nn.GRU(WIDTH, WIDTH, batch_first=True), "plain": nn.Linear(2, 2),
            "cell": nn.LSTMCell(WIDTH, WIDTH),
        }
    )  # fmt: skip
    axes = batch_axes(model)
    assert [axes[name] for name in ("", "lstm", "gru", "plain", "cell", "transformer")] == [0, 1, 0, 0, 0, 1]
    assert axes["transformer.encoder.0.linear1"] == axes["transformer.encoder.0.self_attn.out_proj"] == 0
    assert axes["transformer.decoder.layers.0.linear2"] == axes["transformer.decoder.layers.0.multihead_attn"] == 1
