"""Downloads a data set and prepares it for `jaxdl.data.load`. Only this module needs TensorFlow.

pip install "jaxdl[prepare]"
python -m jaxdl.data.prepare cifar10 --data-dir DIR
"""

import argparse
import importlib.util
import sys

from jaxdl.data.tfds_reader import NAMES


def main(arguments: list[str] | None = None) -> None:
    """Prepares the data set named on the command line, in array_record format."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxdl.data.prepare", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data-dir", help="where to put it (default: $TFDS_DATA_DIR, or ~/tensorflow_datasets)")
    options = parser.parse_args(arguments)
    if importlib.util.find_spec("tensorflow") is None:
        sys.exit('prepare: TensorFlow is not installed, and tensorflow-datasets needs it; pip install "jaxdl[prepare]"')
    import tensorflow_datasets as tfds

    builder = tfds.builder(options.name, data_dir=options.data_dir, file_format="array_record")
    builder.download_and_prepare()
    print(f"{options.name} is ready in {builder.data_path}")


if __name__ == "__main__":
    main()
