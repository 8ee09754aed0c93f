"""Training: objects of a run from its config, fit and resume, the Lightning task, callbacks, checkpoints."""
