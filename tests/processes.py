"""A look at the processes of a session."""
import subprocess
import time


def live_processes(session):
    """Return the numbers of the processes in a session, without those that have ended but still show up."""
    table = subprocess.run(["ps", "-eo", "sid=,pid=,stat="], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [row.split() for row in table.splitlines()]
    return [int(pid) for sid, pid, state in rows if int(sid) == session and not state.startswith("Z")]


def all_end_within(seconds, session):
    """Wait until a session has no live process any more, but not longer than so many seconds."""
    deadline = time.monotonic() + seconds
    while live_processes(session):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
