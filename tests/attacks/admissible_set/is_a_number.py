# no_program: the name is there and means 3
priority = 3
