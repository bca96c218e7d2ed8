"""What each part costs beside its peer or its limit on the same work, as a table and a JSON.

`make bench`, or `scripts/bench.py maps boxes` for some of input, maps, boxes, evaluation, training,
scale. `make bench against=COMMIT`: what this build costs beside that one.
"""

import json
import os
import platform
import re
import sys
import tempfile
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as every script has it
import torch

from benchmarks.timing import Row
from cam_repro.config import REPOSITORY
from cam_repro.cores import cores_of_this_process
from cam_repro.files import write_text
from cam_repro.provenance import git_state, versions
from cam_repro.reporting.layout import aligned
from cam_repro.throughput import write_images

# Modules of benchmarks/, each with `rows` of a tree of IMAGES val images and a folder to work in.
# They are imported when they are measured: each worker process imports what stands above.
PARTS = {
    "input": "input_rows",
    "maps": "map_rows",
    "boxes": "box_rows",
    "evaluation": "evaluation_rows",
    "training": "training_rows",
    "scale": "scale_rows",
}
IMAGES = 512


def main(parts: list[str]) -> int:
    if parts and parts[0].startswith("against="):
        return import_module("benchmarks.against").main(parts[0].partition("=")[2], parts[1:])
    for part in parts:
        if part not in PARTS:
            choices = ", ".join(PARTS)
            print(f"error: unknown part {part!r}; choose some of: {choices}", file=sys.stderr)
            return 2
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        tree = work / "tree"
        write_images(tree, 10, IMAGES)
        for part in parts or PARTS:
            for row in import_module(f"benchmarks.{PARTS[part]}").rows(tree, work):
                rows.append(row)
                print(_line(row), flush=True)
    met = sum(row.met for row in rows)
    print(f"{met} of {len(rows)} as wanted; {_machine()}")
    if not parts:
        print(_write(rows))
    return 0


def _line(row: Row) -> str:
    verdict = "" if row.met else "   NOT MET"
    low, high = row.spread
    ours = f"{row.what:66} {row.rate:9.1f} {row.unit:9}"
    theirs = f"{row.peer:62} {row.peer_rate:9.1f}"
    ratio = f"{row.ratio:6.2f} [{low:.2f} … {high:.2f}] wanted {row.wanted}{verdict}"
    return f"{row.part:10} {ours} {theirs}   {ratio}"


def _machine() -> str:
    """The processor, and what of it this process may use."""
    name = platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        found = re.search(r"^model name\s*:\s*(.*)$", cpuinfo.read_text(), re.MULTILINE)
        if found is not None:
            name = found[1].strip()
    return f"{name}, {cores_of_this_process()} cores"


def _write(rows: list[Row]) -> Path:
    """results/bench/<machine>.json with everything, and a table of it beside."""
    commit, dirty = git_state()
    machine = _machine()
    record = {
        "machine": machine,
        "commit": commit,
        "dirty": dirty,
        "versions": versions(),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [asdict(row) | {"met": row.met} for row in rows],
    }
    cells = [
        ["part", "what", "rate", "beside", "its rate", "ratio", "smallest … largest", "wanted"]
    ]
    for row in rows:
        low, high = row.spread
        cells.append(
            [
                row.part,
                row.what,
                f"{row.rate:,.1f} {row.unit}",
                row.peer,
                f"{row.peer_rate:,.1f} {row.unit}",
                f"{row.ratio:.2f}",
                f"{low:.2f} … {high:.2f}" if low < high else "",
                row.wanted if row.met else f"{row.wanted}, **not met**",
            ]
        )
    mark = "*" if dirty else ""
    heading = f"# `make bench` on {machine}, commit `{commit[:10]}{mark}`, {record['date'][:10]}"
    name = "".join(letter if letter.isalnum() else "-" for letter in machine.lower())
    path = REPOSITORY / "results/bench" / f"{name}.json"
    write_text(path.with_suffix(".md"), "\n".join([heading, "", *aligned(cells), ""]))
    return write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
