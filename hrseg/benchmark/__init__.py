"""How fast, how much memory, how near the limit: any model timed on this machine, alone or against another one.

`clock` takes times, `ratios` reduces them, `ceiling` measures what the machine could do, `memory` what was held;
`subjects` makes one thing to time of any model, `measure` puts all of it together, and `rows` tell it.
"""
