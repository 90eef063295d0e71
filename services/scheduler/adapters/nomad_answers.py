"""What is read of Nomad's answers; everything else in them is passed over."""

from datetime import datetime

from msgspec import Struct, field

TERMINAL = frozenset({"complete", "failed", "lost"})


class TaskEvent(Struct, frozen=True, rename="pascal"):
    type: str
    time: int = 0
    display_message: str = ""
    details: dict[str, str] | None = None


class TaskState(Struct, frozen=True, rename="pascal"):
    state: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None
    events: list[TaskEvent] | None = None


class RescheduleEvent(Struct, frozen=True, rename="pascal"):
    reschedule_time: int
    """Nanoseconds since the epoch: when the successor was made."""
    prev_alloc_id: str = field(name="PrevAllocID", default="")
    delay: int = 0
    """Nanoseconds between the failure and the successor."""


class RescheduleTracker(Struct, frozen=True, rename="pascal"):
    events: list[RescheduleEvent] | None = None


class Alloc(Struct, frozen=True, rename="pascal"):
    """One life of a group: an allocation."""

    id: str = field(name="ID")
    job_id: str = field(name="JobID")
    task_group: str
    client_status: str
    """pending, running, unknown (its node is not heard), complete, failed, lost"""
    desired_status: str = "run"
    desired_description: str = ""
    node_name: str = ""
    follow_up: str = field(name="FollowupEvalID", default="")
    reschedule_tracker: RescheduleTracker | None = None
    task_states: dict[str, TaskState] | None = None
    create_index: int = 0
    modify_time: int = 0

    @property
    def over(self) -> bool:
        """Whether Nomad's client says that nothing of it runs."""
        return self.client_status in TERMINAL

    @property
    def task(self) -> TaskState:
        """The state of its one task."""
        return next(iter((self.task_states or {}).values()), TaskState())


class Metric(Struct, frozen=True, rename="pascal"):
    """Why a group fits nowhere."""

    nodes_available: dict[str, int] | None = None
    constraint_filtered: dict[str, int] | None = None
    dimension_exhausted: dict[str, int] | None = None
    resources_exhausted: dict[str, dict[str, object]] | None = None


class Evaluation(Struct, frozen=True, rename="pascal"):
    id: str = field(name="ID")
    job_id: str = field(name="JobID")
    status: str
    wait_until: datetime | None = None
    failed: dict[str, Metric] | None = field(name="FailedTGAllocs", default=None)
    modify_index: int = 0

    def in_progress(self, now: float) -> bool:
        """Tell whether a scheduler works on it, or may at any moment."""
        waits = self.wait_until is not None and self.wait_until.timestamp() > now
        return self.status == "pending" and not waits


class Stub(Struct, frozen=True, rename="pascal"):
    """A job in a list."""

    id: str = field(name="ID")
    stop: bool = False
    meta: dict[str, str] | None = None
    job_modify_index: int = 0
