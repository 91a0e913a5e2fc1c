"""``python -m steerlens_fast``, the same as the command ``steerlens-fast``."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
