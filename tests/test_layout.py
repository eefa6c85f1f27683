"""Rules about the code itself: imports point down, ``import stackgan`` stays light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LAYERS = [
    {"folders"},
    {"prepared", "paraphrase"},
    {"config", "allocator", "grid", "png", "animate", "bags", "swaps", "pieces"},
    {"rewording", "compiler", "layers", "losses", "metrics", "augment", "ema", "health", "schedules"},
    {"text_encoder"},
    {"compact_encoder", "transformers_encoder"},
    {"text", "latent", "latent.distributions", "latent.flows", "latent.conditioning",
     "latent.priors", "latent.encoder", "generator", "discriminator", "data"},
    {"distil", "word_figures"},
    {"caption_contrast"},
    {"model"},
    {"checkpoint", "fuse", "standing"},
    {"pipeline", "convert", "warm_start"},
    {"reader", "caption_file", "features", "latent_figures", "contact_sheets", "report", "colour_words",
     "text_agreement"},
    {"edit_figures", "inception", "picture_sets"},
    {"distances", "memorisation", "colour_agreement", "quick_figures"},
    {"run_state"},
    {"train_step", "run_outputs"},
    {"train", "fit_prior", "evaluate", "batch", "edit", "doctor", "release", "average"},
    {"cli"},
]  # fmt: skip
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}


def _modules() -> list[Path]:
    return sorted(f for f in (ROOT / "stackgan").rglob("*.py") if f.parent.name != "study")


def _name(file: Path) -> str:
    return ".".join(file.relative_to(ROOT / "stackgan").with_suffix("").parts).removesuffix(".__init__")


def _imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{file}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@pytest.mark.parametrize("file", _modules(), ids=_name)
def test_imports_point_down(file: Path) -> None:
    name = _name(file)
    if name == "__init__":
        return
    assert name in LEVEL, f"stackgan/{name}.py has no layer: give it one in tests/test_layout.py"
    for imported in _imports(file):
        target = imported.removeprefix("stackgan.")
        if imported.startswith("stackgan.") and target in LEVEL:
            inside_latent = name.startswith("latent") and target.startswith("latent")
            below = LEVEL[target] < LEVEL[name] or inside_latent
            below = below or (LEVEL[target] == LEVEL[name] == LEVEL["prepared"])
            below = below or (name, target) == ("edit", "batch")
            assert below, f"stackgan.{name} imports {imported}, which is not below it"


@pytest.mark.parametrize("file", sorted((ROOT / "data_prep").glob("*.py")), ids=lambda f: f.stem)
def test_data_preparation_needs_no_torch(file: Path) -> None:
    for imported in _imports(file):
        assert imported.split(".")[0] not in ("torch", "torchvision", "transformers"), imported
        if imported.startswith("stackgan."):
            assert imported.split(".")[1] in ("prepared", "folders"), imported


def test_importing_the_package_is_light() -> None:
    heavy = ("torch", "transformers", "gradio", "torchvision")
    script = f"import sys, stackgan.cli, data_prep; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_lazy_names_are_real() -> None:
    import stackgan

    for name in stackgan.__all__:
        assert getattr(stackgan, name).__name__ == name
    with pytest.raises(AttributeError, match="nosuch"):
        _ = stackgan.nosuch
