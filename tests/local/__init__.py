"""Tests of the local organisation."""
