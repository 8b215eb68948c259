"""The cost of a training run on one device."""

import time

import torch

from vidgan.core.distributed import Processes
from vidgan.core.progress import Notify
from vidgan.training.budget import measure_seconds
from vidgan.training.gradient_check import GradientCheck
from vidgan.training.loop import build_step, open_clips
from vidgan.training.planner import plan_schedule
from vidgan.training.presets import Config


def predict_seconds(config: Config, notify: Notify) -> float:
    """Device-seconds that a training will take, judged by a few steps at each level.

    On a CPU they are seconds of all cores together.
    """
    dataset = open_clips(config, notify)
    schedule = plan_schedule(config, dataset.full_shape)
    device = config.training.device
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    clock = time.monotonic if cuda else time.process_time
    threads = torch.get_num_threads()
    torch.set_num_threads(config.training.threads or threads)
    try:
        place = torch.device("cuda" if cuda else "cpu")
        processes = Processes(device=place)
        step = build_step(config, dataset, schedule, processes)
        check = GradientCheck(config, dataset, processes, lambda sentence: None)
        return measure_seconds(step, schedule, dataset, check.prepare, clock)
    finally:
        torch.set_num_threads(threads)
