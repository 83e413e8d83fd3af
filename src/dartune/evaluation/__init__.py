"""Base against tuned model, alone and inside searches. May import pool and what it may."""
