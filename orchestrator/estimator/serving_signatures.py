"""Signatures of an exported graph: which inputs give which outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from orchestrator.estimator.export.outputs import SERVING_DEFAULT
from orchestrator.estimator.graph_walk import ancestors
from orchestrator.estimator.logger import log

_ONLY_INPUT = "input"
_is_servable = tf.compat.v1.saved_model.signature_def_utils.is_valid_signature


def build_signatures(
    receiver_tensors: Any,
    export_outputs: Mapping[str, Any],
    alternatives: Mapping[str, Any] | None,
    serving: bool,
) -> dict[str, SignatureDef]:
    """A signature for each output, from the receiver's inputs and from each alternative group of them.

    Signatures from alternatives are named `ALTERNATIVE:OUTPUT`. An output that
    those inputs cannot compute is left out, with a log line that says why;
    with `serving`, so is one that TensorFlow Serving does not serve.
    """
    found: dict[str, SignatureDef] = {}
    for group, inputs in {None: receiver_tensors, **(alternatives or {})}.items():
        named = inputs if isinstance(inputs, dict) else {_ONLY_INPUT: inputs}
        for key, output in export_outputs.items():
            name = f"{key or 'None'}" if group is None else f"{group or 'None'}:{key or 'None'}"
            try:
                signature = output.as_signature_def(named)
                _refuse_unfed(named.values(), signature)
            except ValueError as error:
                log.info("Signature %r is left out of the export: %s", name, error)
            else:
                found[name] = signature
    if serving:
        found = {name: signature for name, signature in found.items() if _is_servable(signature)}
    if serving and SERVING_DEFAULT not in found:
        log.warning("The export has no default signature; it has %s.", sorted(found) or "none at all")
    return found


def _refuse_unfed(inputs: Iterable[Any], signature: SignatureDef) -> None:
    """Raises ValueError where an output hangs on a placeholder that is no input of the signature."""
    graph = tf.compat.v1.get_default_graph()
    fed = {component.op for tensor in inputs for component in _components(tensor)}
    for key, info in signature.outputs.items():
        if not info.name:
            continue
        for operation in ancestors([graph.get_tensor_by_name(info.name).op], fed):
            if operation.type == "Placeholder":
                raise ValueError(
                    f"output '{key}' ({info.name}) depends on placeholder '{operation.name}',"
                    " which is no input of the signature"
                )


def _components(tensor: Any) -> list[Any]:
    return tf.nest.flatten(tensor, expand_composites=True)
