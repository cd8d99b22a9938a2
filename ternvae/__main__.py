"""``python -m ternvae`` is the same program as ``ternvae``."""

import sys

from ternvae.cli import main

sys.exit(main())
