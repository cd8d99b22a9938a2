"""The one place that imports geoopt, so that its import-time noise is dealt with once.

geoopt 0.5 decorates its formulas with ``torch.jit.script``, and recent PyTorch raises a
``DeprecationWarning`` for each of them. Those warnings, and no others, are silenced here.
"""

import warnings

with warnings.catch_warnings():
    warnings.filterwarnings(
        "ignore", message=r"`torch\.jit\.script` is deprecated", category=DeprecationWarning
    )
    import geoopt

__all__ = ["geoopt"]
