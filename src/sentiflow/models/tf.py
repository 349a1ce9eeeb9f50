"""Keras, imported without TensorFlow's start-up chatter.

Everything of ours that needs Keras takes it from here. Loading TensorFlow is the one thing that happens at import.
"""

from sentiflow.system import tensorflow_log

with tensorflow_log.chatter_dropped():
    import keras
    import tensorflow as tf
    from keras import layers, ops

    tf.config.list_physical_devices()  # looks for a GPU now, or TensorFlow complains that there is none at its first use

__all__ = ["keras", "layers", "ops", "tf"]
