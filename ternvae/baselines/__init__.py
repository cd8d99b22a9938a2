"""Embeddings of the space by formula: what training has to be compared with.

* :func:`linear_ultrametric`   digits in planes of their own; distances ordered as the 3-adic ones
* :class:`LinearUltrametric`   the same as a model: points by formula, digits read back by formula
* :func:`sarkar`               the tree of the digits, edge by edge (Sarkar 2011)
* :class:`PointTable`          any points as a model, for :func:`ternvae.metrics.evaluate`

Nothing here is trained, drawn or stored on disk.
"""

from ternvae.baselines.linear import LinearUltrametric, linear_ultrametric
from ternvae.baselines.table import PointTable
from ternvae.baselines.tree import sarkar

__all__ = ["LinearUltrametric", "PointTable", "linear_ultrametric", "sarkar"]
