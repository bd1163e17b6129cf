"""Side-by-side measurements, each against a named peer in the same run; results are ratios."""
