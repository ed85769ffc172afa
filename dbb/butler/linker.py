"""Making links: in this process, or in one beside it that has only this file to load.

A large job spends as long in the file system as in everything else; a second process does that half meanwhile. It is
started as ``python -I -S linker.py ROOT``, reads records from stdin and says at the end what went wrong.
"""

from __future__ import annotations

import os
import stat
import sys

MOST_PROBLEMS = 10
MOST_FOLDERS = 100
"""How deep a job's files may lie: Python's own tools for trees of folders fail at a thousand."""
SEPARATOR = "\0"
CONFLICT = "conflict "
FIELDS = 4


class LinkMaker:
    """Makes symbolic links below a folder, one after the other.

    Parameters
    ----------
    root
        The folder, which exists.
    """

    def __init__(self, root: str) -> None:
        self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
        self._made: set[str] = set()
        self._folder = ""
        self._descriptor = self._root

    def link(self, source: str, filesize: int | None, target: str, path: str) -> str:
        """Link `path` to `target` if `source` is a file of the registered size.

        Parameters
        ----------
        source
            The file, to be looked at but not opened.
        filesize
            Its size as registered, or None.
        target
            What the link says.
        path
            Where the link shall be, below the root.

        Returns
        -------
        str
            What is wrong, beginning with `CONFLICT` where a file and a folder want one name; empty if all is well.
        """
        problem = source_problem(source, filesize)
        if problem:
            return problem
        folder, _, name = path.rpartition("/")
        try:
            os.symlink(target, name, dir_fd=self.descriptor(folder))
        except (FileExistsError, NotADirectoryError):
            return f"{CONFLICT}{source} cannot be {path}: a file and a folder would have one name there"
        except OSError as error:
            return f"{source} cannot be {path}: {error.strerror}"
        return ""

    def descriptor(self, folder: str) -> int:
        """Return an open descriptor of a folder, which is made; links come folder by folder, so one is kept open."""
        if folder != self._folder:
            self._make(folder)
            opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=self._root)
            self.close_folder()
            self._folder, self._descriptor = folder, opened
        return self._descriptor

    def _make(self, folder: str) -> None:
        wanted = []
        while folder and folder not in self._made:
            wanted.append(folder)
            folder = folder.rpartition("/")[0]
        for one in reversed(wanted):
            try:
                os.mkdir(one, dir_fd=self._root)
            except FileExistsError:
                if not stat.S_ISDIR(os.lstat(one, dir_fd=self._root).st_mode):
                    raise
            self._made.add(one)

    def close_folder(self) -> None:
        """Let go of the folder that is open."""
        if self._descriptor != self._root:
            os.close(self._descriptor)
        self._folder, self._descriptor = "", self._root

    def close(self) -> None:
        """Let go of everything."""
        self.close_folder()
        os.close(self._root)


def source_problem(source: str, filesize: int | None) -> str:
    """Return what is wrong with a local file, by what the directory knows of it; an empty text if nothing is."""
    try:
        found = os.stat(source)
    except OSError as error:
        return f"{source} is registered but cannot be found: {error.strerror}"
    if not stat.S_ISREG(found.st_mode):
        return f"{source} is no regular file"
    if filesize is not None and found.st_size != filesize:
        return f"{source} has {found.st_size} bytes, registered with {filesize}"
    return ""


def encode(source: str, filesize: int | None, target: str, path: str) -> str:
    """Return one record for the process beside; none of the texts can hold a NUL character."""
    return f"{source}\0{'' if filesize is None else filesize}\0{'' if target == source else target}\0{path}\0"


def main() -> None:
    """Read records until there are no more, make the links, and write the problems to stdout."""
    maker = LinkMaker(sys.argv[1])
    problems: list[str] = []
    rest = ""
    while len(problems) <= MOST_PROBLEMS and (data := os.read(0, 1 << 16)):
        rest += os.fsdecode(data)
        *fields, rest = rest.split(SEPARATOR)
        whole = len(fields) // FIELDS * FIELDS
        for at in range(0, whole, FIELDS):
            source, size, target, path = fields[at : at + FIELDS]
            problem = maker.link(source, int(size) if size else None, target or source, path)
            problems += [problem] if problem else []
        rest = SEPARATOR.join([*fields[whole:], rest])
    try:
        os.write(1, os.fsencode(SEPARATOR.join(problems)))
    except BrokenPipeError:
        sys.exit(1)  # whoever asked is gone


if __name__ == "__main__":
    main()
