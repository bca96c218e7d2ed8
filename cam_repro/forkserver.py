"""What the server imports that worker processes are forked from (`cores.worker_context`); nothing else imports this."""

import os

# In a process group of its own it outlives a signal to its parent's, and its workers are in this one too.
os.setpgid(0, 0)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # a process that is forked has one thread

import cam_repro.command  # noqa: E402  the scripts', which every worker imports anew
import cam_repro.data.loaders  # noqa: E402
import cam_repro.evaluation.draw  # noqa: E402, F401
