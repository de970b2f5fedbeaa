"""Mixed precision, XLA and memory growth on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.gpu.programs import needs_gpu, run_program

pytestmark = [*needs_gpu, pytest.mark.timeout(600)]


def test_products_are_computed_in_float16_and_the_model_still_learns(tmp_path: Path) -> None:
    answer = run_program(
        tmp_path,
        """
        gpus(1)
        details = tf.config.experimental.get_device_details(tf.config.get_visible_devices("GPU")[0])
        needs(details.get("compute_capability", (0, 0)) >= (7, 0), "float16 needs compute capability 7.0")
        config = RunConfig(mixed_precision=True)
        proto = strategies.session_config_for(config, None)
        effective = device_options.rewrites_to("float16", device_options._rewriting_alone(proto))
        estimator = trained("half", mixed_precision=True)
        estimator.train(half_batches, max_steps=200)
        answer(
            effective=effective,
            mae=float(estimator.evaluate(linear_model.evaluation_input)["mae"]),
            names=sorted(estimator.get_variable_names()),
        )
        """,
    )
    assert answer["effective"]
    assert answer["mae"] < 0.1
    assert answer["names"] == ["global_step", "kernel"]


def test_float16_on_two_gpus_scales_losses(tmp_path: Path) -> None:
    answer = run_program(
        tmp_path,
        """
        gpus(2)
        scales = []

        class Look(v1.train.SessionRunHook):
            def after_run(self, run_context, run_values):
                scale = next(v for v in v1.local_variables() if v.op.name == "loss_scale")
                scales.append(float(run_context.session.run(scale)))

        strategy = strategies.make_strategy("mirrored")
        config = RunConfig(train_distribute=strategy, mixed_precision="float16")
        estimator = Estimator(linear_model.model_fn, PLACE / "model", config, params={})
        estimator.train(half_batches, steps=60, hooks=[Look()])
        step = int(estimator.get_variable_value("global_step"))
        answer(scales=scales, step=step, weights=kernel(estimator))
        """,
    )
    assert answer["step"] == 60
    assert all(scale >= 1.0 for scale in answer["scales"])
    assert answer["weights"] == pytest.approx([1.0, -2.0, 3.0, 0.5], abs=0.3)


def test_xla_compiles_on_a_gpu(tmp_path: Path) -> None:
    answer = run_program(
        tmp_path,
        """
        gpus(1)
        estimators = [trained("plain"), trained("compiled", xla=True)]
        answer(plain=kernel(estimators[0]), compiled=kernel(estimators[1]))
        """,
    )
    assert answer["compiled"] == pytest.approx(answer["plain"], abs=1e-4)


GROWTH = """
import subprocess
gpus(1)
try:
    seen = subprocess.run(
        ["nvidia-smi", "--query-gpu=memory.used,memory.total", "--format=csv,noheader,nounits"],
        capture_output=True, text=True, check=True,
    )
except (OSError, subprocess.CalledProcessError) as error:
    needs(False, f"nvidia-smi tells nothing about memory: {error}")

def used():
    text = subprocess.run(seen.args, capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return [int(part) for part in text.split(",")]

before, total = used()
needs(before < total / 10, f"{before} of {total} MiB of the card are in use by others")
shares = []

class Look(v1.train.SessionRunHook):
    def after_run(self, run_context, run_values):
        shares.append((used()[0] - before) / total)

estimator = Estimator(linear_model.model_fn, PLACE / "model", RunConfig(memory_growth=GROWS), params={})
estimator.train(half_batches, steps=3, hooks=[Look()])
answer(share=max(shares))
"""


def test_memory_grows_as_needed_or_is_taken_at_once(tmp_path: Path) -> None:
    grown = run_program(tmp_path, GROWTH.replace("GROWS", "True"))
    taken = run_program(tmp_path, GROWTH.replace("GROWS", "False").replace('"model"', '"other"'))
    assert grown["share"] < 0.5 < taken["share"]


def test_memory_growth_holds_for_eager_operations_too(tmp_path: Path) -> None:
    answer = run_program(
        tmp_path,
        """
        gpus(1)
        trained("model", memory_growth=True)
        growth = tf.config.experimental.get_memory_growth(tf.config.get_visible_devices("GPU")[0])
        answer(growth=growth, total=float(tf.reduce_sum(tf.ones([8, 8]))))
        """,
    )
    assert answer == {"growth": True, "total": 64.0}
