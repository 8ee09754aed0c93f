"""Verb serve: an HTTP server with a page."""

import argparse
from typing import Any

from hrseg.cli.args import add_bits, add_device, add_model, add_verb, options_of, positive
from hrseg.cli.console import EXIT_OK, print_line
from hrseg.errors import MissingExtraError, install_command


def add(verbs: Any) -> None:
    """Add the verb to the parser."""
    verb = add_verb(verbs, "serve", _serve, json=False)
    add_model(verb)
    text = "address to listen on; 127.0.0.1 is seen from this machine only (127.0.0.1)"
    verb.add_argument("--host", default="127.0.0.1", metavar="ADDRESS", help=text)
    text = "0 takes any that is free (8000)"
    verb.add_argument("--port", type=int, default=8000, metavar="N", help=text)
    text = "file with a token that clients must send (the variable HRSEG_SERVE_TOKEN)"
    verb.add_argument("--token-file", metavar="FILE", help=text)
    more: Any = {"nargs": "+", "action": "extend", "default": []}
    text = "names in a Host header that are answered beside localhost; on other addresses, alone these"
    verb.add_argument("--allow-host", metavar="NAME", help=text, **more)
    text = "sites whose pages may use the server, such as https://example.org (none); '*' for all"
    verb.add_argument("--allow-origin", metavar="ORIGIN", help=text, **more)
    text = "be its ML backend at /label-studio; images are taken from it and from these other sites only"
    verb.add_argument("--label-studio", nargs="+", metavar=("URL", "ORIGIN"), help=text)
    text = "images held at once, waiting and in work; more get 429 and a time to retry (16)"
    verb.add_argument("--max-queue", type=positive, default=16, metavar="N", help=text)
    text = "those of one client address, so that others find a place (three quarters of all)"
    verb.add_argument("--max-per-client", type=positive, metavar="N", help=text)
    text = "height times width of an image at most (25000000)"
    verb.add_argument("--max-pixels", type=positive, default=25_000_000, metavar="N", help=text)
    text = "size of a file at most (32)"
    verb.add_argument("--max-megabytes", type=positive, default=32, metavar="N", help=text)
    text = "seconds from a request to its answer at most (60)"
    verb.add_argument("--timeout", type=float, default=60.0, metavar="S", help=text)
    text = "images of equal size that go through the network together (8)"
    verb.add_argument("--max-batch", type=positive, default=8, metavar="N", help=text)
    text = "milliseconds that the first of them waits for others (5)"
    verb.add_argument("--max-wait", type=float, default=5.0, metavar="MS", help=text)
    add_device(verb)
    add_bits(verb)
    text = "evaluation protocol, such as tta (whole)"
    verb.add_argument("--protocol", default="whole", metavar="NAME", help=text)


def _serve(arguments: argparse.Namespace) -> int:
    """Serve a model by HTTP, with a page to use it.

    The page is at the address that is printed: drop an image on it. Programs send images to POST
    /predict and get a mask, an overlay or JSON, or tensors to /v2 as KServe and Triton have them;
    /openapi.json lists all paths. After Ctrl-C or SIGTERM accepted requests are finished first.

      hrseg serve
      hrseg serve --model runs/demo --port 8080
      hrseg serve --model street.onnx --host 0.0.0.0 --token-file token.txt
      hrseg serve --label-studio http://localhost:8080
      hrseg serve --allow-host street.example.org --allow-origin https://maps.example.org
      curl -F image=@street.jpg 'http://127.0.0.1:8000/predict?output=overlay' -o overlay.png
    """
    try:
        import fastapi
        import prometheus_client
        import python_multipart
        import uvicorn
    except ImportError as error:
        raise MissingExtraError(
            f"The server needs {error.name}, which is not installed. Run: {install_command('serve')}"
        ) from error
    del fastapi, prometheus_client, python_multipart, uvicorn
    from hrseg.inference.predict_files import open_predictor
    from hrseg.integrations.open_inference import add_open_inference
    from hrseg.serve.middleware import read_token
    from hrseg.serve.requests import Limits
    from hrseg.serve.server import listen, model_name
    from hrseg.weights import DEFAULT_TAG

    limits = Limits(
        max_queue=arguments.max_queue,
        max_bytes=arguments.max_megabytes * 2**20,
        max_pixels=arguments.max_pixels,
        max_batch=arguments.max_batch,
        max_wait=arguments.max_wait / 1000,
        timeout=arguments.timeout,
        max_per_client=arguments.max_per_client,
    )
    token = read_token(arguments.token_file)
    label_studio = None
    if arguments.label_studio:
        from hrseg.integrations.label_studio import PREFIX, add_routes, read_site

        label_studio = read_site(arguments.label_studio)
    options = options_of(arguments, "device", "precision", "protocol", "bits")
    predictor = open_predictor(arguments.model, **options)
    name = model_name(arguments.model, DEFAULT_TAG)
    running = listen(
        predictor,
        model=name,
        host=arguments.host,
        port=arguments.port,
        limits=limits,
        token=token,
        allow_hosts=arguments.allow_host,
        allow_origins=arguments.allow_origin,
    )
    add_open_inference(running.app)
    if label_studio is not None:
        add_routes(running.app, label_studio)
        print_line(f"Backend URL for Label Studio: {running.url}{PREFIX}")
    print_line(f"{name} is served at {running.url}  (Ctrl-C ends it)")
    running.serve()
    return EXIT_OK
