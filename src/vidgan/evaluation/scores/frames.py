"""Measures of predicted frames against the true ones; `vidgan predict` computes them."""

from vidgan.evaluation.metric import Metric

PSNR = Metric(key="psnr", title="PSNR (dB)", needs="pairs", better="higher")
SSIM = Metric(key="ssim", title="SSIM", needs="pairs", better="higher")
LPIPS = Metric(key="lpips", title="LPIPS", needs="pairs", better="lower")
