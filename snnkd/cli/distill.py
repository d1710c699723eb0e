"""`snnkd distill`."""

from __future__ import annotations

from typing import Annotated

import typer

from snnkd.cli import options as o
from snnkd.recipe import Flags, resolve_stage
from snnkd.recipe.sweep import not_swept
from snnkd.schema.run import DistillRecipe


def distill(
    recipe: o.Recipe = "glyphs",
    loss: Annotated[
        str | None,
        typer.Option("--loss", metavar="NAME", help="Loss (`snnkd list losses`), with its defaults."),
    ] = None,
    T: Annotated[
        str | None, typer.Option("--T", "--timesteps", "-T", metavar="N", help="Timesteps of the student.")
    ] = None,
    teacher: Annotated[
        str | None,
        typer.Option(
            "--teacher",
            metavar="RUN|FILE",
            help="Teacher's run, `latest`, a file of weights, torchvision:NAME or timm:NAME; the only one of the same data by default.",
        ),
    ] = None,
    teacher_model: Annotated[
        str | None,
        typer.Option(
            "--teacher-model",
            metavar="NAME",
            help="Network of a plain file of weights (`snnkd list models`).",
        ),
    ] = None,
    teacher_weights: Annotated[
        str | None,
        typer.Option(
            "--teacher-weights", metavar="FILE", help="Weights of a --teacher that names a network."
        ),
    ] = None,
    temperature: Annotated[
        str | None, typer.Option("--temperature", metavar="X", help="Softmax temperature of every term.")
    ] = None,
    data: o.Data = None,
    model: o.Model = None,
    neuron: Annotated[
        str | None,
        typer.Option(
            "--neuron", metavar="NAME", help="Spiking neuron (`snnkd list neurons`), with its defaults."
        ),
    ] = None,
    epochs: o.Epochs = None,
    batch_size: o.BatchSize = None,
    lr: o.Lr = None,
    seed: o.Seed = None,
    device: o.Device = None,
    settings: o.Set = None,
    code: o.Code = None,
    allow_weak_teacher: Annotated[
        bool, typer.Option("--allow-weak-teacher", help="Accept a teacher below twice chance accuracy.")
    ] = False,
    out: o.Out = None,
    fresh: o.Fresh = False,
    max_time: o.MaxTime = None,
    track: o.Track = None,
    as_json: o.Json = False,
) -> None:
    """Train a spiking student from a teacher, measure it, print its run directory."""
    o.permit(code, data, model, loss, teacher_model, settings=settings)
    flags = Flags(
        data=data, model=model, neuron=neuron, epochs=epochs, batch_size=batch_size, lr=lr, seed=seed, device=device, track=track,
        settings=settings or (), loss=loss, T=T, teacher=teacher, teacher_model=teacher_model, teacher_weights=teacher_weights,
        temperature=temperature, allow_weak_teacher=allow_weak_teacher,
    )  # fmt: skip
    resolved = resolve_stage(recipe, "distill", flags)
    assert isinstance(resolved, DistillRecipe)
    notes = not_swept(recipe, resolved, "distill")
    with o.stopping(max_time) as stop:
        from snnkd import pipeline

        done = pipeline.distill(resolved, o.make_context(stop, out, fresh, notes))
    o.say_json(done.result) if as_json else o.say(done.folder)
