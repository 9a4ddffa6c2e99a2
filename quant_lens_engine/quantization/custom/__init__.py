"""Models that other libraries quantized, as variants.

Loss and accuracy come from the model itself; curvature and the smooth landscape need a point among the float model's
parameters. ``reading.py`` finds what a model stores, ``kinds/`` has one file a kind of module or tensor that it can
read, ``mapping.py`` brings what was found under the float model's names, and ``folded_normalization.py`` takes batch
normalisation out of the layers that it was folded into. A new kind is one new file in ``kinds/``.
"""

from quant_lens_engine.quantization.custom.mapping import custom_variant

__all__ = ["custom_variant"]
