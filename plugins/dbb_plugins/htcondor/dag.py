"""The files that DAGMan works from: the DAG, a submit file for each kind of job, scripts, and what is done already."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dbb.engine import EngineJob, EngineWork
from dbb.errors import UsageError
from dbb_plugins.htcondor.packing import SANDBOX, TOKEN
from dbb_plugins.htcondor.settings import CondorSettings

ENGINE = "engine"
"""The folder of this engine's files in the folder of a run."""
SKIP = 85
"""Exit code of the PRE script of a job that has nothing to run."""
_NOT_PLAIN = re.compile(r"[^A-Za-z0-9_.+-]")
_NUMBER = re.compile(r"[0-9]+(\.[0-9]+)?")
_MOST_NAME, _MOST_GROWTH = 60, 100
_SAID = ("project", "campaign", "pipeline", "operator")

PRE_SCRIPT = f"""#!/bin/sh
# Whether the job $1 may start: its file was written when all that it waits for was over.
[ -e "go/$1" ] || exit 1
read -r what < "go/$1"
[ "$what" = skip ] && exit {SKIP}
exit 0
"""
POST_SCRIPT = """#!/bin/sh
# The job $1 ended with status $2 at its try $3 of 0 to $4. Whoever attends the run is left a note of a job's last try;
# when the note is gone, the registry has all, and files are written for the jobs that wait for this one.
if [ "$2" -ne 0 ] && [ "$3" -lt "$4" ]; then
    ./attend.sh
    exit 1
fi
echo "$2 $3" > "notes/$1" || exit 1
waited=0
while [ -e "notes/$1" ]; do
    [ $((waited % 25)) -eq 5 ] && ./attend.sh
    sleep 0.4
    waited=$((waited + 1))
done
[ "$2" -eq 0 ]
"""
_ATTEND = """#!/bin/sh
# Lets somebody attend the run, if nobody does.
flock -n ../workflow.json true || exit 0
(
    flock -n 9 || exit 0
    # by these HTCondor would know the process, and end it together with DAGMan
    for name in $(env | sed -n 's/^\\(_CONDOR_ANCESTOR_[0-9]*\\)=.*/\\1/p'); do unset "$name"; done
    export DBB_REGISTRY={registry}
    exec setsid {command} < /dev/null >> attend.log 2>&1
) 9> attend.lock &
"""
JOB_SCRIPT = """#!/bin/sh
# Runs a job in the folder that HTCondor gives it, as its try $1. What is in try.$1 at its end travels back.
mkdir -p "try.$1/saved" && ln -s "try.$1/saved" saved || exit 1
here=$(printf %s "$PWD" | sed 's/[&|\\\\]/\\\\&/g')
sed "s|{token}|$here|g" {sandbox}/job.json > job.json || exit 1
exec {command} --work work --events "try.$1/record.jsonl" --try "$1"
"""


@dataclass(frozen=True, slots=True)
class Rendered:
    """Files by their names in the folder of the engine.

    Parameters
    ----------
    dag
        Which of them is the DAG.
    texts
        What is in them.
    programs
        Which are run, or hold what only their owner may read.
    """

    dag: str
    texts: Mapping[str, str]
    programs: Collection[str] = ("pre.sh", "post.sh", "attend.sh", "job.sh")


def render(work: EngineWork, settings: CondorSettings, skipped: Collection[str], ready: Collection[str]) -> Rendered:
    """Return the files of a run.

    Parameters
    ----------
    work
        The run.
    settings
        What its operator says of HTCondor.
    skipped
        Jobs that have nothing to run and need not begin.
    ready
        Jobs whose files are there.

    Notes
    -----
    The same run gives the same bytes. Names in the DAG are relative to its folder.
    """
    kinds = _Kinds(work, settings)
    lines = [
        f"# Run {work.run}. Go on after condor_rm: condor_submit_dag -usedagdir {work.run}.dag",
        "CONFIG dagman.config",
        *(f"SET_JOB_ATTR {name} = {quote(value)}" for name, value in attributes(work).items()),
    ]
    for job in work.jobs:
        lines += _node(job, kinds.file_of(job), work.retries, must_wait=job.name not in ready)
    lines += [f"PARENT {' '.join(job.after)} CHILD {job.name}" for job in work.jobs if job.after]
    dag = f"{work.run}.dag"
    texts = {
        dag: "\n".join(lines) + "\n",
        **kinds.texts,
        "dagman.config": _config(work),
        "pre.sh": PRE_SCRIPT,
        "post.sh": POST_SCRIPT,
        "attend.sh": _ATTEND.format(registry=shlex.quote(work.registry), command=shlex.join(work.attendant())),
    }
    if settings.transfers:
        python, *words = work.command(Path("job.json"))
        command = shlex.join([settings.python or python, *words])
        texts["job.sh"] = JOB_SCRIPT.format(token=TOKEN, sandbox=SANDBOX, command=command)
    if skipped:
        texts[f"{dag}.rescue001"] = "".join(f"DONE {job.name}\n" for job in work.jobs if job.name in skipped)
    return Rendered(dag, texts)


def attributes(work: EngineWork) -> dict[str, str]:
    """Return what the ads of DAGMan and of all jobs say of the run."""
    said = {name: work.settings.get(name, "") for name in _SAID}
    known = {"run": work.run, "folder": str(work.folder), **said}
    return {f"dbb_{name}": value for name, value in known.items() if value}


def quote(text: str) -> str:
    """Return a text as ClassAds write it."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def arguments(words: Sequence[str]) -> str:
    """Return words as submit files want them, which is not as a shell does."""
    quoted = ("'" + word.replace("'", "''") + "'" if re.search(r"[\s']|^$", word) else word for word in words)
    return '"' + " ".join(quoted).replace('"', '""') + '"'


def _config(work: EngineWork) -> str:
    # Not strict: DAGMan otherwise refuses a DAG below /tmp, or with whatever else it has a warning for.
    # POST scripts only wait: what more of them tell of at once is merged at once.
    return f"DAGMAN_MAX_JOBS_SUBMITTED = {work.at_once}\nDAGMAN_USE_STRICT = 0\nDAGMAN_MAX_POST_SCRIPTS = 100\n"


def _node(job: EngineJob, submit_file: str, retries: int, *, must_wait: bool) -> list[str]:
    lines = [f"JOB {job.name} {submit_file}"]
    if must_wait:
        lines += [f"SCRIPT PRE {job.name} pre.sh $JOB", f"PRE_SKIP {job.name} {SKIP}"]
    lines.append(f"SCRIPT POST {job.name} post.sh $JOB $RETURN $RETRY $MAX_RETRIES")
    if retries:
        lines.append(f"RETRY {job.name} {retries}")
    priority = job.resources.get("priority", "").strip()
    if re.fullmatch(r"[+-]?[0-9]{1,9}", priority):
        lines.append(f"PRIORITY {job.name} {int(priority)}")
    return lines


@dataclass(slots=True)
class _Kinds:
    """Submit files: jobs of the same modules that ask for the same have one together."""

    work: EngineWork
    settings: CondorSettings
    texts: dict[str, str] = field(default_factory=dict)
    _names: dict[tuple[object, ...], str] = field(default_factory=dict)

    def file_of(self, job: EngineJob) -> str:
        """Return the name of a job's submit file."""
        kind = (job.modules, *sorted(job.resources.items()))
        if kind not in self._names:
            title = _NOT_PLAIN.sub("_", "+".join(job.modules))[:_MOST_NAME] or "job"
            name, number = f"{title}.sub", 1
            while name in self.texts:
                number += 1
                name = f"{title}-{number}.sub"
            self._names[kind] = name
            commands = submit_commands(self.work, self.settings, job)
            self.texts[name] = "".join(f"{key} = {value}\n" for key, value in commands.items()) + "queue\n"
        return self._names[kind]


def submit_commands(work: EngineWork, settings: CondorSettings, job: EngineJob) -> dict[str, str]:
    """Return what the submit file of a job says; ``$(JOB)`` and ``$(RETRY)`` are filled in by DAGMan."""
    folder = _literal(str(work.folder))
    commands = {
        "universe": "vanilla",
        **(_travelling(folder) if settings.transfers else _at_home(work, folder, settings)),
        "initialdir": f"{folder}/jobs/$(JOB)",
        "getenv": settings.getenv,
        "dbb_try": "$(RETRY) + 1",
        "output": "run.$INT(dbb_try).log",
        "error": "run.$INT(dbb_try).log",
        # a job that is told to end has its programs ended and says so, which takes some seconds
        "kill_sig": "SIGTERM",
        "job_max_vacate_time": "30",
        # held for its memory, it would stay so for ever: let it fail, and the next try ask for more
        "periodic_remove": "JobStatus == 5 && HoldReasonCode == 34",
        "notification": "never",
        **_requests(job),
        **{f"My.{name}": quote(value) for name, value in attributes(work).items()},
        "My.dbb_job": '"$(JOB)"',
        "My.dbb_module": quote(",".join(job.modules)),
    }
    return commands | dict(settings.commands)


def _at_home(work: EngineWork, folder: str, settings: CondorSettings) -> dict[str, str]:
    """Return how a job is run that sees the folder of the run."""
    python, *words = work.command(Path("JOB-FILE"))
    path = f"{folder}/jobs/$(JOB)/job.json"
    return {
        "executable": _literal(settings.python or python),
        "arguments": arguments([path if word == "JOB-FILE" else _literal(word) for word in words]),
        "transfer_executable": "False",
        "should_transfer_files": "NO",
    }


def _travelling(folder: str) -> dict[str, str]:
    """Return how a job is run that brings its files along."""
    return {
        "executable": f"{folder}/{ENGINE}/job.sh",
        "arguments": "$INT(dbb_try)",
        "should_transfer_files": "YES",
        "when_to_transfer_output": "ON_EXIT",
        "transfer_input_files": SANDBOX,
        "transfer_output_files": "try.$INT(dbb_try)",
    }


def _requests(job: EngineJob) -> dict[str, str]:
    found = {key: value.strip() for key, value in sorted(job.resources.items()) if key.startswith("request_")}
    growth, memory = found.pop("request_memory_growth", "1"), found.get("request_memory", "")
    if not _NUMBER.fullmatch(growth) or not 1 <= float(growth) <= _MOST_GROWTH:
        raise UsageError(f"request_memory_growth = {growth}: expected a number from 1 to {_MOST_GROWTH}")
    if float(growth) > 1 and _NUMBER.fullmatch(memory):
        found["dbb_memory"] = f"{memory} * pow({growth}, $(RETRY))"
        found["request_memory"] = "$INT(dbb_memory)"
    return found


def _literal(text: str) -> str:
    """Return a text in which submit files see no macro."""
    return text.replace("$", "$(DOLLAR)")
