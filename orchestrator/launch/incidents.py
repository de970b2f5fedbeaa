"""From the row of a task that ended to what root cause and restart policy judge."""

from __future__ import annotations

from orchestrator.cluster.records import FailureRecord, Phase, ProgressRecord
from orchestrator.launch import log_stream
from orchestrator.launch.oom import OomEvidence
from orchestrator.launch.restart import Failure
from orchestrator.launch.root_cause import FailureKind, TaskEnd
from orchestrator.launch.run_dir import RunDir
from orchestrator.launch.task_table import TaskRow

TAIL_LINES = 200


def task_end(row: TaskRow, run_dir: RunDir, oom: OomEvidence = OomEvidence.NONE) -> TaskEnd:
    """Collects what a task left behind; also of one that still runs but has recorded an exception."""
    failure = run_dir.records(row.task).read(FailureRecord)
    step = failure.step if failure is not None else None
    if step is None and row.progress is not None:
        step = row.progress.step
    lost = None if row.exit is None else row.exit.host_lost
    return TaskEnd(
        task=row.task,
        exit=row.exit,
        failure=failure,
        log_tail=log_stream.tail(row.plan.log_path, TAIL_LINES, since=row.log_start),
        log_path=str(row.plan.log_path),
        step=step,
        reason=row.end_reason or lost,
        reason_kind=FailureKind.HOST_LOST if lost and not row.end_reason else row.end_kind,
        host=row.plan.host,
        oom=oom,
        with_peer=row.progress is not None and row.progress.stopped_with_peer,
    )


def failure_of(
    row: TaskRow,
    end: TaskEnd,
    *,
    keeps_records: bool,
    checkpoint_step: int | None,
    victim: bool,
) -> Failure:
    """What the restart policy is told of a task that ended badly."""
    found = end.exception
    record: ProgressRecord | None = row.progress
    lost = None if row.exit is None else row.exit.host_lost
    by_exception = end.failure.step if end.failure is not None else None
    return Failure(
        task=row.task,
        code=row.exit.code if row.exit is not None else 1,
        signal=row.exit.signal if row.exit is not None else None,
        error_type=found.type if found is not None else None,
        error_message=found.message if found is not None else "",
        step=by_exception if by_exception is not None or record is None else record.step,
        stepped=row.stepped,
        begun=not row.task.trains and record is not None and record.phase is not Phase.STARTING,
        keeps_records=keeps_records,
        user_error=end.failure.user_error if end.failure is not None else False,
        checkpoint_at_start=row.checkpoint_at_start,
        checkpoint_now=checkpoint_step,
        victim=victim,
        reason=row.end_reason or (f"ended: {lost}" if lost else None),
        hopeless=row.hopeless,
    )
