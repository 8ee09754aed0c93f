"""HTTP server with a page: images in, masks, overlays and numbers out.

One thread owns the network and works through a bounded queue; a full server answers 429 with `Retry-After`. A request
passes `middleware` (admission), `requests` (body, pixels), `batching` (queue, network) and `responses`.
"""
