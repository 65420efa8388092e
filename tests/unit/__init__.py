"""Tests of the pure core and of the loop, with fakes for every port."""
