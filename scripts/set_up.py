"""Builds `.venv` from the pinned, hashed requirements; called by `set_up.sh`, which knows when there is nothing to do.

Only the standard library is used: this runs before anything is installed. uv does the work: the one on PATH, or else one
that pip puts into the environment (pinned and hashed too). Where uv fails, pip is tried, since companies configure that.
`.venv/goldtrace/run`, `aws` and `dev` say what is installed; they are written last, so that an interrupted set-up starts anew.
"""

import fcntl
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
NOTES = VENV / "goldtrace"
# Each contains the ones before it.
KINDS = ("run", "aws", "dev")
# Somebody's other environment, interpreter or target folder must not be what gets changed.
NOT_OURS = (
    *("VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONHOME", "PYTHONPATH", "PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_CONSTRAINT"),
    *("PIP_DRY_RUN", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET", "UV_PREFIX", "UV_CONSTRAINT", "UV_OVERRIDE"),
)


class SetUpError(Exception):
    """What went wrong, and as second argument what mends it."""


def main(kind: str, *wanted: str) -> None:
    """Bring `.venv` to `kind`, one of `KINDS`; the keys, one for each of them, are what the notes have to say then."""
    keys = dict(zip(KINDS, wanted, strict=True))
    lock = os.open(ROOT, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)  # two commands at once: the second waits, and finds the work done
    if _notes_say(kind, keys[kind]) and _is_the_wanted_python():
        return
    kind = max([kind, *(each for each in KINDS if (NOTES / each).exists())], key=KINDS.index)  # what is there stays
    started = time.monotonic()
    uv = _environment()
    _install(uv, ROOT / "requirements" / f"{kind}.txt")
    _note(kind, keys)
    _say(f"ready after {time.monotonic() - started:.0f} s")


def _notes_say(kind: str, key: str) -> bool:
    note = NOTES / kind
    return PYTHON.exists() and note.is_file() and note.read_text() == key


def _is_the_wanted_python() -> bool:
    """Whether `.venv` is made from this interpreter; without PIPELINE_PYTHON any that fits will do."""
    code = "import sys; print(sys.base_prefix, sys.version) if (3, 11) <= sys.version_info[:2] <= (3, 13) else sys.exit(1)"
    found = subprocess.run([PYTHON, "-I", "-c", code], capture_output=True, text=True, check=False)
    if not os.environ.get("PIPELINE_PYTHON"):
        return found.returncode == 0
    return found.stdout.strip() == f"{sys.base_prefix} {sys.version}".strip()


def _environment() -> str | None:
    """Make `.venv` where there is none that can be used, and return the uv to fill it with."""
    uv = _working(shutil.which("uv"))
    reuse = PYTHON.exists() and not (NOTES / "building").exists() and _was_made_here() and _is_the_wanted_python()
    _say("bringing .venv up to date" if reuse else f"setting up .venv with Python {sys.version.split()[0]} (once; up to a minute or two)")
    if not reuse:
        _remove(VENV)
        command = [uv, "venv", "--quiet", "--no-project", "--python", sys.executable, str(VENV)] if uv else [sys.executable, "-m", "venv", str(VENV)]
        if not _run(command):
            raise SetUpError(f"{sys.executable} could not make a virtual environment", "on Debian and Ubuntu: apt-get install python3-venv")
    NOTES.mkdir(exist_ok=True)
    (NOTES / "building").touch()
    for note in (*KINDS, "python"):
        (NOTES / note).unlink(missing_ok=True)
    return uv or _working(str(VENV / "bin" / "uv")) or _bootstrap()


def _was_made_here() -> bool:
    """Whether the scripts of `.venv` name this folder; they don't when it was moved or copied."""
    activate = VENV / "bin" / "activate"
    return activate.is_file() and str(VENV) in activate.read_text()


def _bootstrap() -> str | None:
    """Install uv into `.venv` with pip; None where that can't be had."""
    requirements = ROOT / "requirements" / "bootstrap.txt"
    _run([str(PYTHON), "-m", "pip", "install", "--quiet", "--require-hashes", "--only-binary", ":all:", "-r", str(requirements)])
    return _working(str(VENV / "bin" / "uv"))


def _install(uv: str | None, requirements: Path) -> None:
    # `compat` writes a plain path file; the default is an import hook that costs each start of Python some 10 ms.
    project = ["--no-deps", "--no-build-isolation", "--config-settings", "editable_mode=compat", "--editable", str(ROOT)]
    with_uv = [uv or "", "pip"]
    python = ["--quiet", "--python", str(PYTHON)]
    with_pip = [str(PYTHON), "-m", "pip", "install", "--quiet"]
    done = uv is not None and _run([*with_uv, "sync", *python, "--require-hashes", "--no-build", str(requirements)])
    if not done and _has_pip():
        _say("trying pip instead of uv")
        done = _run([*with_pip, "--require-hashes", "--no-deps", "--only-binary", ":all:", "-r", str(requirements)])
    if not done:
        raise SetUpError(f"the packages of {requirements.relative_to(ROOT)} could not be installed", "see the lines above; the same command starts anew")
    if not _run([*with_uv, "install", *python, *project] if uv else [*with_pip, *project]):
        raise SetUpError("the project itself could not be installed", "see the lines above")
    # Environments that don't write byte code (PYTHONDONTWRITEBYTECODE) would compile it on every start.
    _run([str(PYTHON), "-m", "compileall", "-q", str(ROOT / "pipeline")])


def _has_pip() -> bool:
    """Whether pip is there, put in now if need be: environments that uv made have none."""
    return _can_import_pip() or (_run([str(PYTHON), "-m", "ensurepip"]) and _can_import_pip())


def _can_import_pip() -> bool:
    return subprocess.run([PYTHON, "-I", "-c", "import pip"], capture_output=True, check=False).returncode == 0


def _note(kind: str, keys: dict[str, str]) -> None:
    """Write what is installed. `building` goes last but before the notes, so none ever lies."""
    (NOTES / "building").unlink()
    (NOTES / "python").write_text(os.environ.get("PIPELINE_PYTHON", ""))
    for each in KINDS[: KINDS.index(kind) + 1]:
        scratch = NOTES / f"{each}.new"
        scratch.write_text(keys[each])
        scratch.replace(NOTES / each)


def _working(uv: str | None) -> str | None:
    """`uv` when it runs: version managers leave commands on PATH that don't."""
    if uv is None or not Path(uv).exists():
        return None
    return uv if subprocess.run([uv, "--version"], capture_output=True, check=False).returncode == 0 else None


def _run(command: list[str]) -> bool:
    environment = {name: value for name, value in os.environ.items() if name not in NOT_OURS}
    environment |= {"UV_COMPILE_BYTECODE": "1", "PIP_USER": "0", "PIP_NO_COMPILE": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, check=False, stdin=subprocess.DEVNULL).returncode == 0


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _say(text: str) -> None:
    print(f"goldtrace: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except SetUpError as error:
        print(f"error: {error.args[0]}\nhint: {error.args[1]} (docs/errors.md#setup)", file=sys.stderr)
        sys.exit(1)
    except PermissionError as error:
        print(
            f"error: {error.filename} can't be used by this user: {error.strerror}\n"
            "hint: .venv, or the Python it was made from, is another user's; use a checkout of your own (docs/errors.md#setup)",
            file=sys.stderr,
        )
        sys.exit(1)
    except KeyboardInterrupt:
        print("error: interrupted; .venv is not ready\nhint: run the same command again (docs/errors.md#setup)", file=sys.stderr)
        sys.exit(130)
