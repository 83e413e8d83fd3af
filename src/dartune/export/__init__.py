"""Tuned models for the Hugging Face Hub, and the lineage of pairs. May import everything but cli."""
