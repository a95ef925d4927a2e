"""A look at the processes of a session."""
import subprocess


def live_processes(session):
    """Return the numbers of the processes in a session, without those that have ended but still show up."""
    table = subprocess.run(["ps", "-eo", "sid=,pid=,stat="], stdout=subprocess.PIPE, text=True, check=True).stdout
    rows = [row.split() for row in table.splitlines()]
    return [int(pid) for sid, pid, state in rows if int(sid) == session and not state.startswith("Z")]
