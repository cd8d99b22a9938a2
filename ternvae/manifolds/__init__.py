"""The Poincare ball: geometry, manifold, optimizer and distribution.

* :mod:`ternvae.manifolds.math`      pure functions, curvature as a keyword
* :class:`PoincareBall`              the manifold, a ``geoopt.PoincareBall``
* :class:`RiemannianAdam`            Adam for Euclidean and manifold parameters together
* :class:`WrappedNormal`             the wrapped normal distribution with its density
* :class:`ManifoldParameter`         geoopt's parameter that knows its manifold
* :func:`log_chord`                  a monotone function of the distance, to compare pairs by
"""

from ternvae.manifolds import math
from ternvae.manifolds._geoopt import geoopt
from ternvae.manifolds.ball import PoincareBall
from ternvae.manifolds.chord import log_chord
from ternvae.manifolds.normal import WrappedNormal
from ternvae.manifolds.optim import RiemannianAdam

#: geoopt's parameter that knows its manifold; :class:`RiemannianAdam` moves it along geodesics.
ManifoldParameter = geoopt.ManifoldParameter

__all__ = [
    "ManifoldParameter",
    "PoincareBall",
    "RiemannianAdam",
    "WrappedNormal",
    "log_chord",
    "math",
]
