"""The command line: parses, calls one function of the pipeline, prints the result. No torch at import."""

from snnkd.cli.app import main

__all__ = ["main"]
