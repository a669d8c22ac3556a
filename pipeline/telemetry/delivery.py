"""Delivery of lineage: at its end a run sends what waits, oldest run first, within a time that nothing a server does can stretch.

What was sent stands in each bundle's `delivery.json` (`delivery_entry.py`); a bundle without an entry waits. It is written when a
run is through or the sending stops, not after each event: who is killed in between leaves a run to be sent from its last mark to
its end once more, which changes nothing that a server shows. Only one process at a time sends from a folder of runs.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from pipeline.errors import BackendError, LakeError, SettingsError, UsageError
from pipeline.settings import DELIVERY_SECONDS, Settings, Switch, says_true
from pipeline.telemetry import bundle, delivery_entry, delivery_queue
from pipeline.telemetry.delivery_entry import Aside, Delivery, Entry
from pipeline.telemetry.lineage import FILE
from pipeline.telemetry.lineage_server import Answer, Connection, Patience, Server, Verdict

_log = logging.getLogger(__name__)

# What a run's end may take of it, unless less is left.
SECONDS: Final = DELIVERY_SECONDS
# However long other telemetry has held the run up: time to find out whether the server answers, and for one that does, to take a run.
LEAST_SECONDS: Final = 0.3
ANSWERING_SECONDS: Final = 1.0
# What one answer may take in a replay, where nobody waits for the whole.
REPLAY_SECONDS: Final = 10.0
LOCK_SECONDS: Final = 10.0
# A run is only begun when all of it is likely to go: half of one is shown as running. A little slower than it went so far.
_RESERVE: Final = 1.2
# Seconds for an event as long as none was sent: less than it takes, so that a slow server gets on too.
_FAST: Final = 0.005

OnProgress = Callable[["Sent", int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What became of one run's lineage."""

    run_id: str
    entry: Entry


@dataclass(frozen=True, slots=True, kw_only=True)
class Replay:
    """What a replay came to: the runs that were sent, how many still wait, and why it stopped, if it did. `entered` are those that MLflow took."""

    target: str
    sent: tuple[Sent, ...]
    waiting: int
    problem: BackendError | None
    entered: int = 0

    @property
    def failed(self) -> tuple[Sent, ...]:
        """The runs of which the server refused a part."""
        return tuple(each for each in self.sent if each.entry.state is Delivery.FAILED)


def is_off(settings: Settings) -> bool:
    """Whether no lineage is sent: `OPENLINEAGE_DISABLED=true`, as with every client of OpenLineage, or no telemetry at all."""
    return settings.telemetry is Switch.OFF or says_true(settings.openlineage_disabled)


def deliver_at_end(folder: Path, settings: Settings, seconds: float | None = None) -> None:
    """Send the lineage of a run that has ended, after all that waits from before, in at most 2 s.

    Nothing is raised, and a server that is away is no news: the events wait in the bundle. What needs somebody's attention (an
    address that is none, a key that is refused, an event that is) is told in one line of the log.

    Args:
        folder: the run's bundle, whose manifest has its last word.
        settings: where lineage goes.
        seconds: what is left of the time that telemetry may hold the run up, when that is less than 2 s. A server that does not
            answer gets `LEAST_SECONDS` all the same, and one that does `ANSWERING_SECONDS`: a run that never has them left would never be sent.
    """
    patience = Patience.in_all(SECONDS if seconds is None else min(SECONDS, max(LEAST_SECONDS, seconds)), min(SECONDS, ANSWERING_SECONDS))
    try:
        folder = folder if folder.exists() else settings.runs / bundle.ARCHIVE / folder.name
        if is_off(settings):
            delivery_entry.write(folder, Entry(state=Delivery.OFF))
        elif not (folder / FILE).exists():
            delivery_entry.write(folder, Entry(state=Delivery.FAILED, detail=f"there is no {FILE}"))
        else:
            _deliver(folder, settings.runs, Connection(Server.of(settings), patience))
    except OSError as error:
        _log.warning("what became of the lineage can't be written down in %s: %s", folder, error.strerror)


def _deliver(folder: Path, runs: Path, connection: Connection) -> None:
    with connection:
        try:
            connection.open()
        except BackendError as error:
            _note(folder, connection.server, str(error.facts["reason"]))
            return
        # Before the lock is tried: who finds it taken leaves this run to the other, who looks for such after letting go of it.
        _note(folder, connection.server, "")
        courier = _Courier(runs, connection)
        courier.work()
    _tell(courier)


def _note(folder: Path, server: Server, reason: str) -> None:
    """Write down that a run's lineage waits, unless somebody has begun with it."""
    if delivery_entry.read(folder) is None:
        total = (folder / FILE).read_bytes().count(b"\n")
        delivery_entry.write(folder, Entry(state=Delivery.PENDING, total=total, target=server.target, detail=reason))


def _tell(courier: _Courier) -> None:
    if courier.refusal is not None:
        _log.warning("%s; it waits in the bundles (docs/lineage.md)", courier.refusal.message)
    for each in courier.sent.values():
        if each.entry.state is Delivery.FAILED:
            _log.warning("lineage of run %s: %s (docs/lineage.md)", each.run_id, each.entry.detail)


class _Courier:
    """Takes what waits to the server, run by run, until nothing waits, the server is away, or the time is up."""

    def __init__(self, runs: Path, connection: Connection, only: Collection[str] | None = None) -> None:
        self._runs = runs
        self._connection = connection
        self._only = only
        # The rest of the time is for sending.
        self._look_until = time.monotonic() + connection.patience.left / 2
        self._unwritable: set[str] = set()
        self._posts, self._seconds = 0, 0.0
        self.on_progress: OnProgress | None = None
        self.sent: dict[str, Sent] = {}
        self.problem: BackendError | None = None
        self.refusal: BackendError | None = None

    def work(self, lock_seconds: float = 0.0) -> bool:
        """Send; False when another process is at it, to whom it is left."""
        while True:
            with _locked(self._runs, lock_seconds) as is_ours:
                if not is_ours:
                    return False
                queue = delivery_queue.queue(self._runs, self._only, self._look_until)
                is_through = all(self._send(folder) for folder in queue.folders if folder.name not in self._unwritable)
            # Somebody may have found the lock taken just now, and gone.
            if not is_through or not self.waiting(queue.settled):
                return True

    def waiting(self, settled: Collection[str] = ()) -> list[Path]:
        """What waits; `settled` are ids of runs that are known not to."""
        return [folder for folder in delivery_queue.waiting(self._runs, self._only, settled, self._look_until) if folder.name not in self._unwritable]

    def _send(self, folder: Path) -> bool:
        """Send what is left of a run; False when there is no going on."""
        folder = folder if folder.exists() else self._runs / bundle.ARCHIVE / folder.name
        try:
            lines = delivery_queue.whole_events(folder)
        except (OSError, ValueError) as error:
            self._write(folder, Entry(state=Delivery.FAILED, target=self._target, detail=f"not sent: {error}"))
            return True
        known = self._where_it_stopped(folder, len(lines))
        if not known.events and not self._has_time_for(len(lines)):
            return False
        self.problem = None
        entry = known
        try:
            for number in range(known.events + 1, len(lines) + 1):
                entry = self._pass_on(lines[number - 1], number, entry)
                if self.on_progress:
                    self.on_progress(Sent(run_id=folder.name, entry=entry), number)
        except BackendError as error:
            self.problem = error
            entry = replace(entry, detail=str(error.facts["reason"]))
            return False
        finally:
            self._write(folder, _closed(entry))
        return True

    @property
    def _target(self) -> str:
        return self._connection.server.target

    def _where_it_stopped(self, folder: Path, total: int) -> Entry:
        known = delivery_entry.read(folder)
        if known is None or known.target != self._target or not 0 <= known.events < total:
            known = Entry(state=Delivery.PENDING)
        return replace(known, state=Delivery.PENDING, target=self._target, total=total, detail="")

    def _has_time_for(self, events: int) -> bool:
        seconds = self._seconds / self._posts * _RESERVE if self._posts else _FAST
        return self._connection.patience.left > events * seconds

    def _pass_on(self, line: bytes, number: int, entry: Entry) -> Entry:
        """The entry after one more event was taken, or put aside.

        Raises:
            BackendError: the server is away, or the time is up.
        """
        try:
            event = delivery_queue.sendable(line)
        except ValueError as error:
            return replace(entry, events=number, aside=(*entry.aside, Aside(event=number, reason=f"not sent: {error}")))
        answer = self._post(event)
        aside = () if answer.verdict is Verdict.TAKEN else (Aside(event=number, reason=str(answer)),)
        return replace(entry, events=number, answer=str(answer), aside=entry.aside + aside)

    def _post(self, event: bytes) -> Answer:
        started = time.monotonic()
        answer = self._connection.post(event)
        if answer.verdict is Verdict.BROKEN:
            answer = self._connection.post(event)
        self._posts, self._seconds = self._posts + 1, self._seconds + time.monotonic() - started
        if answer.verdict is Verdict.AWAY:
            raise self._not_of_the_event(answer, is_news=answer.status < 500)
        # A server whose database is away fails over every event: then it is none of this one's.
        if answer.verdict is Verdict.BROKEN and not self._connection.is_well("default"):
            raise self._not_of_the_event(answer, is_news=False)
        return answer

    def _not_of_the_event(self, answer: Answer, *, is_news: bool) -> BackendError:
        hint = "OPENLINEAGE_URL and OPENLINEAGE_API_KEY say where lineage goes and who sends it" if is_news else "try again when the server is well"
        error = BackendError(f"lineage can't be sent to {self._target}: it answers {answer}", hint=hint, reason=f"it answers {answer}", target=self._target)
        self.refusal = error if is_news else None
        return error

    def _write(self, folder: Path, entry: Entry) -> None:
        self.sent[folder.name] = Sent(run_id=folder.name, entry=entry)
        try:
            delivery_entry.write(folder, entry)
        except OSError as error:
            self._unwritable.add(folder.name)
            _log.warning("what became of the lineage can't be written down in %s: %s", folder, error.strerror)


def _closed(entry: Entry) -> Entry:
    """The entry with the state that follows from how far it came."""
    if entry.events != entry.total:
        return replace(entry, detail=entry.detail or "stopped on the way")
    if not entry.aside:
        return replace(entry, state=Delivery.DELIVERED)
    count = len(entry.aside)
    return replace(entry, state=Delivery.FAILED, detail=f"{count} of {entry.total} events put aside, the first: {entry.aside[0].reason}")


@contextmanager
def _locked(runs: Path, seconds: float) -> Iterator[bool]:
    """Whether this process is the one to send from a folder of runs. The lock is on the folder, and gone with the process."""
    descriptor = os.open(runs, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield _try_lock(descriptor, time.monotonic() + seconds)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, until: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.1)
        else:
            return True


# ---------------------------------------------------------------------------------------------- replay


def replay(settings: Settings, run_ids: Sequence[str] = (), *, everything: bool = False, on_progress: OnProgress | None = None) -> Replay:
    """Send all that waits, or the whole of some runs once more, oldest first, for as long as it takes.

    Args:
        settings: where the runs are, and where lineage goes.
        run_ids: runs to send again, delivered or not; all that waits when there are none.
        everything: all runs that were ever sent once more, for a server that has lost or never had them.
        on_progress: is told after each event how far a run is, with the number of the event.

    Raises:
        SettingsError: lineage is turned off.
        RunNotFoundError: there is no such run.
        UsageError: a run is still going on, or has no lineage.
        BackendError: the server is away, or another process is sending.
        LakeError: what is sent can't be written down.
    """
    if is_off(settings):
        raise SettingsError("lineage is turned off (OPENLINEAGE_DISABLED or PIPELINE_TELEMETRY)", hint="leave the setting out to send it")
    folders = [_to_replay(settings.runs, text) for text in run_ids]
    server, patience = Server.of(settings), Patience(REPLAY_SECONDS)
    only = {folder.name for folder in folders} or None
    again = _sent_before(settings.runs) if everything else folders
    if not again and not delivery_queue.waiting(settings.runs):
        return Replay(target=server.target, sent=(), waiting=0, problem=None)
    with Connection(server, patience) as connection:
        _open(connection)
        for folder in again:
            _forget(folder)
        courier = _Courier(settings.runs, connection, only)
        courier.on_progress = on_progress
        if not courier.work(LOCK_SECONDS):
            raise BackendError(f"another process is sending the lineage in {settings.runs}", hint="wait for it; what waits is sent by it", reason="locked")
    return Replay(target=server.target, sent=tuple(courier.sent.values()), waiting=len(courier.waiting()), problem=courier.problem)


def _open(connection: Connection) -> None:
    try:
        connection.open()
    except BackendError as error:
        error.hint = "is Marquez up (make lineage.up)? OPENLINEAGE_URL says where it is; nothing is lost"
        raise


def _to_replay(runs: Path, text: str) -> Path:
    found = bundle.find(runs, text)
    if not found.is_finished:
        raise UsageError(f"run {found.id} is {found.state.value}, and not all of its lineage is there", hint="wait for its end; pipeline reap closes dead ones")
    if not (found.path / FILE).exists():
        raise UsageError(f"run {found.id} has no lineage", hint="telemetry was off when it ran")
    return found.path


def _sent_before(runs: Path) -> list[Path]:
    return [folder for folder in bundle.folders(runs) if (entry := delivery_entry.read(folder)) and entry.state in (Delivery.DELIVERED, Delivery.FAILED)]


def _forget(folder: Path) -> None:
    try:
        delivery_entry.write(folder, Entry(state=Delivery.PENDING, detail="to be sent again"))
    except OSError as error:
        raise LakeError(f"{folder / delivery_entry.FILE} can't be written: {error.strerror}", hint="see who may write there") from error
