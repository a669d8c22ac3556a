"""What ran, where, and who asked for it: the parts of a run's record that are known before it starts."""

import os
import platform
import re
import subprocess
from collections.abc import Sequence
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
# What a huge tree may cost a run is bounded; nothing is said of it then.
_GIT_SECONDS = 2
# A git hook that starts a run sets these for its own repository; the folder is to say which one is meant.
_ANOTHER_REPOSITORY = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_NAMESPACE", "GIT_PREFIX")


def process(command: Sequence[str]) -> Process:
    """This process. The command is shown without the folders that its words name, which may name a person."""
    program, *arguments = command or [""]
    shown = " ".join([Path(program).name or "python", *(without_folders(mask(word)) for word in arguments)])
    return Process(pid=os.getpid(), host=platform.node(), python=platform.python_version(), platform=platform.platform(terse=True), command=shown)


def code(folder: Path) -> Code:
    """The package's version, and the commit when `folder` lies in a git work tree."""
    top = _git(folder, "rev-parse", "--show-toplevel")
    if top is None or _git(folder, "ls-files", "--error-unmatch", ".") is None:  # a package installed below somebody's repository
        return Code(version=__version__)
    # As `git describe --dirty` means it: a lake or a folder of runs that git does not ignore is no change of the code.
    status = _git(folder, "status", "--porcelain", "--untracked-files=no")
    return Code(
        version=__version__,
        commit=_git(folder, "rev-parse", "--verify", "HEAD"),
        branch=_git(folder, "branch", "--show-current") or None,
        dirty=None if status is None else bool(status),
        repository=_browsable(_git(folder, "config", "--get", "remote.origin.url")),
        root=Path(top),
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
    # Handed on, not read: settings are read in one place only.
    kept = {name: value for name, value in os.environ.items() if name not in _ANOTHER_REPOSITORY}
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=_GIT_SECONDS, check=False, env=kept)  # noqa: S603 - fixed words
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
