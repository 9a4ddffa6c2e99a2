"""Team architectures that do what must not hurt a server: die, take all memory, take their time.

Each fits the checkpoint of the example MLP.
"""

import os
import signal
import time
from collections import OrderedDict

import torch
from torch import nn

from quant_lens_engine import architecture


class Misbehaving(nn.Module):
    def __init__(self, misbehave):
        super().__init__()
        self.misbehave = misbehave

    def forward(self, x):
        self.misbehave()
        return x


def perceptron(misbehave):
    return nn.Sequential(
        OrderedDict(
            misbehaving=Misbehaving(misbehave),
            flatten=nn.Flatten(),
            hidden1=nn.Linear(64, 32),
            relu1=nn.ReLU(),
            hidden2=nn.Linear(32, 32),
            relu2=nn.ReLU(),
            classifier=nn.Linear(32, 10),
        )
    )


def take_memory_bit_by_bit():
    held = []
    while True:
        held.append(bytearray(2**24))


@architecture("dies")
def dies(tensors):
    """Kills its process in the first forward pass."""
    return perceptron(lambda: os.kill(os.getpid(), signal.SIGKILL))


@architecture("greedy")
def greedy(tensors):
    """Asks for 128 GiB at once."""
    return perceptron(lambda: torch.ones(2**34, dtype=torch.float64))


@architecture("glutton")
def glutton(tensors):
    """Takes memory bit by bit, for ever."""
    return perceptron(take_memory_bit_by_bit)


@architecture("slow")
def slow(tensors):
    """Takes 20 ms a forward pass, however fast the machine is."""
    return perceptron(lambda: time.sleep(0.02))
