"""How well search finds what is looked for: ``make quality`` measures it."""
