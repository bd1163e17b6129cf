"""The torch part of benchmarks/streams.py, which starts it: a DataLoader with Pillow over the same files.

It needs torch and Pillow. It prints seconds, the processor time of an image, and the seconds to the first batch. Worker
processes are counted when they have ended.
"""

import math
import random
import resource
import sys
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image


class Files(torch.utils.data.Dataset):
    """The files below a folder, with torchvision's random resized crop to 224 pixels, as uint8."""

    def __init__(self, root):
        self.paths = sorted(Path(root, "train").rglob("*.jpg"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        with open(self.paths[number], "rb") as file:
            image = Image.open(file).convert("RGB")
        width, height = image.size
        for _ in range(10):
            area, ratio = width * height * random.uniform(0.08, 1), math.exp(random.uniform(-1, 1) * math.log(4 / 3))
            w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
            if w <= width and h <= height:
                left, top = random.randint(0, width - w), random.randint(0, height - h)
                break
        else:
            w = h = min(width, height)
            left, top = (width - w) // 2, (height - h) // 2
        part = image.crop((left, top, left + w, top + h)).resize((224, 224), Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(part)), 0


def processor_seconds():
    """Of this process and of its children that have ended."""
    return sum(resource.getrusage(who).ru_utime + resource.getrusage(who).ru_stime
               for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))  # fmt: skip


def main():
    """Reads as many batches as asked for."""
    root, batch, steps, workers = sys.argv[1], *map(int, sys.argv[2:])
    files = Files(root)
    start, before = time.perf_counter(), processor_seconds()
    done, first = 0, None
    while done < steps:
        loader = torch.utils.data.DataLoader(
            files, batch, shuffle=True, num_workers=workers, drop_last=True, persistent_workers=False
        )
        for _ in loader:
            first = first or time.perf_counter() - start
            done += 1
            if done == steps:
                break
        del loader
    seconds = time.perf_counter() - start
    print(seconds, (processor_seconds() - before) / (steps * batch), first)


if __name__ == "__main__":
    main()
