"""Tests of the simulator, through HTTP."""
