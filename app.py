"""Web page with the checkpoint of this repository: run ``python app.py``, then open http://127.0.0.1:7860."""

import sys
from pathlib import Path

from stackgan.cli.app import main

DEFAULT_CHECKPOINT = Path(__file__).resolve().parent / "checkpoints" / "birds-256"
if __name__ == "__main__":
    sys.exit(main(checkpoint=DEFAULT_CHECKPOINT))
