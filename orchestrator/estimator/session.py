"""A session with hooks around each run, opened again when a peer was lost.

TensorFlow's MonitoredSession keeps its raw session to itself and runs every
hook at every step. Here the training loop may also run a bare callable, for
steps on which no hook wants anything; everything that a hook can observe is as
in MonitoredSession.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any

import tensorflow as tf

from orchestrator.errors import InvalidArgument
from orchestrator.estimator.lean_callable import lean_callable
from orchestrator.estimator.logger import log
from orchestrator.estimator.position import sees_every_step
from orchestrator.estimator.session_closing import close_quietly

v1 = tf.compat.v1


PEER_LOST = (tf.errors.AbortedError, tf.errors.UnavailableError)
"""What a session raises when a parameter server has gone or was restarted."""
INPUT_ENDED = (tf.errors.OutOfRangeError, StopIteration)
_JOIN_SECONDS = 120


class HookedSession:
    """Runs on the default graph, which is finalized by whoever made `open_session`.

    Use as a context: leaving it without an exception, or because the input has
    ended, calls `end` of every hook; then queue runners and session are closed
    (with `keep_open` the session only after an exception). `callables` holds what
    was made ready on a session that was kept open before: preparing a run of a
    kept session again would cost as much as many runs.
    """

    def __init__(
        self,
        open_session: Callable[[], v1.Session],
        hooks: Sequence[v1.train.SessionRunHook],
        keep_open: bool = False,
        callables: dict[Any, Callable[..., Any]] | None = None,
    ) -> None:
        self._open_session = open_session
        self._keep_open = keep_open
        self._hooks = list(hooks)
        self._stop_requested = False
        self._callables = {} if callables is None else callables
        self.coordinator: Any = None
        self.raw: Any = None
        """The `tf.compat.v1.Session`; another one after `reopen`."""
        self.input_ended = False
        self.reopen(None)

    def reopen(self, lost: BaseException | None) -> None:
        """Opens a new session, after losing the old one to `lost`; hooks see it as in MonitoredSession."""
        if lost is not None:
            log.warning(
                "Lost a connection to another task; waiting for it and going on from the last checkpoint. %s",
                _first_line(lost),
            )
            self._close_raw()
        while True:
            try:
                self.raw = self._open_session()
                self.coordinator = tf.train.Coordinator(clean_stop_exception_types=[])
                if v1.get_collection(v1.GraphKeys.QUEUE_RUNNERS):
                    v1.train.start_queue_runners(sess=self.raw, coord=self.coordinator)
                for hook in self._hooks:
                    hook.after_create_session(self.raw, self.coordinator)
                return
            except PEER_LOST as error:
                log.warning(
                    "Lost a connection to another task while opening a session. %s", _first_line(error)
                )
                self._close_raw()

    def should_stop(self) -> bool:
        """Whether a hook or a queue runner has asked to stop; raises what a queue runner raised."""
        if self._stop_requested:
            return True
        self.coordinator.raise_requested_exception()
        return bool(self.coordinator.should_stop())

    def request_stop(self) -> None:
        """Ends the loop after the present step."""
        self._stop_requested = True

    def bare(self, fetches: Any, feeds: Sequence[tf.Tensor] = ()) -> Callable[..., Any]:
        """A callable that runs `fetches` without any hook; valid until `reopen`."""
        key = (tuple(id(tensor) for tensor in fetches), tuple(id(tensor) for tensor in feeds))
        if key not in self._callables:
            self._callables[key] = lean_callable(self.raw, fetches, feeds)
        return self._callables[key]

    def stepper(self, fetches: list[Any]) -> Callable[[], Any]:
        """A function for one run: bare where no hook looks at single runs, with hooks otherwise."""
        if any(sees_every_step(hook) for hook in self._hooks):
            return lambda: self.run(fetches)
        return self.bare(fetches)

    def run(self, fetches: Any, note: Callable[[Any], None] | None = None) -> Any:
        """One run with all hooks around it; `note` gets the results before any hook does.

        PEER_LOST is left to the caller, who may `reopen`.
        """
        try:
            return self._run_with_hooks(fetches, note)
        except PEER_LOST:
            raise
        except Exception as error:
            self._raise_cause(error)
            raise

    def run_around(self, run: Callable[[], Any], note: Callable[[Any], None]) -> None:
        """Runs a function with all hooks around it, which can fetch nothing then."""
        context = v1.train.SessionRunContext(v1.train.SessionRunArgs(None), self.raw)
        for hook in self._hooks:
            hook.before_run(context)
        note(run())
        nothing = v1.train.SessionRunValues(None, v1.RunOptions(), v1.RunMetadata())
        for hook in self._hooks:
            hook.after_run(context, nothing)
        self._stop_requested = self._stop_requested or context.stop_requested

    def _run_with_hooks(self, fetches: Any, note: Callable[[Any], None] | None) -> Any:
        context = v1.train.SessionRunContext(v1.train.SessionRunArgs(fetches), self.raw)
        options = v1.RunOptions()
        wanted: dict[Any, Any] = {"caller": fetches}
        feeds: dict[Any, Any] = {}
        for hook in self._hooks:
            request = hook.before_run(context)
            if request is not None:
                _merge_request(request, hook, wanted, feeds, options)
        metadata = v1.RunMetadata()
        plain = options == v1.RunOptions()
        if plain and not feeds and len(wanted) == 1 and isinstance(fetches, list):
            results: dict[Any, Any] = {"caller": self.bare(fetches)()}
        else:
            results = self.raw.run(
                wanted,
                feed_dict=feeds,
                options=None if plain else options,
                run_metadata=None if plain else metadata,
            )
        if note is not None:
            note(results["caller"])
        for hook in self._hooks:
            hook.after_run(context, v1.train.SessionRunValues(results.get(hook), options, metadata))
        self._stop_requested = self._stop_requested or context.stop_requested
        return results["caller"]

    def _raise_cause(self, error: Exception) -> None:
        """A queue runner's exception explains a failed run better than the run's own."""
        try:
            self.coordinator.raise_requested_exception()
        except PEER_LOST:
            raise
        except Exception:
            raise error from None

    def __enter__(self) -> HookedSession:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        self.input_ended = isinstance(error, INPUT_ENDED)
        ended_well = False
        try:
            if error is None or self.input_ended:
                with self.raw.graph.as_default():
                    for hook in self._hooks:
                        hook.end(self.raw)
                ended_well = True
        finally:
            self._close_raw(keep_session=self._keep_open and ended_well)
        return self.input_ended

    def _close_raw(self, keep_session: bool = False) -> None:
        if not keep_session:
            self._callables.clear()
        session, self.raw = self.raw, None
        if session is None:
            return
        try:
            self.coordinator.request_stop()
            self.coordinator.join(stop_grace_period_secs=_JOIN_SECONDS, ignore_live_threads=True)
        except PEER_LOST as error:
            log.warning("Lost a connection to another task while closing a session. %s", _first_line(error))
        finally:
            if not keep_session:
                close_quietly(session)


def _first_line(error: BaseException) -> str:
    return f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"


def _merge_request(
    request: Any, hook: Any, wanted: dict[Any, Any], feeds: dict[Any, Any], options: Any
) -> None:
    """Adds what one hook asks of a run to the run."""
    if request.fetches is not None:
        wanted[hook] = request.fetches
    for tensor, value in (request.feed_dict or {}).items():
        if any(tensor is fed for fed in feeds):
            raise InvalidArgument(
                f"{type(hook).__name__} feeds {tensor}, which another hook feeds in the same run."
            )
        feeds[tensor] = value
    if request.options is not None:
        _merge_options(request.options, options)


def _merge_options(incoming: Any, options: Any) -> None:
    """Takes the larger of both numbers, and either of both flags."""
    options.trace_level = max(options.trace_level, incoming.trace_level)
    options.timeout_in_ms = max(options.timeout_in_ms, incoming.timeout_in_ms)
    options.inter_op_thread_pool = max(options.inter_op_thread_pool, incoming.inter_op_thread_pool)
    options.output_partition_graphs |= incoming.output_partition_graphs
    options.report_tensor_allocations_upon_oom |= incoming.report_tensor_allocations_upon_oom
    options.debug_options.debug_tensor_watch_opts.extend(incoming.debug_options.debug_tensor_watch_opts)
    options.debug_options.reset_disk_byte_usage |= incoming.debug_options.reset_disk_byte_usage
