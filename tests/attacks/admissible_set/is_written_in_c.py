# runtime, signature: a built-in function that takes anything
priority = print
