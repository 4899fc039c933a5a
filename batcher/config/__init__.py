"""The settings of batcher.toml and of the environment."""
