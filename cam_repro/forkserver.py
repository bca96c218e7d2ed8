"""What the server imports that worker processes are forked from; nothing else imports this.

See `cores.worker_context`.
"""

import os

os.setpgid(0, 0)  # out of its parent's process group: a signal to that one ends no server
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process that is forked has one thread

import cam_repro.cam  # noqa: E402
import cam_repro.command  # noqa: E402  the scripts', which every worker imports anew
import cam_repro.data.loaders  # noqa: E402
import cam_repro.evaluation.metrics  # noqa: E402  of which every worker is given some
import cam_repro.evaluation.rows  # noqa: E402, F401
