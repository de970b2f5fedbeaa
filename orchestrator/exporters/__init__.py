"""When train_and_evaluate exports a model: after the best, the latest or the last evaluation."""
