"""The one thing that setup.cfg cannot say: the optional extension module.

Where it cannot be compiled (no C compiler, or one without OpenMP) the installation goes on without
it, and ``ternvae.manifolds`` uses torch operations instead, which give the same results slower.
"""

from setuptools import Extension, setup

setup(
    ext_modules=[
        Extension(
            "ternvae.manifolds._tiles",
            ["ternvae/manifolds/_tiles.c"],
            libraries=["m"],
            # No -ffast-math: NaN and infinity must stay what they are. No -Wpsabi: nothing that it
            # warns of is called from elsewhere.
            extra_compile_args=["-O3", "-std=c11", "-fopenmp", "-fno-math-errno", "-Wno-psabi"],
            extra_link_args=["-fopenmp"],
            optional=True,
        )
    ]
)
