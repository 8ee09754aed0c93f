"""Speed and memory of models on this machine.

`timing` measures, `models` opens and runs, `results` reduces and prints.
"""
