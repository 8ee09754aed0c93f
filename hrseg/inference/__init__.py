"""From an image to its labels: the one path that validation, test and predict share."""
