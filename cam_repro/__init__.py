"""Class activation maps (Zhou et al., CVPR 2016), reproduced.

From a configuration through data set, network, maps and boxes to errors.
"""

import sys

# Windows has no fork and no file locks: said here, before an import fails for want of them.
if sys.platform == "win32":
    sys.exit(
        "error: cam_repro runs on Linux and macOS; "
        "on Windows use WSL (`wsl --install`) and type the same there"
    )


class UserError(Exception):
    """A mistake that a person can mend.

    Its text is one line: what was found, what was expected, what to type.
    """


def __getattr__(name: str) -> object:
    """`from cam_repro import explain`, without which nothing here needs torch."""
    if name != "explain":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from cam_repro.localization.explain import explain

    return explain
