"""Train from a script: the same flags as ``ternvae train``.

python examples/train.py --profile mathematical_foundation --test-mode
"""

import sys

from ternvae.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
