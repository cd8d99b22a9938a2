"""What setup.cfg cannot say: the optional extension modules, and how README.md reads elsewhere.

Where they cannot be compiled (no C compiler, or one without OpenMP) the installation goes on
without them, and torch operations are used instead, which give the same results slower.
"""

import re
from pathlib import Path

from setuptools import Extension, setup

#: No -ffast-math: NaN and infinity must stay what they are. No -Wpsabi: nothing that it warns of is
#: called from elsewhere.
COMPILE = ["-O3", "-fopenmp", "-fno-math-errno", "-Wno-psabi"]


def readme() -> str:
    """README.md for a page without the repository: no pictures, and names in place of links."""
    text = (Path(__file__).parent / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"!\[[^\]]*\]\((?!https?:)[^)]*\)\n*", "", text)
    return re.sub(r"\[([^\]]+)\]\((?!https?:)[^)]*\)", r"\1", text)


setup(
    long_description=readme(),
    long_description_content_type="text/markdown",
    ext_modules=[
        *(
            Extension(
                f"ternvae.losses.{name}",
                [f"ternvae/losses/{name}.c"],
                libraries=["m"],
                extra_compile_args=["-O3", "-std=c11", "-fno-math-errno"],
                optional=True,
            )
            for name in ("_levels", "_pairs")
        ),
        Extension(
            "ternvae.manifolds._tiles",
            ["ternvae/manifolds/_tiles.c"],
            libraries=["m"],
            extra_compile_args=[*COMPILE, "-std=c11"],
            extra_link_args=["-fopenmp"],
            optional=True,
        ),
        Extension(
            "ternvae.models._dense",
            [f"ternvae/models/_dense{part}.c" for part in ("", "_any", "_v3", "_v4")],
            depends=["ternvae/models/_dense.h", "ternvae/models/_dense_tile.h"],
            libraries=["m"],
            # One rounding for a product and a sum: what matrix multiplication does everywhere.
            extra_compile_args=[*COMPILE, "-std=gnu11", "-ffp-contract=fast"],
            extra_link_args=["-fopenmp"],
            optional=True,
        ),
    ],
)
