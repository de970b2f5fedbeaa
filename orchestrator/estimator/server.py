"""The TensorFlow server of this process: one as long as the process lives."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import tensorflow as tf

from orchestrator.errors import ConfigError
from orchestrator.estimator import device_options
from orchestrator.estimator.logger import log
from orchestrator.estimator.stop_request import StopRequest
from orchestrator.estimator.strategies import crosses_processes

v1 = tf.compat.v1
_started: dict[tuple[Any, ...], Any] = {}


def start_server(config: Any, session_config: Any = None) -> Any:
    """Starts the server of this task, or returns the one that runs already.

    Returns None for the only trainer of a cluster of one, which needs none.
    Raises ConfigError where the RunConfig names no cluster or no task.
    """
    if not config.cluster_spec or not config.task_type or config.task_id is None:
        raise ConfigError(
            "Could not start server; be sure to specify cluster_spec, task_type, and task in RunConfig or set"
            " the TF_CONFIG environment variable."
        )
    jobs = config.cluster_spec.jobs
    if not config.master and session_config is None:
        if len(jobs) == 1 and config.cluster_spec.num_tasks(jobs[0]) == 1 and config.task_type != "ps":
            log.info("No server is started, as there is only one node in the cluster.")
            return None
        raise ConfigError(
            "Could not start server; be sure to specify master in RunConfig or set the TF_CONFIG environment"
            " variable."
        )
    key = (repr(sorted(config.cluster_spec.as_dict().items())), config.task_type, config.task_id)
    if key not in _started:
        _started[key] = v1.train.Server(
            config.cluster_spec,
            job_name=config.task_type,
            task_index=config.task_id,
            config=session_config or _server_config(config),
            protocol=config.protocol,
            start=True,
        )
    return _started[key]


def _server_config(config: Any) -> v1.ConfigProto:
    """GPU options are fixed by the first session of a process, which is the server's."""
    proto = v1.ConfigProto()
    if config.session_config is not None:
        proto.gpu_options.CopyFrom(config.session_config.gpu_options)
    device_options.prepare_gpus(proto.gpu_options, config)
    return proto


def session_master(config: Any, strategy: Any, session_config: v1.ConfigProto) -> str:
    """The target of this task's sessions; tasks that step together get their server here."""
    if not crosses_processes(strategy):
        return config.master
    if getattr(strategy.extended, "_std_server_started", False):
        # A strategy made outside of a graph has started a server of its own on this task's address.
        return f"grpc://{config.cluster_spec.task_address(config.task_type, config.task_id)}"
    return start_server(config, session_config).target


def serve(waits: Sequence[Callable[[], None]], stop: StopRequest) -> bool:
    """Serves until one of `waits` returns or somebody asks to stop; returns whether somebody did.

    Waiting in the main thread would keep Python's signal handlers from running.
    """
    over = threading.Event()
    for wait in waits:
        threading.Thread(target=_then_set, args=(wait, over), name="server-wait", daemon=True).start()
    while not stop.is_set() and not over.wait(0.2):
        continue
    return stop.is_set()


def _then_set(wait: Callable[[], None], over: threading.Event) -> None:
    wait()
    over.set()
