"""Conversion of annotation tools' exports into the folder layout, and of masks back into their files.

One module per format reads an export; `formats` lists and recognizes them, `convert` paints and writes the masks, and
`writers` writes masks for correction in a tool.
"""
