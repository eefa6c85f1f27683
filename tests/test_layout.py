"""Import rules between packages, and the cost of ``import stackgan``.

:func:`violations` parses the imports of a tree of files without executing them and returns all violations of the
rules; further tests violate each rule in a small tree. Imports inside functions, for type checkers only, and by
``import_module("name")`` count like all others.
"""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

FILES = {"__init__", "__main__", "version", "model", "checkpoint"}  # of stackgan/ itself
# Files and packages of stackgan/, bottom to top: each imports from the lines above its own, and from itself.
ORDER = (
    ("config", "version", "runtime", "io"),
    ("images",),
    ("captions", "networks"),
    ("data", "latent"),
    ("text", "model"),
    ("checkpoint",),
    ("pipeline",),
    ("generation", "evaluation"),
    ("training", "app"),
    ("tools", "study"),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {name: level for level, names in enumerate(ORDER) for name in names}
FOR_DATA_PREP = {"data", "io", "images", "captions"}  # what data_prep imports of stackgan
WITH_DATA_PREP = {"evaluation", "study", "app", "cli"}  # what imports data_prep
WITHOUT_TORCH = {"captions", "data_prep"}  # directly or through any module
TORCH = {"torch", "torchvision", "transformers"}
OPTIONAL = {  # packages of extras, and of the hub, with the files or packages that may import them
    "datasets": {"data_prep.datasets"},
    "efficientnet_lite_pytorch": {"stackgan.networks.frozen_features"},
    "gradio": {"stackgan.app"},
    "huggingface_hub": {"stackgan.io.hub"},
    "imageio": {"stackgan.images.video"},
    "imageio_ffmpeg": {"stackgan.images.video"},
    "matplotlib": {"stackgan.study.figures"},
    "onnx": {"stackgan.networks.onnx_graph"},
    "onnxruntime": {"stackgan.runtime.engines", "stackgan.tools.onnx_example"},
    "sklearn": {"stackgan.images.mosaic", "stackgan.study.vae_digits"},  # of two extras: eval and study
    "tensorboard": {"stackgan.training.log"},
    "torch.utils.tensorboard": {"stackgan.training.log"},
    "torchvision": {"stackgan.networks.frozen_features"},
    "torch_fidelity": {"stackgan.evaluation.inception"},
    "zuko": {"stackgan.study.flow_2d"},
}
BY_NAME = {"import_module", "__import__", "optional"}  # functions that import a module by name


@dataclass
class Module:
    """A file: its imports from the project and from elsewhere, and its own violations."""

    name: str
    project: set[str] = field(default_factory=set)
    others: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    @property
    def place(self) -> str:
        """Its file or package in stackgan/; data_prep; app for the file app.py."""
        top, _, rest = self.name.partition(".")
        return top if top != "stackgan" else rest.partition(".")[0] or "__init__"


def violations(root: Path) -> list[str]:
    """Violations of the rules in stackgan/, data_prep/ and app.py below ``root``, each as ``module: violation``."""
    files = {_name(file.relative_to(root)): file for file in _files(root)}
    modules = {name: _read(name, file, files) for name, file in files.items()}
    found = [f"{_name(file)}: its folder has no __init__.py" for file in _outside_packages(root)]
    for module in modules.values():
        placed = _misplaced(module, files[module.name], root)
        wrong = [*module.wrong, *placed, *_wrong_imports(module, modules)]
        found += [f"{module.name}: {what}" for what in wrong]
    try:
        graphlib.TopologicalSorter({name: module.project for name, module in modules.items()}).prepare()
    except graphlib.CycleError as error:
        cycle = list(reversed(error.args[1]))
        found.append(f"{min(cycle)}: import cycle {' -> '.join(cycle)}")
    return found


def _files(root: Path) -> list[Path]:
    inside = [*(root / "stackgan").rglob("*.py"), *(root / "data_prep").rglob("*.py")]
    return sorted([*inside, *root.glob("app.py")])


def _name(file: Path) -> str:
    return ".".join(file.with_suffix("").parts).removesuffix(".__init__")


def _outside_packages(root: Path) -> list[Path]:
    return [
        file.relative_to(root)
        for file in _files(root)
        if file.parent != root and not (file.parent / "__init__.py").is_file()
    ]


def _read(name: str, file: Path, files: Mapping[str, Path]) -> Module:
    module, aliases = Module(name), {}
    tree = ast.parse(file.read_text("utf-8"))
    for node in ast.walk(tree):
        for target, alias in _imports(node):
            if target.startswith("."):
                module.wrong.append(f"relative import of {target}")
            elif target.split(".")[0] not in ("stackgan", "data_prep"):
                module.others.add(target)
            else:
                home = _home(target, files)
                aliases[alias] = target
                if home is None:
                    module.wrong.append(f"imports {target}, which does not exist")
                elif home != name:
                    module.project.add(home)
                    if any(_private(part) for part in target.split(".")):
                        module.wrong.append(f"imports the private name {target}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _private(node.attr) and aliases.get(ast.unparse(node.value)) in files:
            module.wrong.append(f"uses the private name {ast.unparse(node)}")
    return module


def _imports(node: ast.AST) -> Iterator[tuple[str, str]]:
    """The dotted names that a node imports, each with its local name; relative ones begin with a dot."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, alias.asname or alias.name) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        home = "." * node.level + (node.module or "")
        yield from ((f"{home}.{alias.name}", alias.asname or alias.name) for alias in node.names)
    elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in BY_NAME:
        first = node.args[0] if node.args else None
        if isinstance(first, ast.Constant) and isinstance(first.value, str):
            yield first.value, ""


def _home(target: str, files: Mapping[str, Path]) -> str | None:
    """The module of an imported name: the name itself, or its parent."""
    return target if target in files else next((n for n in [target.rpartition(".")[0]] if n in files), None)


def _private(name: str) -> bool:
    return name.startswith("_") and not name.endswith("__")


def _misplaced(module: Module, file: Path, root: Path) -> Iterator[str]:
    if not module.name.startswith("stackgan"):
        return
    if module.place not in LEVEL:
        yield "has no place: give it one in ORDER of tests/test_layout.py, or move it into a package"
    elif (file.parent == root / "stackgan") != (module.place in FILES):
        yield f"{module.place} is {'a file' if module.place in FILES else 'a package'} of stackgan/"


def _wrong_imports(module: Module, modules: Mapping[str, Module]) -> Iterator[str]:
    place = module.place
    for name in sorted(module.project):
        target = modules[name].place
        if target == place or module.name == "app":
            continue
        if target == "data_prep":
            allowed = place in WITH_DATA_PREP
        elif place == "data_prep":
            allowed = target in FOR_DATA_PREP
        else:
            allowed = LEVEL.get(target, 0) < LEVEL.get(place, len(ORDER))
        if not allowed:
            yield f"imports {name}, which is not below it"
    for name in sorted(module.others):
        for package, homes in OPTIONAL.items():
            if _inside(name, package) and not any(_inside(module.name, home) for home in homes):
                yield f"imports {name}, which belongs to {' and '.join(sorted(homes))}"
    if place in WITHOUT_TORCH:
        for name in sorted(_reached(module.name, modules)):
            if heavy := sorted(other for other in modules[name].others if other.split(".")[0] in TORCH):
                yield f"must do without torch, and {name} imports {heavy[0]}"


def _inside(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def _reached(name: str, modules: Mapping[str, Module]) -> set[str]:
    found, new = set(), {name}
    while new:
        found |= new
        new = set().union(*(modules[n].project for n in new)) - found
    return found


# --- this tree ----------------------------------------------------------------------------------------------


@lru_cache
def _here() -> tuple[str, ...]:
    return tuple(violations(ROOT))


@pytest.mark.parametrize("name", [_name(file.relative_to(ROOT)) for file in _files(ROOT)])
def test_a_module_keeps_the_rules(name: str) -> None:
    assert [found for found in _here() if found.startswith(f"{name}:")] == []


def test_the_tree_keeps_the_rules_and_its_top_is_small() -> None:
    assert _here() == ()
    top = [entry.name for entry in (ROOT / "stackgan").iterdir() if entry.is_file()]
    assert sorted(top) == sorted([*(f"{name}.py" for name in FILES), "PAPER.md", "py.typed"]) and len(top) <= 8
    unplaced = {name for name in LEVEL if not list((ROOT / "stackgan").glob(f"{name}*"))}
    assert unplaced == set()


def test_every_test_folder_is_a_package_of_the_code() -> None:
    """Test folders mirror packages; tests at the root are for files of ``stackgan/`` itself, or for everything."""
    packages = {path.name for path in (ROOT / "stackgan").iterdir() if path.is_dir()}
    folders = [path for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.glob("*.py"))]
    assert {path.name for path in folders} <= packages | {"data_prep", "benchmarks", "fuzz", "gpu", "slow"}
    assert all((path / "__init__.py").is_file() for path in folders)
    whole = {"test_additions", "test_bundled", "test_extras", "test_layout", "test_paper", "test_readme"}
    whole |= {"test_top_level", "test_wheel"}
    assert {file.stem for file in (ROOT / "tests").glob("test_*.py")} <= {f"test_{name}" for name in FILES} | whole


# --- modified trees: every rule can fail --------------------------------------------------------------------

SOUND = {
    "app.py": "from stackgan.cli.main import main\n",
    "data_prep/__init__.py": "",
    "data_prep/cub.py": "from stackgan.data.prepared import Writer\nfrom data_prep import words\nimport numpy\n",
    "data_prep/words.py": "import stackgan.captions.file\n",
    "stackgan/__init__.py": "from importlib import import_module\nfrom stackgan.version import __version__\n",
    "stackgan/__main__.py": "from stackgan.cli.main import main\n",
    "stackgan/version.py": "__version__ = '1'\n",
    "stackgan/captions/__init__.py": "",
    "stackgan/captions/file.py": "def read(): ...\n_KINDS = ()\n",
    "stackgan/networks/__init__.py": "",
    "stackgan/networks/layers.py": "import torch\nfrom torch import _C\n",
    "stackgan/data/__init__.py": "",
    "stackgan/data/prepared.py": "from stackgan.captions import file\nfile.read()\n",
    "stackgan/data/sampler.py": "import torch\nfrom stackgan.data.prepared import Writer\n",
    "stackgan/latent/__init__.py": "",
    "stackgan/latent/priors.py": "from stackgan.networks.layers import glu\n",
    "stackgan/evaluation/__init__.py": "",
    "stackgan/evaluation/painted.py": "def f():\n    from data_prep.cub import prepare\n",
    "stackgan/app/__init__.py": "",
    "stackgan/app/page.py": "import gradio\nfrom stackgan.evaluation import painted\n",
    "stackgan/study/__init__.py": "",
    "stackgan/study/figures.py": "axes = optional('matplotlib.axes')\n",
    "stackgan/study/flow_2d.py": "import stackgan.study.figures as figures\nflows = optional('zuko.flows')\n",
    "stackgan/cli/__init__.py": "",
    "stackgan/cli/main.py": "from stackgan.version import __version__\nimport data_prep.cub\n",
}

UPWARD = "imports {}, which is not below it"
NOT_PLACED = "has no place: give it one in ORDER of tests/test_layout.py, or move it into a package"

# Text added to a file of the valid tree (or a new file), and the expected violation.
DOCTORED = {
    "a lower package imports a higher one": (
        "stackgan/networks/layers.py", "import stackgan.data.prepared",
        ["stackgan.networks.layers: " + UPWARD.format("stackgan.data.prepared")]),
    "upward inside a function": (
        "stackgan/networks/layers.py", "def f():\n    from stackgan.study.figures import axes",
        ["stackgan.networks.layers: " + UPWARD.format("stackgan.study.figures")]),
    "upward for the type checker alone": (
        "stackgan/latent/priors.py", "if TYPE_CHECKING:\n    from stackgan.study.figures import Axes",
        ["stackgan.latent.priors: " + UPWARD.format("stackgan.study.figures")]),
    "upward by the name of a module": (
        "stackgan/latent/priors.py", "importlib.import_module('stackgan.study.figures')",
        ["stackgan.latent.priors: " + UPWARD.format("stackgan.study.figures")]),
    "a package beside it": (
        "stackgan/latent/priors.py", "from stackgan.data import sampler",
        ["stackgan.latent.priors: " + UPWARD.format("stackgan.data.sampler")]),
    "the package as a whole": (
        "stackgan/latent/priors.py", "from stackgan import StackGAN",
        ["stackgan.latent.priors: " + UPWARD.format("stackgan")]),
    "a study beside tools": (
        "stackgan/evaluation/painted.py", "import stackgan.study.figures",
        ["stackgan.evaluation.painted: " + UPWARD.format("stackgan.study.figures")]),
    "two files that import each other": (
        "stackgan/study/figures.py", "def f():\n    import stackgan.study.flow_2d",
        ["stackgan.study.figures: import cycle"]),
    "a cycle in data_prep": ("data_prep/words.py", "from data_prep import cub", ["data_prep.cub: import cycle"]),
    "a private name": (
        "stackgan/data/prepared.py", "from stackgan.captions.file import _KINDS",
        ["stackgan.data.prepared: imports the private name stackgan.captions.file._KINDS"]),
    "a private name by its module": (
        "stackgan/data/prepared.py", "file._KINDS",
        ["stackgan.data.prepared: uses the private name file._KINDS"]),
    "a private name by a dotted module": (
        "data_prep/words.py", "stackgan.captions.file._KINDS",
        ["data_prep.words: uses the private name stackgan.captions.file._KINDS"]),
    "a private name by an alias, in study/": (
        "stackgan/study/flow_2d.py", "figures._axes",
        ["stackgan.study.flow_2d: uses the private name figures._axes"]),
    "a private name in app.py": (
        "app.py", "from stackgan.cli.main import _parser",
        ["app: imports the private name stackgan.cli.main._parser"]),
    "a relative import": (
        "stackgan/data/sampler.py", "from .prepared import Writer",
        ["stackgan.data.sampler: relative import of .prepared.Writer"]),
    "a relative import in data_prep": (
        "data_prep/cub.py", "from . import words", ["data_prep.cub: relative import of ..words"]),
    "a file that nobody placed": ("stackgan/latent_figures.py", "", ["stackgan.latent_figures: " + NOT_PLACED]),
    "a package that nobody placed": (
        "stackgan/latent_powers/__init__.py", "", ["stackgan.latent_powers: " + NOT_PLACED]),
    "a package's name on a file": ("stackgan/io.py", "", ["stackgan.io: io is a package of stackgan/"]),
    "a file's name on a package": (
        "stackgan/model/__init__.py", "", ["stackgan.model: model is a file of stackgan/"]),
    "a folder that is no package": (
        "stackgan/latent/flows/maf.py", "", ["stackgan.latent.flows.maf: its folder has no __init__.py"]),
    "a module that is not there": (
        "stackgan/cli/main.py", "from stackgan.diagnostics import TrainingDiagnostics",
        ["stackgan.cli.main: imports stackgan.diagnostics.TrainingDiagnostics, which does not exist"]),
    "data_prep imports a higher package": (
        "data_prep/words.py", "import stackgan.evaluation",
        ["data_prep.words: " + UPWARD.format("stackgan.evaluation")]),
    "data_prep imports torch": (
        "data_prep/words.py", "def f():\n    import torch.nn",
        ["data_prep.cub: must do without torch, and data_prep.words imports torch.nn",
         "data_prep.words: must do without torch, and data_prep.words imports torch.nn"]),
    "data_prep reaches torch": (
        "data_prep/words.py", "from stackgan.data.sampler import Sampler",
        ["data_prep.cub: must do without torch, and stackgan.data.sampler imports torch",
         "data_prep.words: must do without torch, and stackgan.data.sampler imports torch"]),
    "captions import torch": (
        "stackgan/captions/file.py", "from torch import Tensor",
        ["data_prep.cub: must", "data_prep.words: must",
         "stackgan.captions.file: must do without torch, and stackgan.captions.file imports torch.Tensor"]),
    "training imports data_prep": (
        "stackgan/latent/priors.py", "from data_prep.cub import prepare",
        ["stackgan.latent.priors: " + UPWARD.format("data_prep.cub")]),
    "gradio outside the page": (
        "stackgan/cli/main.py", "import gradio as gr",
        ["stackgan.cli.main: imports gradio, which belongs to stackgan.app"]),
    "gradio in app.py": ("app.py", "import gradio", ["app: imports gradio, which belongs to stackgan.app"]),
    "matplotlib in another study": (
        "stackgan/study/flow_2d.py", "if TYPE_CHECKING:\n    from matplotlib.axes import Axes",
        ["stackgan.study.flow_2d: imports matplotlib.axes.Axes, which belongs to stackgan.study.figures"]),
    "zuko by its name": (
        "stackgan/study/figures.py", "optional('zuko.flows')",
        ["stackgan.study.figures: imports zuko.flows, which belongs to stackgan.study.flow_2d"]),
    "tensorboard through torch": (
        "stackgan/data/sampler.py", "from torch.utils.tensorboard import SummaryWriter",
        ["stackgan.data.sampler: imports torch.utils.tensorboard.SummaryWriter, which belongs to"]),
    "an optional package in data_prep": (
        "data_prep/words.py", "import sklearn", ["data_prep.words: imports sklearn, which belongs to"]),
}  # fmt: skip


def write_tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_a_sound_tree_has_no_violations(tmp_path: Path) -> None:
    assert violations(write_tree(tmp_path, SOUND)) == []


@pytest.mark.parametrize("case", DOCTORED)
def test_each_rule_can_fail(tmp_path: Path, case: str) -> None:
    name, added, wanted = DOCTORED[case]
    found = sorted(violations(write_tree(tmp_path, SOUND | {name: f"{SOUND.get(name, '')}{added}\n"})))
    assert len(found) == len(wanted), found
    assert all(words in violation for violation, words in zip(found, sorted(wanted), strict=True)), found


@pytest.mark.parametrize("package", OPTIONAL)
def test_each_optional_package_is_held_to_its_file(tmp_path: Path, package: str) -> None:
    homes = " and ".join(sorted(OPTIONAL[package]))
    tree = write_tree(tmp_path, SOUND | {"stackgan/latent/priors.py": f"def f():\n    import {package}\n"})
    assert violations(tree) == [f"stackgan.latent.priors: imports {package}, which belongs to {homes}"]


# --- cost of an import --------------------------------------------------------------------------------------


def test_importing_the_package_is_light() -> None:
    heavy = ("torch", "transformers", "gradio", "torchvision")
    script = f"import sys, stackgan.cli.main, data_prep; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_lazy_names_are_real() -> None:
    import stackgan

    for name in stackgan.__all__:
        assert getattr(stackgan, name).__name__ == name
    with pytest.raises(AttributeError, match="nosuch"):
        _ = stackgan.nosuch


def test_the_version_stands_in_one_place() -> None:
    import tomllib

    import stackgan
    from stackgan.version import __version__

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    assert "version" not in settings["project"] and settings["project"]["dynamic"] == ["version"]
    assert settings["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "stackgan.version.__version__"}
    assert stackgan.__version__ == __version__


def test_python_m_stackgan_is_the_command() -> None:
    command = [sys.executable, "-m", "stackgan", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.startswith("stackgan ")
