"""The command `winnow`, for tasks that need no cluster.

    winnow doctor                        check this machine and advise on each problem
    winnow show-artifact <path or URI>   verify an artifact and print its manifest
    winnow models                        models that can be had by name, and which are here
    winnow models fetch <name>           bring one here; also a GGUF file or a Hugging Face id

`python -m winnow.cli` is the same as `winnow`.
"""

import argparse
import json
import logging
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.artifact import Artifact, open_artifact
from winnow.doctor import examine
from winnow.errors import WinnowError
from winnow.llm.models.named import NAMED, folder_of_model

COLOURS = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns 1 if the doctor finds a fault, 2 after a mistake of the user."""
    parser = argparse.ArgumentParser(
        prog="winnow", description="Check this machine or an artifact. Jobs: python -m jobs.<job>."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("doctor", help="check this machine and advise on each problem")
    show = commands.add_parser("show-artifact", help="verify an artifact and print its manifest")
    show.add_argument("path", help="folder or URI of the artifact")
    models = commands.add_parser("models", help="language models and encoders by name")
    orders = models.add_subparsers(dest="order")
    fetching = orders.add_parser("fetch", help="bring a model here and print its folder")
    fetching.add_argument("name", help="a name, a GGUF file, a folder or a Hugging Face id")
    args = parser.parse_args(argv)
    if args.command == "doctor":
        return doctor()
    try:
        if args.command == "show-artifact":
            show_artifact(open_artifact(args.path))
        elif args.order == "fetch":
            from winnow.llm.models.fetch import fetch  # it loads torch and transformers

            logging.basicConfig(level=logging.INFO, format="%(message)s")
            print(fetch(args.name))
        else:
            show_models()
    except WinnowError as error:
        print(f"winnow: {error}", file=sys.stderr)
        return 2
    return 0


def doctor() -> int:
    """Print every finding; returns 1 if a check fails, else 0."""
    console = Console()
    with console.status("checking this machine; importing the LLM engine takes some seconds"):
        findings = list(examine())
    table = Table("", "found", "what to do", box=None, header_style="dim")
    table.columns[1].overflow = table.columns[2].overflow = "fold"
    for finding in findings:
        status = Text(f"{finding.status:4} {finding.subject}", style=COLOURS[finding.status])
        table.add_row(status, Text(finding.found), Text(finding.advice))
    console.print(table)
    failed = sum(finding.status == "fail" for finding in findings)
    print(f"{failed} of {len(findings)} checks failed" if failed else "fit for Winnow")
    return 1 if failed else 0


def show_artifact(artifact: Artifact) -> None:
    """Print the manifest of an artifact; opening it has verified its files."""
    manifest, files = artifact.manifest, artifact.manifest["files"]
    rows = {
        "kind": artifact.kind,
        "digest": artifact.digest,
        "made by": f"winnow {manifest['winnow']}, {manifest['created']}",
        **{f"from {name}": digest for name, digest in manifest["parents"].items()},
        "config": json.dumps(artifact.config, indent=1),
        "metrics": json.dumps(artifact.metrics, indent=1),
        "files": "\n".join(f"{entry['bytes']:>12,}  {name}" for name, entry in files.items()),
    }
    table = Table(box=None, show_header=False)
    for name, value in rows.items():
        table.add_row(Text(name, style="bold"), Text(value, overflow="fold"))
    Console().print(table)


def show_models() -> None:
    """Print every model that can be had by name."""
    table = Table("name", "kind", "parameters", "licence", "download", "from", "here", box=None)
    for column in table.columns:
        column.overflow = "fold"
    for model in NAMED.values():
        first, *more = model.packages
        folder = folder_of_model(model.name)
        table.add_row(
            *(model.name, model.kind, f"{model.parameters / 1e6:.0f} M", model.licence),
            f"{model.download_bytes / 1e6:.0f} MB",
            f"{first}" + f" and {len(more)} more" * bool(more),
            str(folder or "no"),
        )
    Console().print(table)


if __name__ == "__main__":
    raise SystemExit(main())
