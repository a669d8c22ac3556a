"""What ran, where, and who asked for it: the parts of a run's record that are known before it starts."""

import os
import platform
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from pipeline._version import __version__
from pipeline.records import Caller, Code, Process
from pipeline.settings import Settings, mask, without_folders

# What a result may depend on. Names of distributions; one that is not installed is left out.
LIBRARIES = (
    "duckdb",
    "great-expectations",
    "matplotlib",
    "mlflow",
    "numpy",
    "openlineage-python",
    "opentelemetry-sdk",
    "pandas",
    "pyarrow",
    "scipy",
    "sqlglot",
    "statsmodels",
)
_GIT_SECONDS = 5


def process(arguments: list[str] | None = None) -> Process:
    """This process. The command is shown without the folders that its arguments name, which may name a person."""
    given = sys.argv[1:] if arguments is None else arguments
    shown = " ".join(["pipeline", *(without_folders(mask(word)) for word in given)])
    return Process(pid=os.getpid(), host=platform.node(), python=platform.python_version(), platform=platform.platform(terse=True), command=shown)


def code(folder: Path) -> Code:
    """The package's version, and the commit when `folder` lies in a git work tree."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or _git(folder, "ls-files", "--error-unmatch", ".") is None:  # a package installed below somebody's repository
        return Code(version=__version__)
    status = _git(folder, "status", "--porcelain")
    return Code(
        version=__version__,
        commit=_git(folder, "rev-parse", "--verify", "HEAD"),
        branch=_git(folder, "branch", "--show-current") or None,
        dirty=None if status is None else bool(status),
        repository=_browsable(_git(folder, "config", "--get", "remote.origin.url")),
    )


def libraries() -> dict[str, str]:
    """The installed versions of what a result may depend on."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an extra that isn't installed
    return found


def caller(settings: Settings) -> Caller:
    """The outer trace and the outer lineage parent, when the environment names them."""
    parent = tuple((settings.openlineage_parent_id or "").rsplit("/", 2))
    return Caller(traceparent=settings.traceparent, openlineage_parent=(parent[0], parent[1], parent[2]) if len(parent) == 3 and all(parent) else None)


def _git(folder: Path, *arguments: str) -> str | None:
    # Optional locks off: a run must not write to somebody's repository.
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_GIT_SECONDS, check=False)  # noqa: S603 - fixed words
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a huge tree: the version alone has to do
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _browsable(remote: str | None) -> str | None:
    """A remote's https address without credentials, or None for a remote that no browser opens."""
    if remote is None:
        return None
    ssh = re.fullmatch(r"(?:ssh://)?git@([^:/]+)[:/](.+?)(?:\.git)?/?", remote)
    if ssh:
        return f"https://{ssh.group(1)}/{ssh.group(2)}"
    web = re.fullmatch(r"https?://(?:[^@/]+@)?([^/]+/.+?)(?:\.git)?/?", remote)
    return f"https://{web.group(1)}" if web else None
