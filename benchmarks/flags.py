"""Flags of benchmarks."""

import argparse


def make_parser(doc: str) -> argparse.ArgumentParser:
    """A parser whose help is a module's docstring, its examples at the end."""
    description, _, examples = doc.partition("\nexamples:\n")
    return argparse.ArgumentParser(
        description=description,
        epilog="examples:\n" + examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
