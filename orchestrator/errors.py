"""Every error that orchestrator raises on purpose.

    OrchestratorError                 exit code 1
    ├── ConfigError                   exit code 2: a file, option or argument is wrong
    │   ├── ClusterConfigError        a cluster file: names file, key path, value and fix
    │   ├── TFConfigError             a TF_CONFIG that TensorFlow would misread
    │   ├── ExperimentError           MODULE:FUNCTION cannot be found, called or used
    │   └── WarmStartError            a warm start that cannot be planned as it was asked for
    ├── EnvironmentProblem            exit code 3: the machine lacks what the job needs
    │   ├── PortError                 an address cannot be held
    │   ├── RunDirectoryError         a run directory cannot be made, read or written
    │   ├── StartError                a task or its parent process cannot be started
    │   └── HostsAway                 hosts that an attempt needs cannot be reached at present
    ├── JobFailed                     exit code 1: the tasks ran and the job failed
    ├── WaitTimeout                   exit code 1: says what was waited for, and how long
    ├── Abandoned                     exit code 1: a wait was given up, since the run is to end
    ├── CheckpointError               exit code 2: unreadable, truncated or foreign checkpoint
    └── EstimatorError                exit code 1: wrong use of the Estimator API
        ├── InvalidArgument           (also a ValueError)
        ├── InvalidType               (also a TypeError)
        ├── MissingKey                (also a KeyError) a dict lacks what a model asks for
        ├── NotTrained                (also a ValueError) no checkpoint to work with
        └── Unsupported               (also an AttributeError) a name or mode left out on purpose

The two exit codes of a stopped launcher, 130 (SIGINT) and 143 (SIGTERM), are
no errors and stand in `orchestrator.launch.completion`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class OrchestratorError(Exception):
    """Root of the tree; its text is complete and fit to be shown to a user."""

    exit_code = 1


class ConfigError(OrchestratorError):
    """A file, an option or an argument is wrong."""

    exit_code = 2


class ClusterConfigError(ConfigError):
    """A cluster file is wrong: the text names file, key path, value and fix."""


class TFConfigError(ConfigError, ValueError):
    """A TF_CONFIG that TensorFlow would misread or refuse."""


class ExperimentError(ConfigError):
    """MODULE:FUNCTION cannot be found, called or used as an experiment."""


class WarmStartError(ConfigError):
    """A warm start cannot be planned as asked: no such checkpoint, patterns that fit nothing, two sources."""


class EnvironmentProblem(OrchestratorError):
    """The machine lacks what the job needs."""

    exit_code = 3


class PortError(EnvironmentProblem):
    """An address cannot be held for a task."""


class RunDirectoryError(EnvironmentProblem):
    """A run directory cannot be made, read or written."""


class StartError(EnvironmentProblem):
    """A task, or the process that starts tasks, cannot be started."""


class HostsAway(EnvironmentProblem):
    """Hosts that another attempt needs cannot be reached at present, and may come back.

    `patience` is how many seconds they may be waited for, `option` what sets it.
    """

    def __init__(self, text: str, patience: float, option: str) -> None:
        super().__init__(text)
        self.patience = patience
        self.option = option


class JobFailed(OrchestratorError):
    """The tasks ran and the job failed; the text is the verdict."""


class WaitTimeout(OrchestratorError, TimeoutError):
    """A wait reached its limit; the text says what was waited for and how long."""


class Abandoned(OrchestratorError):
    """A wait was given up because somebody asked for the end of the run."""


class CheckpointError(OrchestratorError):
    """A checkpoint is unreadable, truncated or not what was asked for."""

    exit_code = 2


class EstimatorError(OrchestratorError):
    """Wrong use of the Estimator API; the text names the function at fault."""


class InvalidArgument(EstimatorError, ValueError):
    """An argument or a returned value has the right type and a wrong value."""


class InvalidType(EstimatorError, TypeError):
    """An argument or a returned value has the wrong type."""


class MissingKey(EstimatorError, KeyError):
    """A dict of features, labels or outputs lacks keys that the model asks for."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""  # KeyError would show its repr


class NotTrained(EstimatorError, ValueError):
    """There is no checkpoint to evaluate, predict with or export."""


class Unsupported(EstimatorError, AttributeError):
    """A name or mode of the original API that is left out on purpose."""


def near_miss(name: str, known: Iterable[str]) -> str:
    """' Did you mean X?' when one of `known` is close to `name`, else ''."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f" Did you mean '{close[0]}'?" if close else ""
