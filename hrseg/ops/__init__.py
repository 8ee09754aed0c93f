"""Ideas that need a second, faster form: each stands here once in plain PyTorch and once fused or cut into blocks.

Nothing here knows networks, labels or trainers: maps and weights come in, maps come out. The plain form is the
reference, and each other form is tested equal to it.
"""
