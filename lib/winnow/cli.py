"""The command `winnow`, for tasks that need no cluster.

    winnow doctor                        check this machine and advise on each problem
    winnow show-artifact <path or URI>   verify an artifact and print its manifest

`python -m winnow.cli` is the same as `winnow`.
"""

import argparse
import json
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from winnow.artifact import Artifact, open_artifact
from winnow.doctor import examine
from winnow.errors import WinnowError

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
    args = parser.parse_args(argv)
    if args.command == "doctor":
        return doctor()
    try:
        show_artifact(open_artifact(args.path))
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


if __name__ == "__main__":
    raise SystemExit(main())
