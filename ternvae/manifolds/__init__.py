"""The Poincare ball: geometry, manifold, optimizer and distribution.

* :mod:`ternvae.manifolds.math`      pure functions, curvature as a keyword
* :class:`PoincareBall`              the manifold, a ``geoopt.PoincareBall``
* :class:`RiemannianAdam`            Adam for Euclidean and manifold parameters together
* :class:`WrappedNormal`             the wrapped normal distribution with its density
* :class:`ManifoldParameter`         geoopt's parameter that knows its manifold
"""

from ternvae.manifolds import math
from ternvae.manifolds._geoopt import geoopt
from ternvae.manifolds.ball import PoincareBall
from ternvae.manifolds.normal import WrappedNormal
from ternvae.manifolds.optim import RiemannianAdam

ManifoldParameter = geoopt.ManifoldParameter

__all__ = ["ManifoldParameter", "PoincareBall", "RiemannianAdam", "WrappedNormal", "math"]
