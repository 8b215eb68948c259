"""Clips out of films: aligned faces, stabilised squares. Training never imports it."""
