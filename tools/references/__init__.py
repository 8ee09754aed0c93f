"""The original implementations, each run by its own code on seeded weights: one file per source.

    python -m tools.references SOURCE --checkout PATH --out FOLDER

Most originals want an environment of their own, so this package imports nothing of hrseg, and each file only its
own framework. A run leaves FOLDER/SOURCE/: checkpoints in the source's own format, `logits.npz` with what the
original answered, and `about.json` with its version and the names and shapes of its tensors.
`tools.same_logits` and `tools.reference_logits` read them.
"""
