"""Models from their configs: explicit forward passes, and backward passes that are the forward read upwards."""
