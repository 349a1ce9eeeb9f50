"""What recurrent_dropout costs: seconds a training step of lstm_tuned with it, as shipped, against without it, in one run.

python benchmarks/recurrent_dropout.py
"""

import time

import numpy as np

from sentiflow.config import params
from sentiflow.models.networks import lstm_tuned
from sentiflow.models.tf import keras

ROUNDS, STEPS = 12, 8  # the two take turns, so that what else runs on the machine meets both


def compiled(recurrent_dropout: float) -> keras.Model:
    settings = params.load().architectures.lstm_tuned
    model = lstm_tuned.build(
        vocabulary_size=settings.vocabulary_size,
        length=settings.length,
        embedding=settings.embedding,
        mask_zero=settings.mask_zero,
        spatial_dropout=settings.spatial_dropout,
        units=settings.units,
        dropout=settings.dropout,
        recurrent_dropout=recurrent_dropout,
        classes=2,
    )
    model.compile(optimizer="adam", loss="binary_crossentropy")
    return model


def main() -> None:
    settings = params.load().architectures.lstm_tuned
    draw = np.random.default_rng(1)
    ids = draw.integers(1, settings.vocabulary_size, (settings.batch, settings.length)).astype("int32")
    labels = draw.integers(0, 2, settings.batch)
    models = {value: compiled(value) for value in (settings.recurrent_dropout, 0.0)}
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
    print(
        f"a step with recurrent_dropout {settings.recurrent_dropout}: {1000 * with_it:.0f} ms, without: {1000 * without:.0f} ms"
    )
    print(f"ratio {with_it / without:.2f}")


if __name__ == "__main__":
    main()
