"""What each part costs beside its peer or its limit on the same work in the same run: one table,
and a JSON of it.

`make bench`, or `scripts/bench.py maps boxes` for some of input, maps, boxes, evaluation, training,
scale.
"""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path

os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as every script has it
import torch

from benchmarks import box_rows, evaluation_rows, input_rows, map_rows, scale_rows, training_rows
from benchmarks.timing import Row
from cam_repro.config import REPOSITORY
from cam_repro.cores import cores_of_this_process
from cam_repro.files import write_text
from cam_repro.provenance import git_state, versions
from cam_repro.reporting.layout import aligned
from cam_repro.throughput import write_pictures

PARTS: dict[
    str, Callable[[Path, Path], Iterator[Row]]
] = {  # each of a tree of PICTURES and a folder to work in
    "input": lambda tree, work: input_rows.rows(tree),
    "maps": lambda tree, work: map_rows.rows(),
    "boxes": lambda tree, work: box_rows.rows(),
    "evaluation": evaluation_rows.rows,
    "training": lambda tree, work: training_rows.rows(work),
    "scale": lambda tree, work: scale_rows.rows(work),
}
PICTURES = 512


def main(parts: list[str]) -> int:
    if unknown := [part for part in parts if part not in PARTS]:
        print(
            f"error: unknown part {unknown[0]!r}; choose some of: {', '.join(PARTS)}",
            file=sys.stderr,
        )
        return 2
    rows = []
    with tempfile.TemporaryDirectory() as work:
        write_pictures(tree := Path(work) / "tree", 10, PICTURES)
        for row in chain.from_iterable(PARTS[part](tree, Path(work)) for part in parts or PARTS):
            rows.append(row)
            print(_line(row), flush=True)
    missed = [row for row in rows if not row.met]
    print(f"{len(rows) - len(missed)} of {len(rows)} as wanted; {_machine()}")
    if not parts:
        print(_write(rows))
    return 0


def _line(row: Row) -> str:
    verdict = "" if row.met else "   NOT MET"
    low, high = row.spread
    return (
        f"{row.part:10} {row.what:66} {row.rate:9.1f} {row.unit:9} "
        f"{row.peer:62} {row.peer_rate:9.1f}   {row.ratio:6.2f} [{low:.2f} … {high:.2f}] wanted {row.wanted}{verdict}"
    )


def _machine() -> str:
    """The processor, and what of it this process may use."""
    said = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    names = [
        line.partition(":")[2].strip()
        for line in said.splitlines()
        if line.startswith("model name")
    ]
    return f"{[*names, platform.machine()][0]}, {cores_of_this_process()} cores"


def _write(rows: list[Row]) -> Path:
    """results/bench/<machine>.json with everything, and a table of it beside."""
    commit, dirty = git_state()
    record = {
        "machine": _machine(), "commit": commit, "dirty": dirty, "versions": versions(),
        "threads": torch.get_num_threads(), "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "rows": [asdict(row) | {"met": row.met} for row in rows],
    }  # fmt: skip
    name = "".join(letter if letter.isalnum() else "-" for letter in _machine().lower())
    path = REPOSITORY / "results/bench" / f"{name}.json"
    cells = [
        ["part", "what", "rate", "beside", "its rate", "ratio", "smallest … largest", "wanted"]
    ]
    for row in rows:
        low, high = row.spread
        rates = [f"{rate:,.1f} {row.unit}" for rate in (row.rate, row.peer_rate)]
        wanted = row.wanted if row.met else f"{row.wanted}, **not met**"
        spread = f"{low:.2f} … {high:.2f}" if low < high else ""
        cells.append(
            [row.part, row.what, rates[0], row.peer, rates[1], f"{row.ratio:.2f}", spread, wanted]
        )
    heading = f"# `make bench` on {_machine()}, commit `{commit[:10]}{'*' * dirty}`, {record['date'][:10]}"
    write_text(path.with_suffix(".md"), "\n".join([heading, "", *aligned(cells), ""]))
    return write_text(path, json.dumps(record, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
