"""The 3-adic side of the package: integers and index tensors, no geometry.

Conventions, which every other part relies on:

* The space of n digits is Z/3^n. Digit k of index i is ``(i // 3**k) % 3``, least significant
  first, and the sequence is ``x_k = digit_k - 1`` in {-1, 0, 1}.
* ``v(i)`` is the largest k with 3^k dividing i. ``v(0) = n`` in the space of n digits (the cap),
  and infinity for plain integers.
* ``d(i, j) = 3^-v(i - j)``, and 0 for i = j.
* Level v holds the indices of valuation v: ``2 * 3^(n-1-v)`` of them for v < n, one for v = n.

``valuation``, ``padic_distance`` and ``TernarySpace`` check what they are given.
``digits_of``, ``indices_of`` and the draws ``indices_at_valuation`` and
``partners_at_valuation`` check dtypes, shapes and devices but trust the values of tensors: they
are for index tensors known to be valid, and never wait for the device.
"""

from ternvae.padic.holdout import Holdout, HoldoutSizes
from ternvae.padic.sampling import indices_at_valuation, partners_at_valuation
from ternvae.padic.space import TernarySpace, digits_of, indices_of
from ternvae.padic.valuation import padic_distance, valuation

__all__ = [
    "Holdout",
    "HoldoutSizes",
    "TernarySpace",
    "digits_of",
    "indices_at_valuation",
    "indices_of",
    "padic_distance",
    "partners_at_valuation",
    "valuation",
]
