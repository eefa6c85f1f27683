"""Web page with the default checkpoint: run ``python app.py``, then open http://127.0.0.1:7860."""

import sys

from stackgan.cli.app import main

if __name__ == "__main__":
    sys.exit(main())
