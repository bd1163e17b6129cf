"""What an experiment leaves behind: result files, tables, plots."""

from jaxdl.report.curves import mean_and_std, running_mean, show_mean_and_std, steps_to_reach
from jaxdl.report.plots import Landscape, Panel, plot_curves, plot_landscapes, plot_paths
from jaxdl.report.results import environment, new_run_directory, write_json
from jaxdl.report.tables import markdown_table, print_table

__all__ = [
    "Landscape",
    "Panel",
    "environment",
    "markdown_table",
    "mean_and_std",
    "new_run_directory",
    "plot_curves",
    "plot_landscapes",
    "plot_paths",
    "print_table",
    "running_mean",
    "show_mean_and_std",
    "steps_to_reach",
    "write_json",
]
