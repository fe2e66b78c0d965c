"""A program that calls the server itself, run by the Python of a client's release.

It connects to the port that is its first argument, creates a job with as many boards as
its second says, follows it from its creation to its end by notifications alone, and
prints what it was told as a line of JSON.
"""

import inspect
import json
import sys
from typing import Any

from tests.clients.job_program import import_client

TIMEOUT = 60.0
READY, DESTROYED = 3, 4


class Caller:
    """Calls commands by their names with any release, and keeps notifications."""

    def __init__(self, port: int) -> None:
        self.client = import_client().ProtocolClient("127.0.0.1", port)
        self.client.connect(timeout=TIMEOUT)
        self.jobs_changed: list[int] = []
        self.machines_changed: list[str] = []

    def call(self, name: str, *args: Any, **kwargs: Any) -> Any:
        # In some releases the timeout has become an argument in the middle.
        if "timeout" in inspect.signature(self.client.call).parameters:
            return self.client.call(name, TIMEOUT, *args, **kwargs)
        return self.client.call(name, *args, timeout=TIMEOUT, **kwargs)

    def wait(self) -> None:
        """Wait for one notification."""
        message = self.client.wait_for_notification(timeout=TIMEOUT)
        self.jobs_changed += message.get("jobs_changed", [])
        self.machines_changed += message.get("machines_changed", [])

    def wait_for_state(self, job_id: int, state: int) -> None:
        """Look at the job's state at each notification, until it is this."""
        while self.call("get_job_state", job_id)["state"] != state:
            self.wait()


def main(arguments: list[str]) -> None:
    port, boards = map(int, arguments)
    told: dict[str, Any] = {}
    caller = Caller(port)
    told["version"] = caller.call("version")
    (machine,) = caller.call("list_machines")
    told["machine"] = machine
    # Of every job and machine
    caller.client.notify_job()
    caller.client.notify_machine()
    job_id = caller.call("create_job", boards, owner="me", keepalive=60.0)
    told["job_id"] = job_id
    caller.wait_for_state(job_id, READY)
    while not (caller.jobs_changed and caller.machines_changed):
        caller.wait()
    told["info"] = caller.call("get_job_machine_info", job_id)
    ((_, address), *_) = told["info"]["connections"]
    told["report"] = caller.call("report_problem", address, description="hot")
    # Programs share a server: two reports would take the board from the next one.
    caller.call("clear_problem", machine["name"], *told["report"]["board"])
    told["place"] = caller.call("where_is", job_id=job_id, chip_x=1, chip_y=2)
    told["changed"] = [caller.jobs_changed, caller.machines_changed]
    # Of this one only, and of no machines
    caller.client.no_notify_job()
    caller.client.no_notify_machine()
    caller.client.notify_job(job_id)
    # Replies to the above came after the last notification to the old subscriptions.
    while caller.client.wait_for_notification(timeout=-1) is not None:
        pass
    caller.jobs_changed, caller.machines_changed = [], []
    other = caller.call("create_job", 1, owner="me", keepalive=60.0)
    caller.call("destroy_job", other, "not followed")
    caller.call("destroy_job", job_id, "followed to its end")
    while not caller.jobs_changed:
        caller.wait()
    told["changed_at_end"] = [caller.jobs_changed, caller.machines_changed]
    told["end"] = caller.call("get_job_state", job_id)
    try:
        caller.call("nonsense")
    except Exception as e:
        told["unknown"] = str(e)
    caller.client.close()
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1:])
