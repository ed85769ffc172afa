"""Steps run from a plain Python loop, without a registry: python examples/plain_python.py [FOLDER]."""

import sys
from pathlib import Path

from dbb.jobs import run_step

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "build/plain_python")
ARCHIVE = FOLDER / "archive"
VISITS = (903334, 903336)


def run(number: int, module: str, script: str, inputs: list[dict], output: str) -> None:
    """Run one step and say how it went."""
    step = {
        "wrapnum": number,
        "module": module,
        "argv": [["sh", "-c", script]],
        "inputs": inputs,
        "outputs": [{"fullname": f"out/{output}", "archivepath": "r1p01"}],
        "log": f"log/{module}_{number}.log",
    }
    result = run_step(step, FOLDER / "work", archives={"home": str(ARCHIVE.absolute())}, home="home")
    print(module, number, result.state, *(path.name for path in result.files.values()))
    if result.state != "succeeded":
        sys.exit(result.reason)


ARCHIVE.mkdir(parents=True, exist_ok=True)
for number, visit in enumerate(VISITS, start=1):
    (ARCHIVE / f"raw-{visit}.txt").write_text(f"{visit}\n")
    raw = {"fullname": f"in/{visit}.txt", "source": {"archive": "home", "relpath": f"raw-{visit}.txt"}}
    run(number, "warp", f"sed s/^/warp-/ in/{visit}.txt > out/warp-{visit}.txt", [raw], f"warp-{visit}.txt")
warps = [{"fullname": f"out/warp-{visit}.txt"} for visit in VISITS]
run(3, "coadd", "cat out/warp-*.txt > out/coadd.txt", warps, "coadd.txt")
