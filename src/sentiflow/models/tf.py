"""Keras, imported without TensorFlow's start-up messages. All code that needs Keras imports it from here."""

from sentiflow.system import tensorflow_log

with tensorflow_log.chatter_dropped():
    import keras
    import tensorflow as tf
    from keras import layers, ops

    tf.config.list_physical_devices()  # detects GPUs now; at its first use TensorFlow would log that there are none

__all__ = ["keras", "layers", "ops", "tf"]
