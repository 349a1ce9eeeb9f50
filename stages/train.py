"""Train one model and keep its best epoch.

from  tokens    train and valid as ragged word ids
to    model     configuration, temperature and weights of the epoch with the best valid score; training environment
      history   metrics by epoch
      cache     backups to resume a killed training; duration of each epoch and load of the machine
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

from sentiflow.config import params
from sentiflow.config.model_settings import NeuralSettings
from sentiflow.data import vocabulary
from sentiflow.evaluation import calibration
from sentiflow.models import networks, settings, training_record
from sentiflow.models.model_config import ModelConfig
from sentiflow.system import artifacts, environment, stage, system_metrics, threads


def main(model: str, network: str, tokens_dir: Path, model_dir: Path, history_file: Path, cache_dir: Path) -> None:
    p = params.load()
    threads.limit(p.train.threads)
    chosen = settings.of(p, model, network)
    data = vocabulary.read_training_data(tokens_dir, chosen.view)
    vocabulary.require_words(data, chosen.view, model)
    config: ModelConfig[Any] = ModelConfig(model, network, chosen, data.classes)
    stage.log.info("read %s train and %s valid reviews from %s", f"{len(data.train):,}", f"{len(data.valid):,}", tokens_dir)

    with stage.writing(model_dir, history_file) as (folder, history_csv), system_metrics.watching() as system:
        if isinstance(chosen, NeuralSettings):
            from sentiflow.models import training  # here, because linear models do not need TensorFlow

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
        folder.mkdir()
        classifier.save(folder)
        artifacts.write_json(folder / "environment.json", environment.describe(gpus=gpus, threads=p.train.threads))
        history.to_csv(history_csv, index=False)
        training_record.write(cache_dir / "records", folder, training_record.Record(seconds, system))
    stage.log.info("wrote the model to %s and its history to %s", model_dir, history_file)


if __name__ == "__main__":
    stage.run(main)
