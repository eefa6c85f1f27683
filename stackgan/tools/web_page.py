"""The static page of an export: images in the browser, from its ONNX files, by ONNX Runtime Web.

The page's own files are in ``web/`` beside this module. Files of two packages of npm are copied to ``vendor/`` of the
export, so that the page loads nothing from elsewhere.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

from stackgan.io.json_reader import Fields, read_json

__all__ = ["INSTALL", "PACKAGES", "check_packages", "write_page"]

PACKAGES = {  # name: the version that the page is tested with, the files that it needs
    "onnxruntime-web": ("1.30.0", ("dist/ort.wasm.bundle.min.mjs", "dist/ort-wasm-simd-threaded.wasm")),
    "@huggingface/tokenizers": ("0.2.0", ("dist/tokenizers.min.mjs", "LICENSE")),
}
INSTALL = "npm install --ignore-scripts " + " ".join(f"{name}@{version}" for name, (version, _) in PACKAGES.items())
MANIFEST = "package.json"  # of a package: its version and license
EXAMPLES = 4


def check_packages(modules: Path) -> dict[str, str]:
    """The versions of the packages in a folder ``node_modules``, by name.

    Raises:
        FileNotFoundError: a file of them is missing; the message has npm's command.
    """
    found = {}
    for name, (_, wanted) in PACKAGES.items():
        for file in (MANIFEST, *wanted):
            if not (modules / name / file).is_file():
                raise FileNotFoundError(
                    f"{modules / name / file}: missing; the page needs npm's folder node_modules: {INSTALL}"
                )
        found[name] = read_json(modules / name / MANIFEST, Fields({"version": str}))["version"]
    return found


def write_page(folder: Path, modules: Path, facts: Mapping[str, Any]) -> None:
    """Write the page to the folder of an export, and the packages' files to ``vendor/`` in it.

    Args:
        modules: npm's folder ``node_modules``, see :func:`check_packages`.
        facts: of the checkpoint, for ``facts.json``: name, sizes, z, c, truncation, text, examples.
    """
    with as_file(files("stackgan.tools").joinpath("web")) as own:
        shutil.copytree(own, folder, dirs_exist_ok=True)
    for name, (_, wanted) in PACKAGES.items():
        target = folder / "vendor" / name
        target.mkdir(parents=True)
        for file in (MANIFEST, *wanted):
            shutil.copyfile(modules / name / file, target / Path(file).name)
    models = [name for name in ("text.onnx", "latent.onnx", "generator.onnx") if (folder / name).is_file()]
    sizes = {name: (folder / name).stat().st_size for name in models}
    content = {**facts, "files": sizes}
    (folder / "facts.json").write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
