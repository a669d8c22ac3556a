"""Ports of this machine: which are taken, and by whom."""

import shutil
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"


def is_taken(port: int) -> bool:
    """Whether a server on this machine answers on the port, or has it to itself."""
    with socket.socket() as probe:
        probe.settimeout(1)
        if probe.connect_ex(("127.0.0.1", port)) == 0:
            return True  # asked first, as macOS lets one bind beside a server that listens on all addresses
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
        except PermissionError:
            return False  # below 1024: the engine may, though we may not
        except OSError:
            return True
    return False


def free_near(port: int, wanted: set[int]) -> int | None:
    """A free port to use instead, that nobody else of `wanted` is to have."""
    candidates = (port + step for step in range(10, 1000, 10))
    return next((candidate for candidate in candidates if candidate <= 65535 and candidate not in wanted and not is_taken(candidate)), None)


def process_on(port: int) -> str | None:
    """The process that listens on the port, as `name (process 4711)`; None when this user may not see it."""
    pid = _pid_from_proc(port) if (_PROC / "net/tcp").exists() else _pid_from_lsof(port)
    return None if pid is None else f"{_name(pid)} (process {pid})"


def _pid_from_proc(port: int) -> int | None:
    links = {f"socket:[{inode}]" for inode in _listening_inodes(port)}
    processes = (folder for folder in _PROC.iterdir() if folder.name.isdecimal()) if links else ()
    return next((int(folder.name) for folder in processes if links & _open_files(folder)), None)


def _open_files(process: Path) -> set[str]:
    found = set()
    with suppress(OSError):  # it ended, or is another user's
        for handle in (process / "fd").iterdir():
            with suppress(FileNotFoundError):  # closed meanwhile
                found.add(str(handle.readlink()))
    return found


def _listening_inodes(port: int) -> set[str]:
    """The sockets that listen on the port (proc_net_tcp: local address, remote address, state, …, inode)."""
    found = set()
    for table in ("net/tcp", "net/tcp6"):
        with suppress(FileNotFoundError):
            for line in (_PROC / table).read_text().splitlines()[1:]:
                fields = line.split()
                if fields[3] == _LISTENING and int(fields[1].rpartition(":")[2], 16) == port:
                    found.add(fields[9])
    return found


def _pid_from_lsof(port: int) -> int | None:
    lsof = shutil.which("lsof")
    if lsof is None:
        return None
    words = [lsof, "-nP", f"-iTCP:{port}", "-sTCP:LISTEN", "-t"]
    printed = subprocess.run(words, capture_output=True, text=True, timeout=10, check=False).stdout.split()  # noqa: S603 - fixed words
    return int(printed[0]) if printed else None


def _name(pid: int) -> str:
    with suppress(OSError):
        return (_PROC / str(pid) / "comm").read_text().strip()
    ps = shutil.which("ps") or "ps"
    shown = subprocess.run([ps, "-o", "comm=", "-p", str(pid)], capture_output=True, text=True, timeout=10, check=False).stdout.strip()  # noqa: S603 - fixed words
    return Path(shown).name or "a process"
