"""stackgan/study/introduction.ipynb: its code cells run in order, in one namespace, and is stored without outputs."""

import json
from pathlib import Path
from typing import Any

import numpy as np

NOTEBOOK = Path(__file__).resolve().parents[2] / "stackgan" / "study" / "introduction.ipynb"


def test_the_notebook_runs_from_top_to_bottom() -> None:
    found = json.loads(NOTEBOOK.read_text("utf-8"))
    cells = [cell for cell in found["cells"] if cell["cell_type"] == "code"]
    assert found["nbformat"] == 4 and all(not cell["outputs"] for cell in cells)
    names: dict[str, Any] = {}
    for cell in cells:
        exec(compile("".join(cell["source"]), f"{NOTEBOOK.name}, {cell['id']}", "exec"), names)
    try:
        difference = np.asarray(names["four"][2], np.int16) - np.asarray(names["alone"], np.int16)
        assert np.abs(difference).max() <= 1  # seed 9 in a batch and alone
        familiar, strange = (density.log_prob for density in names["densities"])
        assert familiar > strange and names["sheets"] and names["same"][0] == names["same"][1]
    finally:
        names["folder"].cleanup()
