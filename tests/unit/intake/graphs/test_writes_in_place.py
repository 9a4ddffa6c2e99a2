"""Exported graphs that write into values: what is built computes what the module did, or is refused by its name."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from quant_lens_engine.intake.graphs.aten_operators import ALLOWED, VIEWS
from tests.unit.intake.graphs.conftest import built, export, refused, with_graph


class Network(nn.Module):
    def __init__(self, forward):
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 3)
        self.register_buffer("level", torch.full((4,), 0.5))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.body = forward

    def forward(self, x):
        return self.last(self.body(self, self.first(x)))


def through_a_dropout(net, x):
    dropped = F.dropout(x, 0.5, net.training)  # the same value, in evaluation
    dropped.mul_(3.0)
    return x + dropped


def written_twice(net, x):
    first = x.relu_()
    first.add_(1.0)
    return x * first


def through_a_view(net, x):
    part = x[:, :2]
    part.add_(1.0)
    part.mul_(2.0)
    return x


def through_a_view_of_what_was_written(net, x):
    x.add_(1.0)
    part = x.narrow(1, 0, 2)
    part.mul_(0.0)
    return x


def view_before_a_write(net, x):
    turned = x.t()
    x.mul_(2.0)
    return turned.t() + x


def a_counter(net, x):
    net.seen.add_(1)
    return x


def an_average_that_nobody_reads(net, x):
    net.level.mul_(0.9)
    return x


RIGHT = [
    through_a_dropout, written_twice, through_a_view, through_a_view_of_what_was_written, view_before_a_write,
    a_counter, an_average_that_nobody_reads,
]  # fmt: skip


@pytest.mark.parametrize("body", RIGHT, ids=lambda body: body.__name__)
def test_it_computes_what_the_module_did(tmp_path, body):
    torch.manual_seed(0)
    model, x = Network(body).eval(), torch.randn(5, 6)
    with torch.no_grad():
        wanted = copy.deepcopy(model)(x.clone())
    net = built(export(model, (torch.randn(2, 6),), tmp_path / "m.pt2"))
    for _ in range(2):  # and again the same
        assert torch.allclose(net(x.clone()), wanted, atol=1e-6)


def read_after_it_was_written(net, x):
    net.level.add_(1.0)
    return x * net.level


def read_before_it_is_written(net, x):
    scaled = x * net.level
    net.level.mul_(0.5)
    return scaled


def a_counter_that_counts(net, x):
    net.seen.add_(1)
    return x * net.seen


def through_its_own_answer(net, x):
    return x * net.level.add_(1.0)


WRONG = [read_after_it_was_written, read_before_it_is_written, a_counter_that_counts, through_its_own_answer]


@pytest.mark.parametrize("body", WRONG, ids=lambda body: body.__name__)
def test_a_state_that_changes_with_each_call_is_refused(tmp_path, body):
    path = export(Network(body).eval(), (torch.randn(2, 6),), tmp_path / "m.pt2")
    assert "its own tensor" in str(refused(path, "bad_graph"))


def test_whatever_may_answer_with_the_memory_it_was_given_is_known_as_a_view():
    """By what torch says of its operators."""
    views = set()
    for name in ALLOWED:
        packet = getattr(torch.ops.aten, name, None)
        for overload in packet.overloads() if packet else ():
            schema = getattr(packet, overload)._schema
            if any(result.alias_info is not None and not result.alias_info.is_write for result in schema.returns):
                views.add(name)
    assert views
    assert views <= VIEWS


def nodes_of(graph):
    return graph["graph_module"]["graph"]["nodes"]


def name_of(node):
    return node["outputs"][0]["as_tensor"]


def a_name_for_two_values(nodes):
    name_of(nodes[1])["name"] = name_of(nodes[0])["name"]


def a_name_of_a_weight(nodes):
    name_of(nodes[0])["name"] = "p_0_weight"


def another_order(nodes):
    nodes.reverse()


def a_number_without_end(nodes):
    nodes[0]["inputs"].append({"name": "alpha", "arg": {"as_float": 10**400}, "kind": 1})


@pytest.mark.parametrize(
    "change", [a_name_for_two_values, a_name_of_a_weight, another_order, a_number_without_end],
    ids=lambda change: change.__name__,
)  # fmt: skip
def test_names_that_have_two_meanings_are_refused(tmp_path, change):
    model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    path = export(model, (torch.zeros(2, 4),), tmp_path / "m.pt2")
    refused(with_graph(path, lambda graph: change(nodes_of(graph))), "bad_graph")
