"""Submitted runs with a home archive and one near the machines, and what lies in both."""

from __future__ import annotations

import functools
import http.server
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
from submitted_runs import PARTS, SubmittedRuns

from dbb import Registry

STEPS = ("seed", *PARTS, "total")
RAW = "raw/raw.txt"


def outputs(run: str = "U_r1p01") -> set[str]:
    """Return the paths of all that a run keeps."""
    logs = {f"{run}/log/{name.split('-')[0]}/{name.replace('-', '_')}.log" for name in STEPS}
    return {f"{run}/made/{name}.txt" for name in STEPS} | logs


class TwoArchives(SubmittedRuns):
    """Runs whose archive near the machines is the folder ``near``; `settings` are more lines of the submit file."""

    def __init__(self, url: str, folder: Path, *settings: str) -> None:
        super().__init__(url, folder)
        self.home, self.near = folder / "home", folder / "near"
        with Registry(url) as registry:
            registry.add_archive("near", str(self.near))
        lines = ["home_archive = home", "target_archive = near", *settings, ""]
        self.change(("home_archive = home\n", "\n".join(lines)))

    def places(self, archive: str) -> set[str]:
        """Return what the registry says is in an archive."""
        found = self.ask(f"select path, filename, compression from file_archive_info where archive_name = '{archive}'")
        return {f"{path}/{filename}{compression}" for path, filename, compression in found}

    def move_home(self, url: str) -> None:
        """Let the home archive be elsewhere."""
        with Registry(self.url) as registry, registry.engine.begin() as conn:
            conn.exec_driver_sql(f"update ops_archive set root = '{url}' where name = 'home'")

    def check(self, run: str = "U_r1p01") -> None:
        """Both archives hold what the registry says, whole."""
        assert files(self.near) == self.places("near")
        assert files(self.home) == self.places("home")
        assert self.places("home") >= {RAW, *outputs(run)}


def files(folder: Path) -> set[str]:
    """Return what lies below a folder."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


class _Quiet(http.server.SimpleHTTPRequestHandler):
    asked: Counter[str]

    def do_GET(self) -> None:
        """Count, and answer."""
        self.asked[self.path] += 1
        super().do_GET()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the library's
        """Say nothing."""


@contextmanager
def served(folder: Path) -> Iterator[tuple[str, Counter[str]]]:
    """Serve a folder by HTTP; give its URL, and how often each path was asked for."""
    asked: Counter[str] = Counter()
    handler = functools.partial(type("Counting", (_Quiet,), {"asked": asked}), directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()
        thread.join()
    fsspec.filesystem("http").clear_instance_cache()
