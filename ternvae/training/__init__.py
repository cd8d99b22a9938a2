"""The parts of a training run, each small and testable alone; ``ternvae.trainer`` joins them."""
