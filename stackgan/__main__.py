"""``python -m stackgan`` runs the command ``stackgan``."""

import sys

from stackgan.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
