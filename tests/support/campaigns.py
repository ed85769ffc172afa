"""A campaign of units with two jobs each, whose programs do as they are told, submitted by the real command."""

from __future__ import annotations

from pathlib import Path

from submitted_runs import SubmittedRuns, wait_for

_SUBMIT = """
reqnum = 7
unitname = ${name}
home_archive = home
blocklist = one, two
<block one>
    modulelist = a
</block>
<block two>
    modulelist = b
</block>
<filename_pattern>
    a = ${unitname}-a.txt
    b = ${unitname}-b.txt
</filename_pattern>
<directory_pattern made>
    runtime = made
    ops = ${submit_run}/made
</directory_pattern>
<directory_pattern raw>
    runtime = raw
    ops = raw
</directory_pattern>
<module a>
    modnamepat = a
    <file raw>
        filename = raw.txt
        dirpat = raw
    </file>
    <file made>
        filetype = genfile
        filepat = a
        dirpat = made
    </file>
    <exec_1>
        execname = {folder}/make
        used = file.raw
        was_generated_by = file.made
        <cmdline>
            _1 = ${file.made.fullname}
            _2 = ${file.raw.fullname}
        </cmdline>
    </exec_1>
</module>
<module b>
    modnamepat = b
    <file a>
        depends = a.file.made
        dirpat = made
    </file>
    <file made>
        filetype = genfile
        filepat = b
        dirpat = made
    </file>
    <exec_1>
        execname = {folder}/make
        used = file.a
        was_generated_by = file.made
        <cmdline>
            _1 = ${file.made.fullname}
            _2 = ${file.a.fullname}
        </cmdline>
    </exec_1>
</module>
"""


class Campaigns(SubmittedRuns):
    """A folder with a registry, an archive, a submit file of two jobs for each unit, and a table of units."""

    def __init__(self, url: str, folder: Path, units: int = 2) -> None:
        super().__init__(url, folder)
        self.write(_SUBMIT)
        self.table("name", *(f"U{number}" for number in range(1, units + 1)))

    def table(self, *lines: str) -> None:
        """Write the table."""
        (self.folder / "units.csv").write_text("\n".join(lines) + "\n")

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run the campaign; return what it printed."""
        command = self.start("submit.des", "--table", "units.csv", *arguments)
        out, err = command.communicate(timeout=100)  # it begins many processes
        assert command.returncode == code, out + err
        return out + err

    def attempts(self) -> list[tuple[str, int, str]]:
        """Return all attempts: unit, number and state."""
        return [
            (str(unit), int(number), str(state))
            for unit, number, state in self.ask(
                "select a.unitname, a.attnum, t.state from pfw_attempt a, task t where t.id = a.task_id"
                " order by a.unitname, a.attnum"
            )
        ]

    def most_at_once(self) -> int:
        """Return how many programs ran at the same time, at most, as they have told."""
        now = most = 0
        for line in self.told:
            now += 1 if line.startswith("begin") else -1
            most = max(most, now)
        return most

    def wait_until_told(self, line: str) -> None:
        """Wait until a program has told something."""
        wait_for(lambda: line in self.told)
