"""Annotations of other tools into our folder layout, and masks back into files for correction.

`table` lists the readers, one file for each tool; `folder` draws what they found; `writers` goes the other way.
`polygons` and `rle` hold the rules by which outlines and run lengths become pixels.
"""
