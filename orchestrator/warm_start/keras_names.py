"""Names of weights in Keras files: what the layouts of Keras 1, 2 and 3 call the same thing."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from orchestrator.warm_start.tensors import Role

OLD_NAME = "old Keras name"
BY_POSITION = "Keras 3 position"

_OLD_ENDINGS = {
    "W": "kernel",
    "kernel": "kernel",
    "b": "bias",
    "bias": "bias",
    "gamma": "gamma",
    "beta": "beta",
    "running_mean": "moving_mean",
    # Keras 1 called it so, and kept the variance in it.
    "running_std": "moving_variance",
    "moving_mean": "moving_mean",
    "moving_variance": "moving_variance",
    "embeddings": "embeddings",
}
_KNOWN_ENDINGS = frozenset(
    {
        *_OLD_ENDINGS.values(),
        "depthwise_kernel",
        "pointwise_kernel",
        "recurrent_kernel",
    }
)
_GENERATED = re.compile(r"(uniform|normal|Variable|variable|param|glorot_uniform|truncated_normal)(_?\d+)?")
_STATE = re.compile(r"(.*/)?(seed_generator(_\d+)?/.*|seed_generator_state|count|total)")

_ROLES = {
    "dense": ("kernel", "bias"),
    "einsum_dense": ("kernel", "bias"),
    "conv1d": ("kernel", "bias"),
    "conv2d": ("kernel", "bias"),
    "conv3d": ("kernel", "bias"),
    "conv1d_transpose": ("kernel", "bias"),
    "conv2d_transpose": ("kernel", "bias"),
    "conv3d_transpose": ("kernel", "bias"),
    "depthwise_conv1d": ("kernel", "bias"),
    "depthwise_conv2d": ("kernel", "bias"),
    "separable_conv1d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "separable_conv2d": ("depthwise_kernel", "pointwise_kernel", "bias"),
    "embedding": ("embeddings",),
    "lstm_cell": ("kernel", "recurrent_kernel", "bias"),
    "gru_cell": ("kernel", "recurrent_kernel", "bias"),
    "simple_rnn_cell": ("kernel", "recurrent_kernel", "bias"),
    "layer_normalization": ("gamma", "beta"),
    "group_normalization": ("gamma", "beta"),
    "p_re_lu": ("alpha",),
}
_NORMALIZATION = ("gamma", "beta", "moving_mean", "moving_variance")


def of_layer(layer: str, names: Sequence[str], shapes: Sequence[tuple[int, ...]]) -> list[tuple[str, str]]:
    """(name, rule) of a layer's weights as `.h5` files list them; the rule is empty for today's names."""
    plain = [name.removesuffix(":0") for name in names]
    if all(name.rpartition("/")[2] in _KNOWN_ENDINGS and "/" in name for name in plain):
        return [(name, "") for name in plain]
    if all(_old_role(name, layer) is None for name in plain):
        return [(name, "") for name in plain]
    return [_of_old(layer, name, shape) for name, shape in zip(plain, shapes, strict=True)]


def _of_old(layer: str, name: str, shape: tuple[int, ...]) -> tuple[str, str]:
    role = _old_role(name, layer)
    if role is None and _GENERATED.fullmatch(name.rpartition("/")[2]):
        role = "kernel" if len(shape) > 1 else "bias"
    if role is None:
        return (name if name.startswith(f"{layer}/") else f"{layer}/{name}"), ""
    return f"{layer}/{role}", OLD_NAME


def _old_role(name: str, layer: str) -> str | None:
    """`conv1_W` of layer `conv1` is its kernel."""
    if not name.startswith(f"{layer}_"):
        return None
    return _OLD_ENDINGS.get(name.removeprefix(f"{layer}_"))


def without_model_scope(name: str, layer: str) -> tuple[str, ...]:
    """Keras 3 puts the model's name before the layer's in `.h5` files: the name without it, as an alias."""
    marker = f"/{layer}/"
    at = name.find(marker)
    return (name[at + 1 :],) if at > 0 and "/" not in name[:at] else ()


def role_of(name: str) -> Role:
    """Whether a Keras weight is one, or the state of a random generator or metric."""
    return Role.OTHER if _STATE.fullmatch(name) else Role.WEIGHT


def of_position(
    key: str, position: str, count: int, called: str, layers: Mapping[str, str]
) -> tuple[str, tuple[str, ...], str]:
    """(name, aliases, rule) of `layers/dense_1/vars/0`.

    Args:
      key: the path in the file.
      position: the last part of it.
      count: number of variables of the same layer.
      called: the layer's own name where the file has it, else ''.
      layers: own names of layers by their path in the file, from the archive's description; may be empty.
    """
    owner = key.rpartition("/vars/")[0]
    stored = owner.rpartition("/")[2]
    layer = called or layers.get(owner, "")
    roles = _roles(stored, count)
    if not position.isdigit() or int(position) >= len(roles):
        plain = f"{layer}/vars/{position}" if layer else key
        return (plain, (key,) if plain != key else (), BY_POSITION if layer else "")
    role = roles[int(position)]
    path = "/".join(
        part for part in owner.split("/") if part not in ("layers", "_layer_checkpoint_dependencies")
    )
    by_path = f"{path}/{role}"
    name = f"{_outer(path)}{layer}/{role}" if layer else by_path
    aliases = tuple(
        a for a in dict.fromkeys((f"{layer}/{role}", by_path, key)) if a not in (name, f"/{role}")
    )
    return name, aliases, BY_POSITION


def _outer(path: str) -> str:
    outer = path.rpartition("/")[0]
    return f"{outer}/" if outer else ""


def _roles(stored: str, count: int) -> tuple[str, ...]:
    kind = re.sub(r"_\d+$", "", stored)
    if kind == "batch_normalization":
        # Without scale or centre a layer has three variables, and which one is missing is not written down.
        return {4: _NORMALIZATION, 2: _NORMALIZATION[2:]}.get(count, ())
    return _ROLES.get(kind, ())
