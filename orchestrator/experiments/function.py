"""MODULE:FUNCTION: found, checked against its parameters, and called."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.errors import ExperimentError, OrchestratorError, near_miss
from orchestrator.estimator.run_config import RunConfig
from orchestrator.experiments.experiment import Experiment


class ExperimentRaised(ExperimentError):
    """The user's own code raised while the experiment was imported, built or prepared.

    `__cause__` is what it raised.
    """


PREPARE = "prepare_data"
"""Name of the function beside an experiment that prepares its data."""


@dataclass(frozen=True)
class ExperimentFunction:
    """An experiment function, and the module it stands in."""

    name: str
    """MODULE:FUNCTION, as the user wrote it."""
    module: types.ModuleType
    function: Callable[..., Any]

    @staticmethod
    def find(name: str, working_dir: Path) -> ExperimentFunction:
        """Imports the module, looking in `working_dir` first, and finds the function.

        Raises ExperimentError when it is not there, and ExperimentRaised when the module's own code fails.
        """
        module_name, colon, function_name = name.partition(":")
        if not colon or not module_name or not function_name:
            raise ExperimentError(
                f"experiment '{name}' must be written MODULE:FUNCTION, as in digits:experiment."
            )
        module = _import(name, module_name, working_dir)
        function = getattr(module, function_name, None)
        if function is None:
            known = [key for key, value in vars(module).items() if inspect.isfunction(value)]
            raise ExperimentError(
                f"experiment '{name}': {module.__file__} has no function '{function_name}'."
                + near_miss(function_name, known)
            )
        if not callable(function):
            raise ExperimentError(
                f"experiment '{name}': '{function_name}' in {module.__file__} is not a function "
                f"but {type(function).__name__}."
            )
        return ExperimentFunction(name, module, function)

    def build(self, config: RunConfig, params: Mapping[str, Any]) -> Experiment:
        """Calls the function as `f(config, **params)` and checks what it returns.

        Raises ExperimentError for parameters that do not fit and for a wrong result,
        ExperimentRaised when the function itself raises.
        """
        fitting = self._checked(params)
        try:
            result = self.function(config, **fitting)
        except OrchestratorError:
            raise
        except Exception as error:
            raise ExperimentRaised(f"{self.name} raised {_summary(error)}") from error
        if not isinstance(result, Experiment):
            raise ExperimentError(
                f"{self.name} must return orchestrator.Experiment(estimator, train_spec, eval_spec), "
                f"not {_kind(result)}."
            )
        if result.estimator.model_dir != config.model_dir:
            raise ExperimentError(
                f"{self.name} made an estimator that writes to {result.estimator.model_dir}, but this job's "
                f"model directory is {config.model_dir}; write Estimator(model_fn, config=config), with the "
                "config that the function is given, and choose another directory with --model-dir."
            )
        return result

    def prepare(self, data_dir: str | None, params: Mapping[str, Any]) -> None:
        """Calls `prepare_data(data_dir, **params)` beside the experiment, where there is one.

        It is given those parameters of the experiment that it declares. Raises ExperimentRaised
        when it raises.
        """
        function = getattr(self.module, PREPARE, None)
        if function is None:
            return
        declared = inspect.signature(function).parameters
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in declared.values())
        try:
            function(
                data_dir, **{k: v for k, v in self._checked(params).items() if takes_all or k in declared}
            )
        except OrchestratorError:
            raise
        except Exception as error:
            raise ExperimentRaised(f"{PREPARE} of {self.module.__name__} raised {_summary(error)}") from error

    def _checked(self, params: Mapping[str, Any]) -> dict[str, Any]:
        signature = inspect.signature(self.function)
        declared = list(signature.parameters.values())
        positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if not declared or declared[0].kind not in (*positional, inspect.Parameter.VAR_POSITIONAL):
            raise ExperimentError(
                f"{self.name} must take the RunConfig as its first argument: f(config, **params)."
            )
        named = {p.name: p for p in declared[1:] if p.kind not in _VARIADIC}
        takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in declared)
        for name in params:
            if name not in named and not takes_all:
                listed = ", ".join(named) or "none"
                raise ExperimentError(
                    f"params.{name}: {self.name} has no parameter '{name}'.{near_miss(name, named)} "
                    f"It has: {listed}."
                )
        missing = [p.name for p in named.values() if p.default is p.empty and p.name not in params]
        if missing:
            raise ExperimentError(
                f"{self.name} needs {', '.join(f'params.{name}' for name in missing)}; set it under "
                f"'params:' of the cluster file or with --set params.{missing[0]}=VALUE."
            )
        types_of = _annotations(self.function)
        return {name: _converted(f"params.{name}", v, types_of.get(name)) for name, v in params.items()}


_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def _import(name: str, module_name: str, working_dir: Path) -> types.ModuleType:
    if str(working_dir) not in sys.path[:1]:
        sys.path.insert(0, str(working_dir))
    try:
        return importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise ExperimentRaised(f"importing {module_name} raised {_summary(error)}") from error
        beside = [path.stem for path in working_dir.glob("*.py")]
        raise ExperimentError(
            f"experiment '{name}': no module '{module_name}' is installed, and none is in {working_dir}."
            + near_miss(module_name, beside)
        ) from None
    except OrchestratorError:
        raise
    except Exception as error:
        raise ExperimentRaised(f"importing {module_name} raised {_summary(error)}") from error


def _annotations(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except Exception:  # an annotation that cannot be evaluated says nothing
        return {}


def _converted(key: str, value: Any, declared: Any) -> Any:
    """The value, checked where the function declares a plain number, text or truth value."""
    if declared not in (int, float, str, bool) or type(value) is declared:
        return value
    if declared is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if declared is float and isinstance(value, str):  # YAML reads 1e-3, without a dot, as text
        try:
            return float(value)
        except ValueError:
            pass
    raise ExperimentError(f"{key} is {value!r}; it must be {_WORDS[declared]}.")


_WORDS = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}


def _kind(value: Any) -> str:
    return "None (is a return statement missing?)" if value is None else type(value).__name__


def _summary(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
