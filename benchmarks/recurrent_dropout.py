"""Time of a training step of lstm_tuned with recurrent_dropout, as in params.yaml, and without it, in one run.

python benchmarks/recurrent_dropout.py
"""

import time

import numpy as np

from sentiflow.config import params
from sentiflow.models.networks import recurrent
from sentiflow.models.networks.recurrent import Settings
from sentiflow.models.tf import keras

ROUNDS, STEPS = 12, 8  # the two alternate, so that other load affects both


def compiled(shipped: Settings, recurrent_dropout: float) -> keras.Model:
    chosen = shipped.model_copy(update={"recurrent_dropout": recurrent_dropout})
    model = recurrent.build(chosen, vocabulary_size=10_000, classes=2)
    model.compile(optimizer="adam", loss="binary_crossentropy")
    return model


def main() -> None:
    shipped = Settings.model_validate(params.load().models["lstm_tuned"])
    draw = np.random.default_rng(1)
    ids = draw.integers(1, 10_000, (shipped.batch, shipped.length)).astype("int32")
    labels = draw.integers(0, 2, shipped.batch)
    models = {value: compiled(shipped, value) for value in (shipped.recurrent_dropout, 0.0)}
    for model in models.values():
        model.train_on_batch(ids, labels)  # compiles

    seconds: dict[float, list[float]] = {value: [] for value in models}
    for _ in range(ROUNDS):
        for value, model in models.items():
            started = time.perf_counter()
            for _ in range(STEPS):
                model.train_on_batch(ids, labels)
            seconds[value].append((time.perf_counter() - started) / STEPS)
    with_it, without = (float(np.median(each)) for each in seconds.values())
    print(f"a step with recurrent_dropout {shipped.recurrent_dropout}: {1000 * with_it:.0f} ms, without: {1000 * without:.0f} ms")
    print(f"ratio {with_it / without:.2f}")


if __name__ == "__main__":
    main()
