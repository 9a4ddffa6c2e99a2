"""Language and vision models of transformers as ``.pt2`` and ONNX, and parts of a graph without gradients."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    ViTConfig,
    ViTForImageClassification,
)  # fmt: skip

from quant_lens_engine.quantization import quantize
from quant_lens_engine.quantization.layers import survey_weights
from tests.unit.intake.graphs.conftest import built, curved, export, refused, with_graph

pytestmark = pytest.mark.slow

SIZES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}


def bert():
    return BertForMaskedLM(BertConfig(vocab_size=50, **SIZES)), torch.randint(0, 50, (2, 7))


def llama():
    return LlamaForCausalLM(LlamaConfig(vocab_size=50, num_key_value_heads=1, **SIZES)), torch.randint(0, 50, (2, 7))


def gpt2():
    ends = {"bos_token_id": 0, "eos_token_id": 0}
    return GPT2LMHeadModel(GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, **ends)), torch.randint(
        0, 50, (2, 7)
    )


def vit():
    config = ViTConfig(image_size=16, patch_size=4, num_labels=3, **SIZES)
    return ViTForImageClassification(config), torch.randn(2, 3, 16, 16)


class Scores(nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).logits


# Of GPT-2, torch 2.13 itself cannot take the views apart with a batch that varies.
FORMS = [
    (made, form)
    for made in (bert, llama, gpt2, vit)
    for form in ("pt2", "decomposed", "onnx")
    if (made, form) != (gpt2, "decomposed")
]


@pytest.mark.parametrize(("made", "form"), FORMS, ids=lambda value: getattr(value, "__name__", value))
def test_a_model_of_transformers_computes_the_same(tmp_path, made, form):
    torch.manual_seed(0)
    model, x = made()
    model.config.use_cache = False
    for parameter in model.parameters():  # biases of zero would be one tensor
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    scores = Scores(model).eval()
    path = tmp_path / ("m.onnx" if form == "onnx" else "m.pt2")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if form == "onnx":
            shapes = ({0: torch.export.Dim("batch")},)
            torch.onnx.export(scores, (x,), dynamo=True, dynamic_shapes=shapes, verbose=False).save(str(path))
        else:
            export(scores, (x,), path, decompose=form == "decomposed")
    net = built(path)
    more = torch.cat([x, x.flip(0), x])
    with torch.no_grad():
        assert torch.allclose(net(more), scores(more), atol=1e-6)
    names = {site.layer for site in survey_weights(scores).sites}
    found = {site.layer for site in survey_weights(net).sites}
    tied = {"model.lm_head", "model.cls.predictions.decoder"}  # with the embedding, which may be named instead
    folded = {name for name in names if "embeddings" in name or name.endswith("wpe")}  # rows that are always the same
    assert names - tied - folded <= found


class Frozen(nn.Module):
    """What no gradient goes through."""

    def __init__(self):
        super().__init__()
        self.frozen, self.first, self.last = nn.Linear(5, 4), nn.Linear(5, 4), nn.Linear(4, 3)

    def forward(self, x):
        with torch.no_grad():
            gate = torch.sigmoid(self.frozen(x))
            half = gate * 0.5
        return self.last(torch.tanh(self.first(x)) * gate + half)


def test_derivatives_stop_where_they_did_in_the_module(tmp_path):
    torch.manual_seed(0)
    model, x = Frozen().eval(), torch.randn(6, 5)
    path = export(model, (torch.randn(2, 5),), tmp_path / "m.pt2")
    net = built(path)
    assert torch.equal(net(x), model(x))
    assert {site.layer for site in survey_weights(net).sites} == {"frozen", "first", "last"}
    for given in (model, net):
        given(x).square().sum().backward()
    wanted = dict(model.named_parameters())
    for name, parameter in net.named_parameters():
        grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        assert torch.allclose(
            grad, torch.zeros_like(grad) if wanted[name].grad is None else wanted[name].grad, atol=1e-6
        )
    assert wanted["frozen.weight"].grad is None
    assert curved(net, x)[1:] == pytest.approx(curved(model, x)[1:], rel=1e-5)


def region(nodes):
    return next(node for node in nodes if "wrap_with_set_grad_enabled" in node["target"])


def part(nodes):
    return region(nodes)["inputs"][1]["arg"]["as_graph"]["graph"]


def an_input_too_few(nodes):
    part(nodes)["inputs"].pop()


def one_name_twice(nodes):
    part(nodes)["inputs"][1] = part(nodes)["inputs"][0]


def an_answer_that_nothing_makes(nodes):
    part(nodes)["outputs"][0]["as_tensor"]["name"] = "nothing"


def a_name_of_the_graph_around(nodes):
    part(nodes)["nodes"][0]["inputs"][0]["arg"]["as_tensor"]["name"] = "p_last_weight"


def parts_within_parts(nodes):
    for _ in range(6):
        copied = json.loads(json.dumps(region(nodes)))
        part(nodes)["nodes"].append(copied)


def no_graph(nodes):
    region(nodes)["inputs"][1]["arg"] = {"as_int": 1}


@pytest.mark.parametrize(
    "change",
    [an_input_too_few, one_name_twice, an_answer_that_nothing_makes, a_name_of_the_graph_around, parts_within_parts,
     no_graph],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_parts_that_do_not_go_together_are_refused(tmp_path, change):
    refused(changed(tmp_path, change), "bad_graph")


def test_a_part_that_writes_in_place_is_refused(tmp_path):
    def write(nodes):
        part(nodes)["nodes"][-1]["target"] = "torch.ops.aten.mul_.Tensor"

    refused(changed(tmp_path, write), "unsupported_operator")


def changed(tmp_path, change):
    path = export(Frozen().eval(), (torch.randn(2, 5),), tmp_path / "m.pt2")
    return with_graph(path, lambda graph: change(graph["graph_module"]["graph"]["nodes"]))


@pytest.mark.parametrize("scheme", ["int4", "int4-g4", "w8a8-dynamic"])
def test_columns_are_rounded_as_in_the_model_that_was_exported(tmp_path, scheme):
    torch.manual_seed(0)
    model, x = gpt2()
    model.config.use_cache = False
    scores = Scores(model).eval()
    for parameter in model.parameters():
        parameter.data.add_(0.02 * torch.randn_like(parameter))
    net = built(export(scores, (x,), tmp_path / "m.pt2"))
    wanted, found = (quantize(one, scheme) for one in (scores, net))
    blocks = {name for name in wanted.point if ".h." in name and name.endswith("weight") and ".ln_" not in name}
    assert len(blocks) == 8
    for name in blocks:
        assert torch.equal(found.point[name], wanted.point[name]), name
        assert not torch.equal(found.point[name], model.state_dict()[name.removeprefix("model.")])
