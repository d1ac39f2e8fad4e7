"""The parts of `benchmarks.gpu`: what each measures, on one model in memory."""
