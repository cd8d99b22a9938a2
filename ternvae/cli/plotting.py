"""``ternvae plot``: pictures of a checkpoint."""

from __future__ import annotations

from pathlib import Path

import click

from ternvae.cli.completion import complete_checkpoint
from ternvae.cli.helping import Command
from ternvae.cli.options import check_paths, device_option, option
from ternvae.cli.outcome import BadInputError, usable

__all__ = ["plot"]


@click.command(
    cls=Command,
    examples=[
        ("ternvae plot runs/mine/checkpoints/best_Q.pt", "all, in runs/mine/pictures/best_Q"),
        ("ternvae plot best_Q.pt --picture disk --format svg --out paper", "one, for a paper"),
    ],
)
@click.argument("checkpoint", metavar="CHECKPOINT", shell_complete=complete_checkpoint)
@click.option(
    "--picture",
    "names",
    metavar="NAME",
    multiple=True,
    help="disk (the embedding and the 3-adic tree), radii (by level), curves (of the run), "
    "distances (of pairs) or frontier (richness against Q); may be repeated.  [default: all]",
)
@option(
    "--format",
    "kind",
    type=click.Choice(["png", "svg"]),
    default=["png"],
    help="Kind of file.  [default: png]",
)
@option(
    "--out",
    metavar="DIR",
    help="Folder of the files.  [default: pictures/CHECKPOINT in the folder of the run, or here "
    "for a checkpoint that lies in none]",
)
@option(
    "--projection",
    type=click.Choice(["tree", "pca"]),
    default=["tree"],
    help="How the disk shows more than two dimensions: angles from a linear map fitted to the tree "
    "of digits, or from principal axes.  [default: tree]",
)
@device_option
def plot(
    checkpoint: str,
    names: tuple[str, ...],
    kind: str,
    out: str | None,
    projection: str,
    device: str,
) -> None:
    """Draw pictures of a checkpoint and print the path of each.

    Needs matplotlib: pip install 'ternvae[plot]'
    """
    check_paths(("CHECKPOINT", checkpoint), ("--out", out))
    from ternvae.plots import PICTURES, pictures, require_matplotlib, save_picture, subject_of

    usable(require_matplotlib)
    for name in names:
        if name not in PICTURES:
            known = ", ".join(PICTURES)
            raise BadInputError(f"command line: --picture: got {name!r}, expected one of {known}")
    subject = usable(subject_of, checkpoint, device)
    folder = Path(out) if out is not None else _folder(Path(checkpoint))
    left_out: list[str] = []
    drawn = pictures(
        subject,
        names or None,
        projection=projection,
        skipped=lambda name, why: left_out.append(f"{name}: not drawn: {why}"),
    )
    for name, figure in drawn:
        path = folder / f"{name}.{kind}"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            save_picture(figure, path)
        except OSError as error:
            raise BadInputError(f"--out: {path}: cannot be written: {error.strerror}") from error
        click.echo(str(path))
    if names and left_out:
        raise BadInputError("\n".join(left_out))
    for line in left_out:
        click.echo(line, err=True)


def _folder(checkpoint: Path) -> Path:
    """Where pictures go that were told no place: to their run, those of each checkpoint apart."""
    place = checkpoint.parent
    run = place.parent if place.absolute().name == "checkpoints" else Path()
    return run / "pictures" / checkpoint.stem
