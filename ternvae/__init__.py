"""Hierarchical representation learning over the 3-adic numbers in a Poincare ball.

Import what you need from the parts; importing the package itself loads nothing heavy:

* ``ternvae.padic``      valuation, distance and the space of ternary sequences (integers)
* ``ternvae.manifolds``  the Poincare ball, Riemannian Adam, the wrapped normal (tensors)
* ``ternvae.models``     the dual-encoder variational autoencoder
* ``ternvae.losses``, ``ternvae.metrics``  what is minimised and what is measured
* ``ternvae.ceilings``   how high the measures can go (no torch)
* ``ternvae.config``, ``ternvae.trainer``  profiles and the training loop that reads them
"""

__version__ = "0.1.0"
