"""The six-step recipe on a data set of one's own: `python -m experiments.practice`."""
