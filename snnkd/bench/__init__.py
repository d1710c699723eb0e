"""How fast the distillation step is here, by part and against the loop that published code runs."""
