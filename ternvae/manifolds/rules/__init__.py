"""The formulas of the ball, each with its derivative, on rows of float64 numbers.

* :mod:`ternvae.manifolds.rules.radial`     maps along a diameter: exp and log at the origin, ...
* :mod:`ternvae.manifolds.rules.pairs`      two points: Moebius sum, distance, exp and log, ...
* :mod:`ternvae.manifolds.rules.tangent`    tangent vectors: conformal factor, transport, ...
* :mod:`ternvae.manifolds.rules.hyperplane` distance to a geodesic hyperplane

**Notation.** ``gap_x = 1 - c|x|^2``; ``d`` is the coordinate difference that a formula is written
in; ``q = c|d|^2``. These, and all quantities called ``kept``, are numbers without a unit.

**Derivatives.** With ``G`` the incoming gradient, ``g_s`` stands for *2c times* the derivative of
``<G, value>`` with respect to the number ``s``: since ``q = c<d, d>`` has the gradient ``2c d``,
the vector ``g_q d`` is then what ``q`` contributes to the gradient of ``d``, and ``-g_gap x`` what
``gap_x`` contributes to that of ``x``. The derivative with respect to ``c`` at fixed vectors comes
from the same numbers, because c enters only through them: ``q`` gives ``g_q q / (2 c^2)`` and
``gap_x`` gives ``-g_gap (1 - gap_x) / (2 c^2)``.
"""
