"""One module for each published claim; `python -m experiments` lists them."""
