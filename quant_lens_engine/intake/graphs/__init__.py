"""From a graph in a file to a module: for formats that bring a network as well as tensors.

No code of the file is run, and none of torch's or ONNX's loaders is asked to: a graph is read as data, each of its
operators is looked up in a list of ours, and a module is put together from torch's own layers and functions.
"""

from quant_lens_engine.intake.graphs.network import BroughtNetwork, Network

__all__ = ["BroughtNetwork", "Network"]
