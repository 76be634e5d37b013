"""The other parts of a training: optimizers, learning-rate policies, inferers, image pipelines, model loaders."""
