"""Speed and memory of any model on this machine, alone or against another one.

`timing` takes times and memory, `models` opens what is timed and runs it, `results` reduces and prints what was found.
"""
