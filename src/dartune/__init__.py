"""Fine-tune language models to design algorithms."""
