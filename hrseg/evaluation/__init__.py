"""Evaluation of a model over data: scores, report, submission to benchmark servers, published results."""
