"""For authors of tasks: a task to begin with, and the checks of `dartune task check`. May import all below export."""
