"""A small digit classifier in plain TensorFlow, shared by the programs in this directory."""

import tensorflow as tf
from sklearn.datasets import load_digits

TEST_EXAMPLES = 360


class DigitModel(tf.Module):
    """A hidden layer of 64; calls map images, float32 (batch, 64), to logits, float32 (batch, 10)."""

    def __init__(self):
        super().__init__()
        initial = tf.random_normal_initializer(stddev=0.1, seed=1)
        self.hidden = tf.Variable(initial((64, 64)), name="hidden")
        self.hidden_bias = tf.Variable(tf.zeros(64), name="hidden_bias")
        self.out = tf.Variable(initial((64, 10)), name="out")
        self.out_bias = tf.Variable(tf.zeros(10), name="out_bias")

    def __call__(self, images):
        hidden = tf.nn.relu(images @ self.hidden + self.hidden_bias)
        return hidden @ self.out + self.out_bias


def digits():
    """Training and test pairs of images, float32 (n, 64), and labels, int64 (n,)."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16.0).astype("float32"), labels.astype("int64")
    return (images[:-TEST_EXAMPLES], labels[:-TEST_EXAMPLES]), (
        images[-TEST_EXAMPLES:],
        labels[-TEST_EXAMPLES:],
    )


def training_dataset(batch_size, input_context=None):
    """Endless shuffled batches of this task's part of the training data."""
    dataset = tf.data.Dataset.from_tensor_slices(digits()[0])
    if input_context is not None:
        dataset = dataset.shard(input_context.num_input_pipelines, input_context.input_pipeline_id)
        batch_size = input_context.get_per_replica_batch_size(batch_size)
    return dataset.shuffle(2000, seed=1).repeat().batch(batch_size).prefetch(2)


def losses(model, images, labels):
    """Cross entropy of each example, float32 (batch,)."""
    return tf.nn.sparse_softmax_cross_entropy_with_logits(labels, model(images))


def update(variables, gradients, learning_rate=0.5):
    """One step of gradient descent."""
    for variable, gradient in zip(variables, gradients, strict=True):
        variable.assign_sub(learning_rate * gradient)


def measured_accuracy(model):
    """Share of the test images that the model gets right."""
    images, labels = digits()[1]
    right = tf.argmax(model(tf.constant(images)), axis=-1) == labels
    return float(tf.reduce_mean(tf.cast(right, tf.float32)))
