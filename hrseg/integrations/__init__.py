"""Results in the forms of other people's programs: a GIS plugin, an inference protocol, a browser."""
