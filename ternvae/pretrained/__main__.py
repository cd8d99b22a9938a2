"""``python -m ternvae.pretrained``: the models of the package, their files, and making them again.

python -m ternvae.pretrained                      names, files and hashes
python -m ternvae.pretrained NAME                 the path of one file, and nothing else
python -m ternvae.pretrained NAME --again FOLDER  train it again in FOLDER and compare
"""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import click

from ternvae.pretrained.making import compare, make
from ternvae.pretrained.shelf import SHELF, path, shelved

__all__ = ["main"]

_DISAGREES, _BAD_INPUT = 1, 2


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Args:
        arguments: those of the program unless given.

    Returns:
        0; 1 if a repetition does not agree with the shipped model; 2 for bad input, told in one
        line on standard error.
    """
    try:
        status = _command.main(arguments, "python -m ternvae.pretrained", standalone_mode=False)
    except click.ClickException as error:
        problem = error.format_message()
    except (ValueError, OSError) as error:
        problem = str(error)
    else:
        return int(status or 0)
    click.echo(problem, err=True)
    return _BAD_INPUT


@click.command()
@click.argument("name", required=False)
@click.option("--again", metavar="FOLDER", help="Train it again in this folder, and compare.")
def _command(name: str | None, again: str | None) -> int:
    """List the models that come with the package, or print the path of one of them."""
    if name is None and again is not None:
        raise ValueError("--again needs the NAME of a model before it")
    if name is None:
        _list()
    elif again is None:
        click.echo(path(name))
    else:
        return _again(name, Path(again))
    return 0


def _list() -> None:
    for name, each in SHELF.items():
        file = path(name)
        click.echo(f"{name}: {each.description}")
        click.echo(f"  file    {file} ({file.stat().st_size} bytes)")
        click.echo(f"  SHA-256 {each.sha256}")
        click.echo(f"  made by ternvae train --profile {each.profile} --seed {each.seed}")
        click.echo(f"  on      {each.made_with}")


def _again(name: str, folder: Path) -> int:
    shelved(name)  # before a folder is made for it
    folder.mkdir(parents=True, exist_ok=True)
    file = make(name, folder)
    found, digest = compare(name, file), hashlib.sha256(file.read_bytes()).hexdigest()
    click.echo(f"\n{'metric':16}  {'shipped':>11}  {'again':>11}  {'within':>8}")
    for each in found.figures:
        values = f"{each.name:16}  {each.shipped:11.7f}  {each.again:11.7f}  {each.within:8g}"
        click.echo(f"{values}  {'yes' if each.agrees else 'NO'}")
    same_file = digest == shelved(name).sha256
    click.echo(f"same weights, bit by bit: {'yes' if found.same_weights else 'no'}")
    click.echo(f"same file: {'yes' if same_file else 'no'} ({file}, SHA-256 {digest})")
    return 0 if found.agrees else _DISAGREES


if __name__ == "__main__":
    sys.exit(main())
