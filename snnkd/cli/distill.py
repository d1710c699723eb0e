"""`snnkd distill`."""

from __future__ import annotations

from typing import Annotated

import typer

from snnkd.cli import complete
from snnkd.cli import options as o
from snnkd.cli.places import check_stage, note_other_run
from snnkd.recipe import resolve_stage
from snnkd.recipe.sweep import sweep_notice
from snnkd.recipe.train_section import fitted_keys
from snnkd.schema.run import DistillRecipe

EXAMPLES = (
    "snnkd distill --loss hta-kl --T 4",
    "snnkd distill --loss kl --temperature 2 --teacher latest --seed 1",
    "snnkd distill --loss none --neuron plif --set train.weight_decay=1e-4",
)


def distill(
    context: typer.Context,
    recipe: o.Recipe = "glyphs",
    loss: Annotated[
        str | None,
        typer.Option(
            "--loss",
            metavar="NAME",
            help="Loss (`snnkd list losses`), at its defaults.",
            autocompletion=complete.losses,
        ),
    ] = None,
    T: Annotated[
        str | None, typer.Option("--T", "--timesteps", "-T", metavar="N", help="Timesteps of the student.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="RUN|FILE",
            autocompletion=complete.runs,
            help="Run of the teacher, `latest`, a weights file, torchvision:NAME, timm:NAME or "
            "hf-hub:OWNER/NAME; by default the only teacher of the same data.",
        ),
    ] = None,
    teacher_model: Annotated[
        str | None,
        typer.Option(
            "--teacher-model",
            metavar="NAME",
            help="Network of a --teacher weights file (`snnkd list models`).",
            autocompletion=complete.models,
        ),
    ] = None,
    teacher_weights: Annotated[
        str | None,
        typer.Option(
            "--teacher-weights",
            metavar="FILE",
            help="Weights for a --teacher that names a network: a file, or pretrained.",
        ),
    ] = None,
    temperature: Annotated[
        str | None, typer.Option("--temperature", metavar="X", help="Softmax temperature of every loss term.")
    ] = None,
    data: o.Data = None,
    model: o.Model = None,
    neuron: Annotated[
        str | None,
        typer.Option(
            "--neuron",
            metavar="NAME",
            help="Spiking neuron (`snnkd list neurons`), at its defaults.",
            autocompletion=complete.neurons,
        ),
    ] = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    lr: o.Lr = None,
    init: o.Init = None,
    seed: o.Seed = None,
    device: o.Device = None,
    settings: o.Set = None,
    code: o.Code = None,
    allow_weak_teacher: Annotated[
        bool, typer.Option("--allow-weak-teacher", help="Accept a teacher below twice chance accuracy.")
    ] = False,
    out: o.Out = None,
    fresh: o.Fresh = False,
    continue_anyway: o.ContinueAnyway = False,
    max_time: o.MaxTime = None,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Train a spiking student and print its run directory.

    Run it again after an interruption to continue; a finished run is not repeated.
    """
    o.permit(code, data, model, loss, teacher_model, settings=settings)
    flags = o.stage_flags(context)
    resolved = resolve_stage(recipe, "distill", settings=settings or (), **flags)
    assert isinstance(resolved, DistillRecipe)
    notes = sweep_notice(recipe, resolved, "distill") + note_other_run(recipe, out)
    check_stage(resolved)
    with o.watch_signals(max_time) as stop:
        from snnkd import pipeline

        fitted = fitted_keys(recipe, resolved, settings or (), flags)
        done = pipeline.distill(resolved, o.make_context(stop, out, fresh, notes), fitted)
    o.echo_json(done.result) if as_json else o.echo(done.folder)
