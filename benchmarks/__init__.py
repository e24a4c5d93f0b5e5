"""Every operation against plain PyTorch, run by hand on a quiet machine; never a timed test."""
