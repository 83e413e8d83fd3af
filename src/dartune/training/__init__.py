"""The tuned model: trainers, probes, memory. May import referee, pairs and what they may; never pool."""
