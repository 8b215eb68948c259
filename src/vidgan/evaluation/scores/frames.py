"""Measures of predicted frames against the true ones; `vidgan predict` computes them."""

import math

from vidgan.evaluation.metric import Metric

PSNR = Metric(key="psnr", title="PSNR (dB)", needs="pairs", better="higher", bounds=(0.0, math.inf))
SSIM = Metric(key="ssim", title="SSIM", needs="pairs", better="higher", bounds=(-1.0, 1.0))
LPIPS = Metric(key="lpips", title="LPIPS", needs="pairs", better="lower", bounds=(0.0, math.inf))
