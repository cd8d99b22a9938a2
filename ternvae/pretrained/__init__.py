"""Models that come with the package, trained and checked, ready for inference.

    from ternvae import pretrained

    model = pretrained.load("mathematical_foundation")
    points = model.embed([1, 3, 9, 27, 0])

Importing this loads no torch; :func:`load` does. ``python -m ternvae.pretrained`` lists the models
and their files, and trains one of them again to compare.
"""

from ternvae.pretrained.shelf import available, load, path

__all__ = ["available", "load", "path"]
