"""Train one architecture and keep its best epoch.

from  tokens    train and valid, as ragged word ids
to    model     configuration and weights of the epoch with the best valid score
      history   every metric of every epoch
"""

from pathlib import Path

from sentiflow import architectures, params, stage, vocabulary


def main(architecture: str, tokens_dir: Path, model_dir: Path, history_file: Path, backups_dir: Path) -> None:
    p = params.load()
    settings = p.architectures[architecture]
    data = vocabulary.read_training_data(tokens_dir, settings.view)
    stage.log.info("read %s train and %s valid reviews from %s", f"{len(data.train):,}", f"{len(data.valid):,}", tokens_dir)

    with stage.writing(model_dir, history_file) as (model_place, history_place):
        if isinstance(settings, params.SequenceReader):
            from sentiflow import training  # here, because a linear model need not wait for TensorFlow

            classifier, history = training.fit(architecture, settings, data, how=p.train, seed=p.seed, backups=backups_dir)
        else:
            classifier, history = architectures.module(architecture).fit(settings, data)
        model_place.mkdir()
        classifier.save(model_place)
        history.to_csv(history_place, index=False)
    stage.log.info("wrote the model to %s and its history to %s", model_dir, history_file)


if __name__ == "__main__":
    stage.run(main)
