"""The one thing that setup.cfg cannot say: the optional extension module.

Where there is no C compiler the build goes on without it, and the package uses torch operations.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "ternvae.manifolds._tiles",
            ["ternvae/manifolds/_tiles.c"],
            extra_compile_args=["-O3", "-std=c11", "-fopenmp", "-fno-math-errno", "-Wno-psabi"],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
    ]
)
