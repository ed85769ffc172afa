"""Files come from real servers whole and checked, or not at all."""

from __future__ import annotations

import gzip
import hashlib
import http.server
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pluggy
import pytest

from dbb import hookspecs
from dbb.storage import StageOutcome, StageRequest
from dbb_plugins import staging
from dbb_plugins.staging import dbb_stage_in

CONTENT = bytes(range(256)) * 12_000  # three megabytes: several reads of a stream


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; `faults` tells by path what goes wrong at the next requests."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.faults: dict[str, list[str]] = defaultdict(list)
        self.asked: Counter[str] = Counter()
        self.agents: set[tuple[str, int]] = set()
        self.release = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: broken connections are what some tests are about."""


class Handler(http.server.SimpleHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        name = self.path.lstrip("/")
        self.server.asked[name] += 1
        self.server.agents.add(self.client_address)
        faults = self.server.faults[name]
        fault = faults.pop(0) if faults else "none"
        path = self.server.folder / name
        if fault.isdigit():
            self.send_error(int(fault))
        elif fault == "drop":
            self.close_connection = True
        elif not path.is_file():
            self.send_error(404)
        else:
            self._send(path.read_bytes(), fault)

    def _send(self, content: bytes, fault: str) -> None:
        half = content[: len(content) // 2]
        self.send_response(200)
        if fault == "encoded":
            self.send_header("Content-Encoding", "gzip")
        if fault == "short":  # nothing tells the client that more should come
            self.send_header("Connection", "close")
        else:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content if fault in {"none", "encoded"} else half)
        if fault == "silent":
            self.wfile.flush()
            self.server.release.wait()
        self.close_connection = fault != "none"

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name is the library's
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    folder = tmp_path / "served"
    folder.mkdir()
    with Server(folder) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()
    fsspec.filesystem("http").clear_instance_cache()


@pytest.fixture
def bucket(s3_client: Any) -> str:
    """URL of a bucket with a file ``a/one.fits``; the settings come from the environment, as in a job."""
    s3_client.create_bucket(Bucket="survey")
    s3_client.put_object(Bucket="survey", Key="a/one.fits", Body=CONTENT)
    return "s3://survey"


@pytest.fixture
def here(tmp_path: Path) -> Path:
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


def request(source: str, here: Path, content: bytes | None = CONTENT, name: str = "") -> StageRequest:
    target = str(here / (name or source.rpartition("/")[2]))
    if content is None:
        return StageRequest(source, target)
    md5sum, sha256 = hashlib.md5(content).hexdigest(), hashlib.sha256(content).hexdigest()
    return StageRequest(source, target, len(content), md5sum, sha256)


def staged(*requests: StageRequest) -> list[StageOutcome]:
    outcomes = dbb_stage_in(requests)
    assert outcomes is not None
    assert [outcome.request for outcome in outcomes] == list(requests)
    return list(outcomes)


def failure(asked: StageRequest) -> str:
    """Stage one file that cannot come; nothing of it may be left."""
    (outcome,) = staged(asked)
    assert outcome.copied == 0
    assert list(Path(asked.target).parent.iterdir()) == []
    assert outcome.error.startswith(f"{asked.source}: ")
    return outcome.error.removeprefix(f"{asked.source}: ")


def assert_arrived(asked: StageRequest, content: bytes = CONTENT) -> None:
    assert staged(asked) == [StageOutcome(asked, len(content))]
    assert Path(asked.target).read_bytes() == content
    assert len(list(Path(asked.target).parent.iterdir())) == 1


def test_the_plugin_fits_its_hook() -> None:
    manager = pluggy.PluginManager("dbb")
    manager.add_hookspecs(hookspecs)
    manager.register(staging)
    manager.check_pending()
    assert manager.hook.dbb_stage_in(requests=[StageRequest("/data/a.fits", "/job/a.fits")]) is None


@pytest.mark.parametrize("source", ["/data/a.fits", "file:///data/a.fits", "rucio://scope/a.fits"])
def test_what_is_local_or_unknown_is_passed_on_with_all_the_rest(source: str, here: Path) -> None:
    assert dbb_stage_in([request("memory://a.fits", here), request(source, here)]) is None


def test_nothing_to_do_is_done() -> None:
    assert staged() == []


def test_a_file_comes_over_http(server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(CONTENT)
    assert_arrived(request(server.url("a.fits"), here))
    assert server.asked["a.fits"] == 1


def test_a_file_comes_from_s3(bucket: str, here: Path) -> None:
    assert_arrived(request(f"{bucket}/a/one.fits", here))


def test_a_file_comes_from_any_file_system_of_fsspec(here: Path) -> None:
    fsspec.filesystem("memory").pipe("/staging/a.fits", CONTENT)
    assert_arrived(request("memory://staging/a.fits", here))


def test_an_empty_file_comes_too(server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(b"")
    assert_arrived(request(server.url("a.fits"), here, b""), b"")


def test_a_file_of_which_nothing_is_registered_comes_unchecked(server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(CONTENT)
    assert_arrived(request(server.url("a.fits"), here, None))


def test_a_compressed_file_stays_so_whatever_the_server_calls_it(server: Server, here: Path) -> None:
    packed = gzip.compress(CONTENT)
    (server.folder / "a.fits.gz").write_bytes(packed)
    server.faults["a.fits.gz"] = ["encoded"]
    assert_arrived(request(server.url("a.fits.gz"), here, packed), packed)


@pytest.mark.parametrize("fault", ["drop", "cut", "short", "503", "429"])
def test_a_download_that_breaks_once_is_tried_again(fault: str, server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(CONTENT)
    server.faults["a.fits"] = [fault]
    assert_arrived(request(server.url("a.fits"), here))
    assert server.asked["a.fits"] == 2


def test_a_download_that_always_breaks_is_given_up_after_three_tries(server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(CONTENT)
    server.faults["a.fits"] = ["503"] * 9
    assert "503" in failure(request(server.url("a.fits"), here))
    assert server.asked["a.fits"] == 3


def test_a_file_that_stays_short_is_given_up_after_two_tries(server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(CONTENT)
    server.faults["a.fits"] = ["short"] * 9
    assert failure(request(server.url("a.fits"), here)).startswith("filesize is 1536000, registered as 3072000;")
    assert server.asked["a.fits"] == 2


def test_a_server_that_is_not_there_is_named(server: Server, here: Path) -> None:
    url = server.url("a.fits")
    server.server_close()
    assert "127.0.0.1" in failure(request(url, here))


def test_an_absent_file_is_asked_for_once(server: Server, here: Path) -> None:
    assert failure(request(server.url("a.fits"), here)) == "it is not there"
    assert server.asked["a.fits"] == 1


@pytest.mark.parametrize("status", ["401", "403"])
def test_a_refusal_is_not_tried_again(status: str, server: Server, here: Path) -> None:
    server.faults["a.fits"] = [status] * 9
    assert status in failure(request(server.url("a.fits"), here))
    assert server.asked["a.fits"] == 1


def test_an_absent_file_or_bucket_of_s3_is_not_there(bucket: str, here: Path) -> None:
    assert failure(request(f"{bucket}/a/two.fits", here)) == "it is not there"
    assert failure(request("s3://nowhere/two.fits", here)) == "it is not there"


def test_wrong_bytes_are_told_and_not_asked_for_again(server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(CONTENT)
    error = failure(request(server.url("a.fits"), here, CONTENT[::-1]))
    assert error.startswith("md5sum is ")
    assert error.endswith("; it is not the file that was registered")
    assert server.asked["a.fits"] == 1


def test_wrong_bytes_from_s3_are_told(bucket: str, here: Path) -> None:
    assert failure(request(f"{bucket}/a/one.fits", here, CONTENT[::-1])).startswith("md5sum is ")


def test_one_failure_leaves_the_others_and_their_order_alone(server: Server, here: Path) -> None:
    fsspec.filesystem("memory").pipe("/staging/mixed.fits", CONTENT)
    for number in range(0, 40, 2):
        (server.folder / f"{number}.fits").write_bytes(CONTENT[:number])
    requests = [request(server.url(f"{n}.fits"), here, CONTENT[:n]) for n in range(40)]
    requests.insert(7, request("memory://staging/mixed.fits", here))
    outcomes = staged(*requests)
    mixed = outcomes.pop(7)
    assert (mixed.copied, mixed.error) == (len(CONTENT), "")
    assert [outcome.copied for outcome in outcomes] == [0 if n % 2 else n for n in range(40)]
    assert [bool(outcome.error) for outcome in outcomes] == [bool(n % 2) for n in range(40)]
    assert len(list(here.iterdir())) == 21


def test_connections_are_used_again(server: Server, here: Path) -> None:
    for number in range(60):
        (server.folder / f"{number}.fits").write_bytes(b"x")
    staged(*(request(server.url(f"{number}.fits"), here, b"x") for number in range(60)))
    assert len(server.agents) <= 16


def test_a_folder_that_is_not_there_is_an_outcome(server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(CONTENT)
    (outcome,) = staged(request(server.url("a.fits"), here / "none"))
    assert "No such file or directory" in outcome.error


@pytest.mark.parametrize(
    ("module", "source", "advice"),
    [
        ("s3fs", "s3://survey/a.fits", "pip install 'mini-dbb[s3]'"),
        ("aiohttp", "https://archive.example/a.fits", "pip install 'mini-dbb[http]'"),
        ("gcsfs", "gs://survey/a.fits", "gcsfs"),
    ],
)
def test_a_backend_that_is_not_installed_is_named_with_the_remedy(
    module: str, source: str, advice: str, here: Path
) -> None:
    code = f"""
import sys
sys.modules[{module!r}] = None  # as if it were not installed
from dbb.storage import StageRequest
from dbb_plugins.staging import dbb_stage_in
import fsspec
fsspec.filesystem("memory").pipe("/a.fits", b"x")
targets = [{str(here / "a")!r}, {str(here / "b")!r}]
missing, other = dbb_stage_in([StageRequest({source!r}, targets[0]), StageRequest("memory://a.fits", targets[1])])
print(missing.error, other.copied)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.startswith(f"{source}: what reads ")
    assert advice in run.stdout
    assert run.stdout.endswith(" 1\n")


def test_an_interrupt_does_not_wait_for_a_silent_server(server: Server, here: Path) -> None:
    (server.folder / "a.fits").write_bytes(CONTENT)
    server.faults["a.fits"] = ["silent"]
    code = f"""
from dbb.storage import StageRequest
from dbb_plugins.staging import dbb_stage_in
dbb_stage_in([StageRequest({server.url("a.fits")!r}, {str(here / "a.fits")!r})])
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True) as process:
        while not list(here.iterdir()):  # until the first bytes are on their way
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, talk = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in talk
    assert process.returncode != 0
    assert not (here / "a.fits").exists()


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    heavy = {"aiohttp", "astropy", "fsspec", "numpy"}
    code = f"import sys, dbb_plugins.staging, dbb_plugins.fits; print(sorted({heavy} & sys.modules.keys()))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "[]\n"
