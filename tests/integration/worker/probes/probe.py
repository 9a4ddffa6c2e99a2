"""A team architecture that tries, while a file is looked at, what the walls forbid, and says in its keys what went."""

import os
import socket

from torch import nn

from quant_lens_engine import architecture


def fork():
    if os.fork() == 0:
        os._exit(0)


def outcome(act):
    try:
        act()
    except OSError:
        return "stopped"
    return "went_through"


@architecture("probe")
def probe(tensors):
    """Two matrices of the example MLP, and what became of three acts."""
    acts = {
        "read": lambda: os.listdir("/"), "socket": lambda: socket.socket().close(),
        "fork": fork,
    }  # fmt: skip
    said = {f"{name}_{outcome(act)}": nn.Linear(1, 1) for name, act in acts.items()}
    return nn.ModuleDict({"hidden1": nn.Linear(64, 32), "hidden2": nn.Linear(32, 32), **said})
