"""Chromium, for the tests of pages."""

from live_page import browser

__all__ = ["browser"]
