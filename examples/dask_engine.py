"""Steps run by Dask, each when those that it needs are done: python examples/dask_engine.py [FOLDER]."""

import sys
from pathlib import Path

import dask

from dbb.jobs import StepResult, run_step

FOLDER = Path(sys.argv[1] if len(sys.argv) > 1 else "build/dask_engine")


@dask.delayed
def run(number: int, module: str, script: str, output: str, needs: list[StepResult]) -> StepResult:
    """Run one step; what it needs was made by the steps before it, in the same work folder."""
    step = {
        "wrapnum": number,
        "module": module,
        "argv": [["sh", "-c", script]],
        "inputs": [{"fullname": f"out/{path.name}"} for one in needs for path in one.files.values()],
        "outputs": [{"fullname": f"out/{output}", "archivepath": "r1p01"}],
        "log": f"log/{module}_{number}.log",
    }
    result = run_step(step, FOLDER / "work", archives={"home": str((FOLDER / "archive").absolute())}, home="home")
    if result.state != "succeeded":
        raise RuntimeError(f"{module} {number}: {result.reason}")
    return result


(FOLDER / "archive").mkdir(parents=True, exist_ok=True)
visits = (903334, 903336, 903338)
warps = [
    run(n, "warp", f"echo warp-{v} > out/warp-{v}.txt", f"warp-{v}.txt", []) for n, v in enumerate(visits, start=1)
]
coadd = run(4, "coadd", "cat out/warp-*.txt > out/coadd.txt", "coadd.txt", warps)
print("coadd", coadd.compute(scheduler="threads").state)
