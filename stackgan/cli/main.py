"""Command line: table of commands and dispatch.

A command is a module with ``add_arguments(parser)`` and ``run(args)``, which returns the exit code. Only the module
of the given command is imported, and it imports other modules when it runs. A new command needs a module and a row of
:data:`COMMANDS`.

Invalid input gives one line on stderr and exit code 2; Ctrl-C gives 130; ``train --stop-after`` gives 3 while the run
is not complete.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from stackgan.cli.parser import Parser, unknown_choice
from stackgan.cli.streams import tolerant_streams

__all__ = ["COMMANDS", "command_parser", "main", "run_command"]

# Name: module, and the summary that --help shows.
COMMANDS = {
    "prepare": ("stackgan.cli.prepare", "create a prepared folder from CUB, your own photos or painted birds"),
    "train": ("stackgan.cli.train", "train on a prepared folder, or resume a run"),
    "config": ("stackgan.cli.config", "list every key of a configuration with its type, value and meaning"),
    "fit-prior": ("stackgan.cli.fit_prior", "fit flow priors to a trained checkpoint; its generator is not changed"),
    "fit-realism": ("stackgan.cli.fit_realism", "fit the network that chooses among candidates (--best-of)"),
    "tilt-prior": ("stackgan.cli.tilt_prior", "tilt the style prior of a checkpoint toward realistic images"),
    "pack": ("stackgan.cli.pack", "write a folder as a split archive, to transfer it to another machine"),
    "unpack": ("stackgan.cli.unpack", "restore a folder from its split archive"),
    "generate": ("stackgan.cli.generate", "generate images for captions given on the command line"),
    "batch": ("stackgan.cli.batch", "generate images for every line of a captions file; resumable"),
    "edit": ("stackgan.cli.edit", "edit your own photo by changing its caption"),
    "sample": ("stackgan.cli.sample", "generate images without text"),
    "walk": ("stackgan.cli.walk", "interpolate between two captions or two seeds, as a video"),
    "evaluate": ("stackgan.cli.evaluate", "evaluate a checkpoint: report.json, report.html and image sheets"),
    "study": ("stackgan.cli.study", "experiments on latent modules and training recipes, with figures"),
    "convert": ("stackgan.cli.convert", "import the published StackGAN-v2 weights"),
    "export": ("stackgan.cli.export", "write a checkpoint as ONNX files, which generate images without PyTorch"),
    "publish": ("stackgan.cli.publish", "write a checkpoint for distribution, in half precision"),
    "average": ("stackgan.cli.average", "average the weights of several checkpoints of one run"),
    "app": ("stackgan.cli.app", "start the web page"),
    "completion": ("stackgan.cli.completion", "print a completion script for bash, zsh or fish"),
    "doctor": ("stackgan.cli.doctor", "report what this machine supports and what is missing"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The program ``stackgan``: runs one command; returns its exit code."""
    if arguments is None:
        tolerant_streams()
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] not in COMMANDS:
        _without_command(words)
    return run_command(words[0], words[1:])


def run_command(name: str, words: Sequence[str], *, prog: str = "stackgan") -> int:
    """Run the command ``name`` with its arguments ``words``; returns its exit code.

    Args:
        prog: name of the program in error messages.
    """
    try:
        args = command_parser(name).parse_args(words)
        from stackgan.runtime.allocator import keep_pages

        keep_pages()
        return int(import_module(COMMANDS[name][0]).run(args))
    except (ValueError, OSError) as error:
        if os.environ.get("STACKGAN_TRACEBACK"):
            raise
        message = str(error)
        if isinstance(error, OSError) and error.strerror and error.filename:
            message = f"{error.filename}: {error.strerror}"
        print(f"{prog}: {' '.join(message.split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\n{prog}: stopped", file=sys.stderr)
        return 130


def command_parser(name: str) -> Parser:
    """The parser of one command."""
    module, summary = COMMANDS[name]
    parser = Parser(prog=f"stackgan {name}", description=f"{summary[0].upper()}{summary[1:]}.")
    import_module(module).add_arguments(parser)
    return parser


def _without_command(words: Sequence[str]) -> NoReturn:
    """Print help or the version, or report an error."""
    from stackgan.version import __version__

    parser = Parser(
        prog="stackgan",
        description="Text to image with StackGAN++: train on captioned photos, generate images, evaluate.",
        epilog="Set STACKGAN_TRACEBACK=1 to see the whole traceback of an error.",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, (_, summary) in COMMANDS.items():
        commands.add_parser(name, help=summary)
    if words and not words[0].startswith("-"):
        parser.error(f"argument COMMAND: {unknown_choice(words[0], list(COMMANDS))}")
    parser.parse_args(words)  # exits
    parser.error("the command comes first")
