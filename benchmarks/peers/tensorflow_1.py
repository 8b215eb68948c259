"""Code for TensorFlow 1 on a TensorFlow of today: float64, a processor, given random numbers.

TensorFlow 2 keeps the first version's functions under `tensorflow.compat.v1`. What the peers need
beyond it is here: convolutions of channels-first tensors, which it has for GPUs alone, and three
functions of `contrib`, which is gone.
"""

import os
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from beside import translated
from torch import Tensor

IN_FLOAT64 = {"np.float32": "np.float64", "tf.float32": "tf.float64", "'float32'": "'float64'"}
"""What their text says of numbers, and what it is made to say."""


@contextmanager
def tensorflow(draws: "deque[Tensor]") -> Iterator[types.ModuleType]:
    """A block with an empty graph and a session; gives what their code imports as `tensorflow`.

    Args:
        draws: what it is given when it asks for random numbers, in this order.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow.compat.v1 as tf

    tf.disable_v2_behavior()
    module = types.ModuleType("tensorflow")
    vars(module).update({name: getattr(tf, name) for name in dir(tf)})
    variable = tf.get_variable

    def get_variable(
        name: str, shape: Any = None, dtype: Any = tf.float64, *a: Any, **k: Any
    ) -> Any:
        # An initial value brings its shape, and axes of unknown type are numbers here.
        shape = None if shape is None else [int(size) for size in shape]
        return variable(name, shape, dtype, *a, **k)

    def given(shape: Any, *arguments: Any, **settings: Any) -> Any:
        return tf.constant(draws.popleft().numpy())

    vars(module).update(
        get_variable=get_variable,
        random_normal=given,
        random_uniform=given,
        zeros=lambda shape, dtype=tf.float64: tf.zeros(shape, dtype),
        nn=_layers(tf),
        contrib=_contrib(tf),
    )
    config = tf.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    with tf.Graph().as_default(), tf.Session(config=config).as_default():
        yield module


def in_float64(path: Path, replacements: Mapping[str, str]) -> types.ModuleType:
    """A file of theirs as a module that computes in float64."""

    def rewrite(text: str) -> str:
        for old, new in IN_FLOAT64.items():
            text = text.replace(old, new)
        return text

    return translated(path, replacements, rewrite)


def run(found: Any, fed: Mapping[Any, Any] | None = None) -> Any:
    """Values of tensors of theirs, as tensors of ours; lists and groups stay such.

    Args:
        found: a tensor or operation, or nested lists of them.
        fed: values by placeholder.
    """
    import tensorflow.compat.v1 as tf

    def as_tensor(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return [as_tensor(item) for item in value]
        return value if value is None else torch.from_numpy(np.array(value))

    return as_tensor(tf.get_default_session().run(found, fed))


def assign(variables: Mapping[Any, Tensor]) -> None:
    """Give variables of theirs values of ours."""
    for variable, value in variables.items():
        variable.load(value.detach().contiguous().numpy().reshape(variable.shape.as_list()))


def start_variables() -> None:
    """Every variable that there is gets its initial value."""
    import tensorflow.compat.v1 as tf

    tf.get_default_session().run(tf.global_variables_initializer())


def _layers(tf: Any) -> types.SimpleNamespace:
    """`tf.nn` whose convolutions and pools take channels first on a processor too."""

    def last(values: Any) -> Any:
        """Channels first to channels last, of a tensor or of the sizes of its axes."""
        if isinstance(values, list | tuple):
            return [values[0], *values[2:], values[1]]
        return tf.transpose(values, [0, *range(2, len(values.shape)), 1])

    def first(values: Any) -> Any:
        rank = len(values.shape)
        return tf.transpose(values, [0, rank - 1, *range(1, rank - 1)])

    def moved(function: Callable[..., Any]) -> Callable[..., Any]:
        def apply(*arguments: Any, **settings: Any) -> Any:
            if not settings.get("data_format", "N").startswith("NC"):
                return function(*arguments, **settings)
            x, *others = arguments
            del settings["data_format"]
            for name in ("strides", "ksize"):
                if name in settings:
                    settings[name] = last(settings[name])
            sizes = [last(other) if isinstance(other, list) else other for other in others]
            return first(function(last(x), *sizes, **settings))

        return apply

    found = types.SimpleNamespace(**{name: getattr(tf.nn, name) for name in dir(tf.nn)})
    for name in ("conv2d", "conv3d", "conv2d_transpose", "conv3d_transpose"):
        setattr(found, name, moved(getattr(tf.nn, name)))
    found.avg_pool = moved(tf.nn.avg_pool)
    found.avg_pool3d = blocks_mean(tf)
    return found


def blocks_mean(tf: Any) -> Callable[..., Any]:
    """Means over blocks of channels-first clips; TensorFlow pools no clips of float64."""

    def pool(x: Any, ksize: list[int], strides: list[int], **settings: Any) -> Any:
        if ksize != strides or ksize[:2] != [1, 1]:
            raise ValueError(f"blocks of {ksize} every {strides} are no means of a clip")
        sizes = [int(size) for size in x.shape[1:]]
        parts = [p for n, k in zip(sizes[1:], ksize[2:], strict=True) for p in (n // k, k)]
        return tf.reduce_mean(tf.reshape(x, [-1, sizes[0], *parts]), axis=[3, 5, 7])

    return pool


def _contrib(tf: Any) -> types.SimpleNamespace:
    """The functions of `tf.contrib` that are used, by their documentation of TensorFlow 1.15."""

    def centred(x: Any, axes: list[int], epsilon: float) -> Any:
        # `tf.nn.moments` stops the gradient of the mean within the variance: first derivatives are
        # right nevertheless, and second ones, as of a gradient penalty, lack a term.
        difference = x - tf.reduce_mean(x, axes, keepdims=True)
        variance = tf.reduce_mean(tf.square(difference), axes, keepdims=True)
        return difference * tf.rsqrt(variance + epsilon)

    def parameter(name: str, x: Any, value: float) -> Any:
        start = tf.constant_initializer(value)
        return tf.get_variable(name, [int(x.shape[-1])], x.dtype.base_dtype, start)

    def batch_norm(x: Any, scope: str = "BatchNorm") -> Any:
        with tf.variable_scope(scope):
            every = list(range(len(x.shape) - 1))
            return centred(x, every, 1e-3) + parameter("beta", x, 0.0)

    def layer_norm(x: Any, reuse: bool = False, scope: Any = None) -> Any:
        with tf.variable_scope(scope, reuse=reuse):
            y = centred(x, list(range(1, len(x.shape))), 1e-12)
            return y * parameter("gamma", x, 1.0) + parameter("beta", x, 0.0)

    def get_variables(scope: Any) -> list[Any]:
        return list(tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, f"{scope.name}/"))

    return types.SimpleNamespace(
        layers=types.SimpleNamespace(batch_norm=batch_norm, layer_norm=layer_norm),
        framework=types.SimpleNamespace(get_variables=get_variables),
    )
