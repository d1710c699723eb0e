"""`snnkd predict`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from snnkd import distributed
from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.places import check_networks
from snnkd.cli.text import prediction_text
from snnkd.errors import FileError
from snnkd.files import check_pictures
from snnkd.recipe import resolve_execution
from snnkd.schema import fields
from snnkd.schema.run import Confidence

EXAMPLES = (
    "snnkd predict RUN cat.jpg",
    "snnkd predict RUN photos --json > classes.json",
    "snnkd predict RUN cat.jpg --confidence 0.99",
)


def predict(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", autocompletion=complete.runs, help="A run, an export, or hf-hub:OWNER/NAME."
        ),
    ],
    pictures: Annotated[
        list[Path],
        typer.Argument(metavar="PICTURE", help="Pictures, or folders: all pictures in them and below."),
    ],
    confidence: Annotated[
        str,
        typer.Option(
            "--confidence",
            metavar="P",
            help="Sure at t: the first timestep at which the class has this probability.",
        ),
    ] = "0.9",
    batch_size: Annotated[
        str, typer.Option("--batch-size", metavar="N", help="Images per forward pass.")
    ] = "250",
    device: o.Device = None,
    code: o.Code = None,
    as_json: o.Json = False,
) -> None:
    """Predict the class of pictures, and when the network was sure.

    Class and probability are those after the last timestep, by the softmax of the mean logits. A picture is
    scaled to cover the network's input, cropped at the centre, and normalised as the training data.

    A picture that cannot be read is left out with a line on stderr, and the command exits with 3 at its end.
    """
    o.permit(code)
    distributed.refuse_torchrun("predict")
    threshold = fields.coerce(Confidence, confidence, "--confidence")
    execution = resolve_execution(device or "auto", batch_size)
    if execution.device in ("auto", "cpu"):
        check_networks([run], latest=False)
        check_pictures(pictures)
    with o.watch_signals() as stop:
        from snnkd import pipeline

        predicted = pipeline.predict(run, pictures, threshold, o.make_context(stop), execution)
    if as_json:
        o.echo_json(predicted)
    elif predicted["predictions"]:
        o.echo(prediction_text(predicted["predictions"]))
    _check_complete(predicted)


def _check_complete(predicted: dict[str, Any]) -> None:
    """Raise FileError if pictures were left out."""
    left_out = len(predicted["left_out"])
    if left_out:
        total = left_out + len(predicted["predictions"])
        raise FileError(f"{left_out} of {total} pictures cannot be read; the reasons are above")
