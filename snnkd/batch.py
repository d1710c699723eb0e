"""Scripts that run the tasks of a recipe: as Slurm jobs, or one after another in a plain shell."""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from snnkd.errors import FileError, RunError, UsageError, counted
from snnkd.files import read_bytes
from snnkd.recipe import resolve_stage
from snnkd.recipe.sweep import Tasks

ARRAY_TASK = "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the jobs do: the command `run` of all tasks, and `teach` of their one teacher, if there is one."""

    run: str
    teach: str | None
    tasks: int
    parallel: int | None = None
    """Tasks at once; None: as many as Slurm starts, or in a plain shell one."""

    @property
    def summary(self) -> str:
        limit = f", at most {self.parallel} at once" if self.parallel else ""
        after = ", after their teacher" if self.teach else ""
        return f"{counted(self.tasks, 'task')} of `{self.run}`{limit}{after}"


def make_work(
    tasks: Tasks, settings: Sequence[str], sweep: Sequence[str], code: Sequence[str], parallel: int | None
) -> Work:
    """The commands of `tasks`, which were resolved with these settings, sweep options and functions."""
    options = _options(("--sweep", sweep), ("--set", settings), ("--code", code))
    return Work(
        run=shlex.join(["snnkd", "run", tasks.recipe, *options]),
        teach=_teacher_command(tasks, settings, code),
        tasks=len(tasks.all),
        parallel=parallel,
    )


def _options(*options: tuple[str, Sequence[str]]) -> list[str]:
    """The words of options that are given once for each value."""
    return [word for option, values in options for value in values for word in (option, value)]


def _teacher_command(tasks: Tasks, settings: Sequence[str], code: Sequence[str]) -> str | None:
    """The command that trains the one teacher of all tasks; None if they have several, or none to train."""
    teachers = {repr(task.pipeline.teach) for task in tasks.all}
    if len(teachers) > 1 or tasks.all[0].pipeline.teach is None:
        return None
    for words in (settings, [each for each in settings if not each.startswith(("sweep.", "distill."))]):
        with suppress(UsageError):
            if {repr(resolve_stage(tasks.recipe, "teach", settings=words))} == teachers:
                options = _options(("--set", words), ("--code", code))
                return shlex.join(["snnkd", "teach", tasks.recipe, *options])
    return None


def first_lines(path: Path | None) -> str:
    """The lines of a file as they stand, without a first line that names a shell. Raises FileError."""
    if path is None:
        return ""
    try:
        text = read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise FileError(f"{path}: not a text file; give #SBATCH lines") from error
    lines = [line for line in text.splitlines() if not line.startswith("#!")]
    return "".join(f"{line}\n" for line in lines)


def slurm_script(work: Work, lines: str = "") -> str:
    """A shell script that submits the teacher's job and the array of tasks, which depends on it.

    `lines` come first in every job. A job that was stopped before its time limit requeues itself.
    """
    parts = [f"#!/bin/bash\n# {work.summary}. Submit them: bash FILE\nset -euo pipefail\n"]
    dependency = ""
    if work.teach:
        parts.append(_submission("teacher", "", _job(lines, work.teach, "$SLURM_JOB_ID")))
        dependency = ' --dependency="afterok:$teacher" --kill-on-invalid-dep=yes'
    if work.tasks == 1:
        parts.append(_submission("tasks", dependency, _job(lines, work.run, "$SLURM_JOB_ID")))
    else:
        limit = f"%{work.parallel}" if work.parallel else ""
        options = f" --array=0-{work.tasks - 1}{limit}{dependency}"
        command = f'{work.run} --task "$SLURM_ARRAY_TASK_ID"'
        parts.append(_submission("tasks", options, _job(lines, command, ARRAY_TASK)))
    jobs = "$teacher $tasks" if work.teach else "$tasks"
    parts.append(f'echo "jobs {jobs}; watch: squeue --me, snnkd status; stop: scancel {jobs}"\n')
    if work.tasks > 1:
        parts.append('echo "when all are done: snnkd compare"\n')
    return "".join(parts)


def _job(lines: str, command: str, job: str) -> str:
    """A batch script; options of `lines` win, since sbatch takes the last."""
    return f"""#!/bin/bash
#SBATCH --requeue
#SBATCH --open-mode=append
{lines}srun {command} --max-time auto
code=$?
if [ "$code" = 75 ] && [ "${{SLURM_RESTART_COUNT:-0}}" -lt 50 ]; then scontrol requeue "{job}"; fi
exit "$code"
"""


def _submission(name: str, options: str, job: str) -> str:
    """Submit `job`, a script, by sbatch; its number goes into the variable `name`."""
    return f"{name}=$(sbatch --parsable --job-name={name}{options} <<'END_OF_JOB'\n{job}END_OF_JOB\n)\n"


def shell_script(work: Work) -> str:
    """A shell script that trains the teacher, then the tasks: `parallel` at once, on a GPU each."""
    task = f'{work.run} --task "$k" || echo "task $k ended with $?" >&2'
    loop = f"for k in $(seq 0 {work.tasks - 1}); do {task}; done\n"
    if work.parallel and work.parallel > 1:
        command = f'CUDA_VISIBLE_DEVICES=$SLOT exec {work.run} --task "$1"'
        threads = f"$(( ($(nproc) + {work.parallel - 1}) / {work.parallel} ))"
        loop = (
            f"export OMP_NUM_THREADS=${{OMP_NUM_THREADS:-{threads}}}\n"
            f"seq 0 {work.tasks - 1} | xargs -P {work.parallel} -n 1 --process-slot-var=SLOT "
            f"sh -c {shlex.quote(command)} task || true\n"
        )
    teacher = f"{work.teach}\n" if work.teach else ""
    head = f"#!/bin/bash\n# {work.summary}. Run them: bash FILE; again: what is unfinished\nset -eu\n"
    return f"{head}{teacher}{loop}snnkd status\n"


def run_script(script: str) -> None:
    """Run a script by bash. Raises FileError where sbatch is missing, RunError if the script fails."""
    if "sbatch" in script and shutil.which("sbatch") is None:
        raise FileError("sbatch is not installed; submit where Slurm is, or give --shell")
    code = subprocess.run(["bash", "-c", script], check=False).returncode
    if code:
        raise RunError(f"the script ended with {code}; print it without --go")
