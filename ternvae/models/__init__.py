"""The dual-encoder variational autoencoder whose latent space is a Poincare ball.

Two encoders read a sequence of ternary digits and answer with a point of the ball and a scale; one
decoder reads a point of the ball and nothing else.  Branch A guards coverage (every sequence can
be read back), branch B develops the hierarchy (radius carries the 3-adic valuation).

The generative model.  With v the valuation of a sequence x and d the dimension of the ball::

    branch A   p(z)     = WN(origin, 1)        q(z | x) = WN(point_A(x), scale_A(x))
    branch B   p(z | v) = WN(prototype_v, 1)   q(z | x) = WN(point_B(x), scale_B(x))
    both       p(x | z) = product over digits of softmax(decoder(chart(log_0 z)))

WN is the wrapped normal of Nagano et al. 2019 with scales in units of hyperbolic length.  The
prototypes are points of the ball, one per level: the centres of branch B's prior.  They are
learned by the KL term, which moves each one towards the centre of its level's posteriors, and as
points of the ball they are moved by Riemannian Adam.
"""

from ternvae.models.arguments import BRANCHES
from ternvae.models.interpolation import Interpolation, interpolate
from ternvae.models.layers import LOG_VARIANCE_RANGE as LOG_VARIANCE_RANGE
from ternvae.models.layers import BranchOutput
from ternvae.models.layers import full_precision as full_precision
from ternvae.models.sampling import LevelMixture, Samples, sample
from ternvae.models.vae import TernaryVAE

__all__ = [
    "BRANCHES",
    "BranchOutput",
    "Interpolation",
    "LevelMixture",
    "Samples",
    "TernaryVAE",
    "interpolate",
    "sample",
]
