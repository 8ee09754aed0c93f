"""The servers of tests/serve, ended with this package."""

from tests.serve.conftest import predictor, start

__all__ = ["predictor", "start"]
