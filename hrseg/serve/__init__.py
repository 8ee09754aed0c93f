"""A server with a page: images in by HTTP, masks, overlays and numbers out.

One thread owns the network and works through a queue; everything that waits is bounded, and whoever does not fit
is told when to come again. One image's way: `gate` (admission), `body` (bytes), `pictures` (pixels), `queue`
(its turn), `work` (the network), `answers` (what is sent).
"""
