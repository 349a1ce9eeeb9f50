"""Train one model and keep its best epoch.

from  tokens    train and valid, as ragged word ids
to    model     configuration and weights of the epoch with the best valid score, its temperature; what it was trained on
      history   every metric of every epoch
      cache     what a killed training needs to go on; how long each epoch took and how busy the machine was
"""

import dataclasses
import json
import time
from pathlib import Path
from typing import Any

from sentiflow.config import params
from sentiflow.config.model_settings import NeuralSettings
from sentiflow.data import vocabulary
from sentiflow.evaluation import calibration
from sentiflow.models import networks, settings, training_record
from sentiflow.models.model_config import ModelConfig
from sentiflow.system import environment, stage, system_metrics, threads


def main(model: str, network: str, tokens_dir: Path, model_dir: Path, history_file: Path, cache_dir: Path) -> None:
    p = params.load()
    threads.limit(p.train.threads)
    chosen = settings.of(p, model, network)
    data = vocabulary.read_training_data(tokens_dir, chosen.view)
    vocabulary.require_words(data, chosen.view, model)
    config: ModelConfig[Any] = ModelConfig(model, network, chosen, data.classes)
    stage.log.info("read %s train and %s valid reviews from %s", f"{len(data.train):,}", f"{len(data.valid):,}", tokens_dir)

    with stage.writing(model_dir, history_file) as (model_place, history_place), system_metrics.watching() as system:
        if isinstance(chosen, NeuralSettings):
            from sentiflow.models import training  # here, because a linear model need not wait for TensorFlow

            training.use_threads(p.train.threads)
            seed = p.seed if p.train.seed is None else p.train.seed
            fitted = training.fit(config, data, options=p.train, seed=seed, backups=cache_dir)
            classifier, history, seconds = fitted
            gpus = training.gpus()
        else:
            started = time.monotonic()
            classifier, history = networks.module(network).fit(config, data, options=p.train)
            seconds, gpus = [time.monotonic() - started], []
        temperature = calibration.fit(data.valid.labels, classifier.probabilities(data.valid.ids))
        classifier = dataclasses.replace(classifier, config=dataclasses.replace(config, temperature=temperature))
        model_place.mkdir()
        classifier.save(model_place)
        trained_on = json.dumps(environment.describe(gpus=gpus, threads=p.train.threads), indent=2, sort_keys=True) + "\n"
        (model_place / "environment.json").write_text(trained_on, encoding="utf-8")
        history.to_csv(history_place, index=False)
        training_record.write(cache_dir / "records", model_place, training_record.Record(seconds, system))
    stage.log.info("wrote the model to %s and its history to %s", model_dir, history_file)


if __name__ == "__main__":
    stage.run(main)
