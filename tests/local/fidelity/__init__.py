"""Tests of the AWS behaviours that `local.fidelity` restores."""
