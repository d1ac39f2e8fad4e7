"""Inference servers: what each kind is asked, what it answers, and how requests survive faults."""
